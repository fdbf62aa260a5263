from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from typing_extensions import Buffer

from mqlog._futures import FutureRecordMetadata
from mqlog._native import Producer
from mqlog._send_result import FutureSendResult

__all__ = ["ProducerBase"]

Acks: TypeAlias = Literal["all", -1, 0, 1]
Bytes: TypeAlias = bytes | bytearray | memoryview
Headers: TypeAlias = Sequence[tuple[str, bytes | None]]

class ArrowArray(Protocol):
    def __arrow_c_array__(self, requested_schema: Any = ...) -> tuple[Any, Any]: ...

class ArrowStream(Protocol):
    def __arrow_c_stream__(self, requested_schema: Any = ...) -> Any: ...

Columns: TypeAlias = ArrowArray | ArrowStream | Buffer

class _Callbacks(Protocol):
    def join(self, timeout: float | None) -> bool: ...

class ProducerBase:
    def __init__(self, native: Producer, acks: Acks) -> None: ...
    @property
    def _callbacks(self) -> _Callbacks: ...
    def _set_prepare(self, prepare: object | None) -> None: ...
    def _check_topic(self, name: str) -> None: ...
    def _topic_number(self, name: str) -> int: ...
    def send(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        acks: Acks | None = None,
    ) -> FutureRecordMetadata: ...
    def send_many(
        self,
        topic: str,
        values: Iterable[Any],
        keys: Iterable[Any] | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers | None = None,
        acks: Acks | None = None,
    ) -> FutureSendResult: ...
    def send_columns(
        self,
        topic: str,
        columns: Columns,
        key: str | Columns | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers | None = None,
        acks: Acks | None = None,
    ) -> FutureSendResult: ...
