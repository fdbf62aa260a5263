"""The native client by itself, for tests of what lies below the three classes."""

from __future__ import annotations

from typing import Any

from mqlog import _native, protocol
from mqlog.client.config import ADMIN, Config

from .scripted import Api


def client(io: _native.IoThread | None = None, **settings: Any) -> _native.Client:
    """A client with these settings."""
    return _native.Client(Config(ADMIN, None, settings).net(), io)


def ask(native: _native.Client, api: int, request: Any, target: Any = "any") -> Any:
    """One request; the decoded answer."""
    version = native.version(target, "general", api, _native.versions(api)[1]).result()
    body = _native.encode("request", api, version, request)
    answer = native.call(target, "general", api, version, body).result()
    return _native.decode("response", api, version, answer)


def known(native: _native.Client) -> _native.Metadata:
    """The snapshot after all topics were asked for."""
    native.refresh(None).result()
    return native.snapshot()


def failure(**settings: Any) -> Exception:
    """What comes of a client that cannot get in."""
    native = client(**settings)
    try:
        native.refresh(None).result()
    except Exception as error:
        return error
    finally:
        native.close()
    raise AssertionError("it got in")


def find_coordinator(group: str) -> Any:
    """A request that any broker answers."""
    return protocol.request_class(Api.FIND_COORDINATOR)(coordinator_keys=[group], key_type=0)
