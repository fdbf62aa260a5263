# The engine and the codec, in Rust. Its source: rust/python.

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, TypeAlias, TypedDict, final

__version__: str
DEBUG_BUILD: bool

# -- messages (codec.rs, exchange.rs) --------------------------------------------------------------

def decode(kind: str, api_key: int, version: int, data: bytes) -> Any: ...
def encode(kind: str, api_key: int, version: int, message: object) -> bytes: ...
def encode_request(
    api_key: int, version: int, correlation_id: int, client_id: str | None, message: object
) -> bytes: ...
def decode_named(name: str, version: int, data: bytes) -> Any: ...
def encode_named(name: str, version: int, message: object) -> bytes: ...
def versions(api_key: int) -> tuple[int, int]: ...
def response_header(api_key: int, version: int, frame: bytes) -> tuple[int, int]: ...

# -- records (records.rs) --------------------------------------------------------------------------

_Record: TypeAlias = tuple[int, bytes | None, bytes | None, Sequence[tuple[str, bytes | None]]]

def build_batch(
    records: Sequence[_Record],
    codec: str = "none",
    *,
    level: int | None = None,
    base_offset: int = 0,
    leader_epoch: int = -1,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    log_append_time: int | None = None,
) -> bytes: ...
def build_control_batch(
    *,
    commit: bool,
    producer_id: int,
    producer_epoch: int,
    coordinator_epoch: int = 0,
    timestamp: int = 0,
) -> bytes: ...

# -- the engine (broker.rs, control_values.rs, image.rs) -------------------------------------------

#: A tuple that begins with its name; `mqlog.broker.control` lists them.
_Event: TypeAlias = tuple[Any, ...]
_Effect: TypeAlias = tuple[Any, ...]
#: Leader, leader epoch, replicas, in-sync replicas.
_Partition: TypeAlias = tuple[int, int, list[int], list[int]]
#: Id, name, partitions by number.
TopicFacts: TypeAlias = tuple[bytes, str, list[_Partition]]

class StartFacts(TypedDict):
    addresses: list[tuple[str, int]]
    cluster_id: str
    clean: bool
    partitions: int
    orphans: list[str]
    offline: list[tuple[str, str]]
    checked_bytes: int
    cut_bytes: int
    quarantined_ranges: int

@final
class Image:
    def topic(self, name: str) -> TopicFacts | None: ...
    def topic_by_id(self, topic_id: bytes) -> TopicFacts | None: ...
    def shape(self, name: str) -> tuple[bytes, str, int] | None: ...
    def shape_by_id(self, topic_id: bytes) -> tuple[bytes, str, int] | None: ...
    def topic_names(self) -> list[str]: ...
    def configs(self, resource_type: int, name: str) -> dict[str, str]: ...
    def config_resources(self) -> list[tuple[int, str]]: ...
    def next_producer_id(self) -> int: ...

@final
class Broker:
    def __init__(
        self,
        *,
        data_dir: str | PathLike[str],
        listeners: Sequence[tuple[str, str, int]],
        advertised: tuple[str, int] | None = None,
        durability: str = "fsync",
        io_threads: int = 0,
        settings: Mapping[str, str] = ...,
    ) -> None: ...
    def start(self) -> StartFacts: ...
    def poll(self, max_events: int, timeout_s: float) -> tuple[list[_Event], int]: ...
    def mono_ms(self) -> int: ...
    def submit(self, effects: Sequence[_Effect]) -> None: ...
    def wake(self) -> None: ...
    def image(self) -> Image: ...
    def partition_size(self, topic_id: bytes, index: int) -> int | None: ...
    def segments(self, topic_id: bytes, index: int) -> list[tuple[int, int, int, int, bool]]: ...
    def producers(
        self, topic_id: bytes, index: int
    ) -> list[tuple[int, int, int, int, int, int]] | None: ...
    def partition(self, topic_id: bytes, index: int) -> dict[str, Any] | None: ...
    def stats(self) -> dict[str, Any]: ...
    def drop_produce_answers(self, on: bool) -> None: ...
    def shutdown(self) -> None: ...
    def kill(self) -> None: ...
