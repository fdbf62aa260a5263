"""Which addresses a broker listens on."""

from __future__ import annotations

from typing import NamedTuple

from mqlog.broker.settings import Address, Settings, parse_address
from mqlog.errors import ConfigError

DEFAULT_LISTEN = "localhost:9092"
LISTENER = "PLAINTEXT"


class Listener(NamedTuple):
    """One address to bind; those of the same name share a port."""

    name: str
    host: str
    port: int


def asked_for(settings: Settings) -> list[Address]:
    """Return what the user wants to listen on; `localhost:9092` if nothing is said."""
    given = settings.given.get("listeners")
    texts = given.value.split(",") if given else [DEFAULT_LISTEN]
    found = [parse_address("listeners", text) for text in texts if text.strip()]
    if not found:
        raise ConfigError("listeners", "''", "at least one HOST:PORT is needed")
    return found


def resolve(addresses: list[Address]) -> list[Listener]:
    """Turn hosts into addresses: `localhost` is 127.0.0.1 and, where there is IPv6, ::1."""
    listeners: list[Listener] = []
    for number, (host, port) in enumerate(addresses):
        name = LISTENER if number == 0 else f"{LISTENER}-{number + 1}"
        listeners += [Listener(name, ip, port) for ip in _ips(host)]
    return listeners


def _ips(host: str) -> list[str]:
    if host == "localhost":
        return ["127.0.0.1", "::1"] if _has_ipv6_loopback() else ["127.0.0.1"]
    if host in ("", "*"):
        return ["0.0.0.0"]  # noqa: S104 - it is what was asked for
    if _is_ipv4(host):
        return [host]
    import socket

    if "%" in host:
        raise ConfigError("listeners", host, "an address with a zone cannot be served; [::] is all")
    literal = ":" in host or host.replace(".", "").isdigit()
    flags = socket.AI_NUMERICHOST if literal else 0
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError("listeners", host, f"the host cannot be resolved: {reason}") from None
    except UnicodeError:
        raise ConfigError("listeners", repr(host), "this is no host name") from None
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def _is_ipv4(host: str) -> bool:
    # Most listeners are; they can do without importing socket.
    parts = host.split(".")
    return len(parts) == 4 and all(p.isascii() and p.isdigit() and int(p) < 256 for p in parts)


def _has_ipv6_loopback() -> bool:
    # Reading the kernel's list is cheaper than importing socket.
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as table:
            return any(line.startswith("0" * 31 + "1 ") for line in table)
    except OSError:
        return False


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an IP address."""
    return host.startswith("127.") or host == "::1"
