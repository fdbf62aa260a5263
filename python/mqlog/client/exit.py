"""The end of the interpreter: what becomes of clients that nobody closed."""

from __future__ import annotations

import atexit
import functools
import threading
import weakref
from collections.abc import Callable
from typing import TypeVar

from mqlog.errors import ClosedError

T = TypeVar("T")

#: How long a client that nobody closed and nobody holds any more may take for its end, in seconds.
FORGOTTEN_S = 1.0


def at_exit(client: T, end: Callable[[T], None]) -> Callable[[], None]:
    """Has `end` called for the client after the program's threads, before its modules go.

    Does not keep the client alive. The result is for `atexit.unregister`.
    """
    weak = weakref.ref(client)

    def close() -> None:
        found = weak()
        if found is not None:
            _expect_closed()
            end(found)

    return atexit.register(close)


@functools.cache  # once for all clients
def _expect_closed() -> None:
    """Keeps quiet about ClosedError in daemon threads: it is how the end reaches them, no news."""
    tell = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        daemon = args.thread is not None and args.thread.daemon
        if not daemon or not issubclass(args.exc_type, ClosedError):
            tell(args)

    threading.excepthook = hook
