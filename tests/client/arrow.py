"""Arrow's C data interface by hand: arrays that the tests give to what reads columns."""

from __future__ import annotations

import ctypes
import itertools
import struct
from collections.abc import Sequence
from typing import Any


class Schema(ctypes.Structure):
    """struct ArrowSchema."""


class CArray(ctypes.Structure):
    """struct ArrowArray."""


class CStream(ctypes.Structure):
    """struct ArrowArrayStream."""


_SCHEMA_RELEASE = ctypes.CFUNCTYPE(None, ctypes.POINTER(Schema))
_ARRAY_RELEASE = ctypes.CFUNCTYPE(None, ctypes.POINTER(CArray))
_GET_SCHEMA = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(CStream), ctypes.POINTER(Schema))
_GET_NEXT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(CStream), ctypes.POINTER(CArray))
_LAST_ERROR = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.POINTER(CStream))
_STREAM_RELEASE = ctypes.CFUNCTYPE(None, ctypes.POINTER(CStream))

Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(Schema))),
    ("dictionary", ctypes.c_void_p),
    ("release", _SCHEMA_RELEASE),
    ("private_data", ctypes.c_void_p),
]
CArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(CArray))),
    ("dictionary", ctypes.c_void_p),
    ("release", _ARRAY_RELEASE),
    ("private_data", ctypes.c_void_p),
]
CStream._fields_ = [
    ("get_schema", _GET_SCHEMA),
    ("get_next", _GET_NEXT),
    ("get_last_error", _LAST_ERROR),
    ("release", _STREAM_RELEASE),
    ("private_data", ctypes.c_void_p),
]

#: What is exported lives until it is released; ctypes frees what nobody holds.
_HELD: dict[int, Any] = {}
_tokens = itertools.count(1)

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_NAMES = {Schema: b"arrow_schema", CArray: b"arrow_array", CStream: b"arrow_array_stream"}


@_SCHEMA_RELEASE
def _release_schema(schema: Any) -> None:
    schema.contents.release = _SCHEMA_RELEASE(0)


@_ARRAY_RELEASE
def _release_array(array: Any) -> None:
    owner = _HELD.pop(array.contents.private_data)
    owner.released += 1
    array.contents.release = _ARRAY_RELEASE(0)


@_STREAM_RELEASE
def _release_stream(stream: Any) -> None:
    stream.contents.release = _STREAM_RELEASE(0)


def _capsule(content: Any, keep: list[Any]) -> Any:
    keep.append(content)
    return _new_capsule(ctypes.addressof(content), _NAMES[type(content)], None)


def _bits(flags: Sequence[bool]) -> bytes:
    out = bytearray((len(flags) + 7) // 8 or 1)
    for at, flag in enumerate(flags):
        out[at // 8] |= flag << at % 8
    return bytes(out)


class Array:
    """One column of Arrow format `layout`."""

    def __init__(self, layout: str, values: Sequence[Any], *, damage: bool = False) -> None:
        self.layout = layout
        self.values = list(values)
        self.damage = damage
        self.given = self.released = 0
        self.keep: list[Any] = []

    def buffers(self) -> list[bytes | None]:
        """Validity, then what the layout has."""
        flags = [value is not None for value in self.values]
        validity = None if all(flags) else _bits(flags)
        if self.layout in ("i", "l") or self.layout.startswith("ts"):
            kind = "i" if self.layout == "i" else "q"
            numbers = [value or 0 for value in self.values]
            return [validity, struct.pack(f"<{len(numbers)}{kind}", *numbers)]
        parts = [value or b"" for value in self.values]
        data = b"".join(parts)
        if self.layout.startswith("v"):
            return [validity, *self._views(parts)]
        ends = list(itertools.accumulate((len(part) for part in parts), initial=0))
        if self.damage:
            ends.reverse()
        kind = "q" if self.layout in "ZU" else "i"
        return [validity, struct.pack(f"<{len(ends)}{kind}", *ends), data]

    @staticmethod
    def _views(parts: list[bytes]) -> list[bytes]:
        views, data = b"", b""
        for part in parts:
            if len(part) <= 12:
                views += struct.pack("<i12s", len(part), part)
            else:
                views += struct.pack("<i4sii", len(part), part[:4], 0, len(data))
                data += part
        return [views, data, struct.pack("<q", len(data))]

    def schema(self, name: str = "") -> Schema:
        """Its description."""
        made = Schema(format=self.layout.encode(), name=name.encode(), release=_release_schema)
        self.keep.append(made)
        return made

    def array(self) -> CArray:
        """Its content."""
        buffers = [None if one is None else ctypes.create_string_buffer(one, max(len(one), 1))
                   for one in self.buffers()]  # fmt: skip
        pointers = (ctypes.c_void_p * len(buffers))(
            *[None if one is None else ctypes.addressof(one) for one in buffers]
        )
        token = next(_tokens)
        _HELD[token] = self
        self.given += 1
        made = CArray(
            length=len(self.values),
            null_count=self.values.count(None),
            n_buffers=len(buffers),
            buffers=pointers,
            release=_release_array,
            private_data=token,
        )
        self.keep.extend((buffers, pointers, made))
        return made

    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[Any, Any]:
        # The capsules have no destructor: what nobody moved out of them stays with this object.
        return _capsule(self.schema(), self.keep), _capsule(self.array(), self.keep)


class Batch(Array):
    """A struct of columns, of which the first `offset` rows are not meant."""

    def __init__(self, *, offset: int = 0, **columns: Array) -> None:
        length = len(next(iter(columns.values())).values) - offset
        super().__init__("+s", [0] * length)
        self.offset = offset
        self.columns = columns

    def buffers(self) -> list[bytes | None]:
        """A struct has validity only."""
        return [None]

    def schema(self, name: str = "") -> Schema:
        """With children."""
        made = super().schema(name)
        found = [ctypes.pointer(one.schema(name)) for name, one in self.columns.items()]
        made.children = (ctypes.POINTER(Schema) * len(found))(*found)
        made.n_children = len(found)
        self.keep.append(found)
        return made

    def array(self) -> CArray:
        """With children."""
        made = super().array()
        found = [ctypes.pointer(one.array()) for one in self.columns.values()]
        made.children = (ctypes.POINTER(CArray) * len(found))(*found)
        made.n_children = len(found)
        made.offset = self.offset
        self.keep.append(found)
        return made


class Stream:
    """Several arrays of one layout, one after the other."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.arrays = list(arrays)
        self.keep: list[Any] = []

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        left = iter(self.arrays)

        @_GET_SCHEMA
        def get_schema(_: Any, out: Any) -> int:
            made = self.arrays[0].schema()
            ctypes.memmove(out, ctypes.byref(made), ctypes.sizeof(made))
            return 0

        @_GET_NEXT
        def get_next(_: Any, out: Any) -> int:
            array = next(left, None)
            if array is None:
                out.contents.release = _ARRAY_RELEASE(0)
                return 0
            made = array.array()
            ctypes.memmove(out, ctypes.byref(made), ctypes.sizeof(made))
            return 0

        @_LAST_ERROR
        def last_error(_: Any) -> bytes:
            return b"none"

        made = CStream(
            get_schema=get_schema,
            get_next=get_next,
            get_last_error=last_error,
            release=_release_stream,
        )
        self.keep.extend((get_schema, get_next, last_error))
        return _capsule(made, self.keep)
