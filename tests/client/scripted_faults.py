"""How a scripted node misbehaves: actions for `Cluster.on`."""

from __future__ import annotations

import dataclasses
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

from mqlog import _native, _records
from mqlog.errors import ProtocolError

from .scripted import Action, Api, Exchange, HangUp

#: A step of `drip` and the longest time that a script stays silent before it hangs up.
SILENCE_S = 600.0


def _parts(message: Any) -> Iterator[Any]:
    """The structs inside a message, itself first."""
    yield message
    for spec in dataclasses.fields(message):
        value = getattr(message, spec.name)
        for one in value if isinstance(value, list) else [value]:
            if dataclasses.is_dataclass(one):
                yield from _parts(one)


def set_errors(response: Any, code: int, where: str) -> Any:
    """Write `code` to every error code of a response; `where`: `all`, `top` or `inner`."""
    for number, part in enumerate(_parts(response)):
        wanted = where == "all" or (where == "top") == (number == 0)
        if wanted and hasattr(part, "error_code"):
            part.error_code = code
            for name in ("base_offset", "offset"):
                if hasattr(part, name):
                    setattr(part, name, -1)
            if hasattr(part, "records"):
                part.records = b""
    return response


def error(code: int, *, applied: bool = False, where: str = "all") -> Action:
    """Answer with an error code; nothing is done unless `applied`."""

    def act(exchange: Exchange) -> None:
        response = exchange.apply(dry=not applied)
        if response is None:
            raise HangUp  # acks=0: all that a broker can do is hang up
        set_errors(response, code, where)
        try:
            exchange.send(response)
        except ProtocolError:  # this version has no code at the top
            response.error_code = 0
            exchange.send(response)

    return act


def edit(change: Callable[[Any], Any], *, dry: bool = False) -> Action:
    """Answer with what `change` makes of the response (it may alter it and return None)."""

    def act(exchange: Exchange) -> None:
        response = exchange.apply(dry=dry)
        changed = change(response)
        exchange.send(response if changed is None else changed)

    return act


def close(*, applied: bool = False) -> Action:
    """Hang up instead of answering; with `applied` the answer is lost, not the request."""

    def act(exchange: Exchange) -> None:
        if applied:
            exchange.apply()
        raise HangUp

    return act


def silent(*, applied: bool = False, for_s: float = SILENCE_S) -> Action:
    """Half open: read the request and never answer; the connection stays."""

    def act(exchange: Exchange) -> None:
        if applied:
            exchange.apply()
        deadline = time.monotonic() + for_s
        exchange.connection.socket.settimeout(0.1)
        while time.monotonic() < deadline and not exchange.cluster.groups.closed:
            try:
                if not exchange.connection.socket.recv(1 << 16):
                    raise HangUp
            except TimeoutError:
                continue
        raise HangUp

    return act


def delay(seconds: float, then: Action | None = None) -> Action:
    """Answer late, but as `then` does."""

    def act(exchange: Exchange) -> None:
        time.sleep(seconds)
        if then is not None:
            then(exchange)
        elif (response := exchange.apply()) is not None:
            exchange.send(response)

    return act


def raw(data: bytes, *, hang_up: bool = True) -> Action:
    """Send these bytes instead of an answer."""

    def act(exchange: Exchange) -> None:
        exchange.write(data)
        if hang_up:
            raise HangUp

    return act


def framed(change: Callable[[bytes], bytes], *, hang_up: bool = False) -> Action:
    """Send the answer's frame, its length before it, as `change` leaves it."""

    def act(exchange: Exchange) -> None:
        response = exchange.apply()
        frame = exchange.frame(response)
        exchange.write(change(struct.pack(">i", len(frame)) + frame))
        if hang_up:
            raise HangUp

    return act


def garbage(size: int = 64) -> Action:
    """A frame of the right length whose body is noise behind the right correlation id."""
    noise = bytes((number * 151 + 77) & 0xFF for number in range(size))
    return framed(lambda data: struct.pack(">i", 4 + size) + data[4:8] + noise)


def mid_frame(keep: float = 0.5) -> Action:
    """Hang up in the middle of the answer."""
    return framed(lambda data: data[: max(5, int(len(data) * keep))], hang_up=True)


def truncated(by: int = 1) -> Action:
    """A whole frame that ends too early for what is in it."""
    return framed(lambda data: struct.pack(">i", len(data) - 4 - by) + data[4:-by])


def length(size: int) -> Action:
    """A frame that lies about its length."""
    return framed(lambda data: struct.pack(">i", size) + data[4:])


def wrong_correlation(difference: int = 1) -> Action:
    """The answer to a request that was not asked."""

    def change(data: bytes) -> bytes:
        (correlation,) = struct.unpack_from(">i", data, 4)
        return data[:4] + struct.pack(">i", correlation + difference) + data[8:]

    return framed(change)


def drip(pause_s: float = 1.0) -> Action:
    """The right answer, one byte at a time."""

    def act(exchange: Exchange) -> None:
        frame = exchange.frame(exchange.apply())
        for byte in struct.pack(">i", len(frame)) + frame:
            if exchange.cluster.groups.closed:
                raise HangUp
            exchange.write(bytes([byte]))
            time.sleep(pause_s)

    return act


# -- records ---------------------------------------------------------------------------------------


def records(change: Callable[[bytes], bytes]) -> Action:
    """Answer Fetch with what `change` makes of each partition's records."""

    def act(exchange: Exchange) -> None:
        assert exchange.api == Api.FETCH
        response = exchange.apply()
        for topic in response.responses:
            for part in topic.partitions:
                if part.records:
                    part.records = change(part.records)
        exchange.send(response)

    return act


def flip(position: int = -1) -> Callable[[bytes], bytes]:
    """One bit of the records, so that the CRC is wrong."""

    def change(data: bytes) -> bytes:
        out = bytearray(data)
        out[position] ^= 1
        return bytes(out)

    return change


def bomb(megabytes: int = 1024, codec: str = "zstd") -> bytes:
    """A batch of one record that is tiny and says it is huge: valid CRC, endless zeros."""
    import cramjam

    zeros = bytes(megabytes << 20)
    compress = {"zstd": cramjam.zstd.compress, "gzip": cramjam.gzip.compress}[codec]
    payload = bytes(compress(zeros))
    empty = _native.build_batch([(0, None, b"", ())], codec)
    return resealed(empty[:61] + payload)


def resealed(batch: bytes) -> bytes:
    """A batch whose length and CRC fit its bytes again."""
    sized = batch[:8] + struct.pack(">i", len(batch) - 12) + batch[12:]
    return sized[:17] + struct.pack(">I", _records.crc32c(sized[21:])) + sized[21:]
