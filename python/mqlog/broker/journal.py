"""The broker's own log, one line an event, text or JSON, to standard error.

Not `logging`: importing it costs more memory and time than an idle broker should spend.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TextIO


class Journal:
    """Writes events with a level, a text and fields."""

    def __init__(self, kind: str = "text", stream: TextIO | None = None) -> None:
        """`kind` is `text` or `json`; `stream` defaults to standard error."""
        self._json = kind == "json"
        self._stream = stream

    def info(self, text: str, **fields: object) -> None:
        """Something that is as it should be."""
        self._write("info", text, fields)

    def warning(self, text: str, **fields: object) -> None:
        """Something to look at."""
        self._write("warning", text, fields)

    def error(self, text: str, **fields: object) -> None:
        """Something that failed."""
        self._write("error", text, fields)

    def _write(self, level: str, text: str, fields: dict[str, object]) -> None:
        now = time.time()
        stamp = (
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1e3) % 1000:03}Z"
        )
        if self._json:
            import json

            line = json.dumps({"time": stamp, "level": level, "text": text, **fields}, default=str)
        else:
            tail = "".join(f" {name}={value}" for name, value in fields.items())
            line = f"{stamp} {level} {text}{tail}"
        # When nobody listens any more, that is no reason to stop serving.
        with contextlib.suppress(OSError, ValueError):
            print(line, file=self._stream or sys.stderr, flush=True)
