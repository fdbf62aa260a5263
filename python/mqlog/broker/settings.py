"""A broker's configuration: defaults < TOML file < environment < command line < dynamic.

Settings have Kafka's names. In a TOML file they are top-level keys, quoted or as dotted tables; in
the environment `log.retention.ms` is `MQLOG_LOG_RETENTION_MS`. Dynamic values live in the
metadata, not here: see `configs`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mqlog.broker.broker_configs import broker_configs
from mqlog.broker.config_types import ConfigDef
from mqlog.broker.topic_configs import TOPIC_CONFIGS
from mqlog.errors import ConfigError

ENV_PREFIX = "MQLOG_"
#: Variables with the prefix that are no settings of the broker.
ENV_OTHERS = frozenset({"MQLOG_BOOTSTRAP", "MQLOG_CONFIG", "MQLOG_DATA_DIR"})
#: What begins like this is about a test run: which Kafka to ask, which files to write again.
ENV_TESTS = "MQLOG_TEST_"
#: Hosts to listen on, but not to connect to.
_NOWHERE = frozenset({"", "*", "0.0.0.0", "::"})  # noqa: S104 - to refuse them


class Given(NamedTuple):
    """A value that somebody set, and where."""

    value: str
    source: str


class Settings:
    """The static settings of one broker, all of them legal."""

    def __init__(self, given: Mapping[str, Given] | None = None) -> None:
        """Check every value; ConfigError names value, limit and source of the first that is not."""
        self.given: dict[str, Given] = dict(given or {})
        for name, item in self.given.items():
            problem = setting_problem(name, item.value)
            if problem:
                raise ConfigError(name, repr(item.value), f"{problem} (set by {item.source})")

    def get(self, name: str) -> str | None:
        """Return the value given, or the default."""
        item = self.given.get(name)
        return item.value if item else broker_configs()[name].default

    def text(self, name: str) -> str:
        """Return the value as text, empty if there is none."""
        return self.get(name) or ""

    def integer(self, name: str) -> int:
        """Return the value as a number."""
        return int(self.text(name))

    def boolean(self, name: str) -> bool:
        """Return the value as a truth value."""
        return self.text(name).strip().lower() == "true"

    def raw(self) -> dict[str, str]:
        """Return what was given, by name."""
        return {name: item.value for name, item in self.given.items()}


def setting_problem(name: str, value: str) -> str | None:
    """Say why a broker cannot have this setting with this value, or None."""
    config = broker_configs().get(name)
    if config is None:
        return f"there is no such setting{_did_you_mean(name)}"
    problem = config.problem(value)
    topic = topic_default(name)
    if problem is None and topic and topic.check and topic.kind == config.kind:
        wrong = topic.check(value)
        problem = f"Invalid value {value} for configuration {name}: {wrong}" if wrong else None
    return problem


def topic_default(name: str) -> ConfigDef | None:
    """Return the topic setting whose default a broker setting is, in the same unit."""
    for config in TOPIC_CONFIGS.values():
        if (name, 1) in config.synonyms:
            return config
    return None


def load(
    *,
    file: str | None = None,
    environ: Mapping[str, str] | None = None,
    options: Iterable[tuple[str, str, str]] = (),
) -> Settings:
    """Put the layers together.

    `options` are name, value and how the user wrote it (`--set`, `--listen`), the last one wins.
    Raises ConfigError, and OSError if the file cannot be read.
    """
    given: dict[str, Given] = {}
    if file:
        given.update(_from_file(file))
    given.update(_from_environ(environ or {}))
    for name, value, source in options:
        given[name] = Given(value, source)
    return Settings(given)


def _from_file(path: str) -> dict[str, Given]:
    import tomllib  # only when there is a file: starting without one stays quick

    with open(path, "rb") as stream:
        try:
            tables = tomllib.load(stream)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError("--config", path, f"is not TOML: {error}") from None
    return {name: Given(_as_text(name, value), path) for name, value in _flat("", tables)}


def _flat(prefix: str, table: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield prefix + key, value


def _as_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(_as_text(name, item) for item in value)
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ConfigError(name, value, "expected text, a number, true, false or a list of them")


def _from_environ(environ: Mapping[str, str]) -> dict[str, Given]:
    ours = [
        key
        for key in environ
        if key.startswith(ENV_PREFIX) and key not in ENV_OTHERS and not key.startswith(ENV_TESTS)
    ]
    if not ours:
        return {}
    names = {variable(name): name for name in broker_configs()}
    found = {}
    for key in ours:
        if key not in names:
            near = difflib.get_close_matches(key, names, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(key, environ[key], f"no setting has this variable{hint}")
        found[names[key]] = Given(environ[key], f"environment variable {key}")
    return found


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    own = name.removeprefix("mqlog.")
    return ENV_PREFIX + own.upper().replace(".", "_").replace("-", "_")


def _did_you_mean(name: str) -> str:
    near = difflib.get_close_matches(name, broker_configs(), 1)
    if name in TOPIC_CONFIGS and TOPIC_CONFIGS[name].synonyms:
        near = [TOPIC_CONFIGS[name].synonyms[0][0]]
    return f"; did you mean {near[0]}?" if near else ""


class Address(NamedTuple):
    """Where to listen, or what to tell clients. Port 0: a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return HOST:PORT, with brackets around an IPv6 host."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(setting: str, text: str) -> Address:
    """Read HOST:PORT or PLAINTEXT://HOST:PORT; an empty host is every address."""
    bare = text.strip()
    scheme, separator, rest = bare.partition("://")
    if separator:
        if scheme.upper() != "PLAINTEXT":
            raise ConfigError(setting, text, f"listener {scheme}: only PLAINTEXT is served")
        bare = rest
    host, separator, port = bare.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(setting, text, "expected HOST:PORT with a port from 0 to 65535")
    return Address(host, int(port))


def advertised(settings: Settings) -> Address | None:
    """Return the one address told to clients, if there is one."""
    setting = "advertised.listeners"
    texts = [part for part in settings.text(setting).split(",") if part.strip()]
    if not texts:
        return None
    if len(texts) > 1:
        raise ConfigError(setting, settings.text(setting), "all listeners share one address")
    address = parse_address(setting, texts[0])
    if address.host in _NOWHERE or not address.port:
        raise ConfigError(
            setting, texts[0], "clients need a host they can reach and a port from 1 to 65535"
        )
    return address


def data_directory(settings: Settings) -> str:
    """Return the data directory that the settings name."""
    text = settings.text("log.dirs") or settings.text("log.dir")
    if "," in text:
        raise ConfigError("log.dirs", repr(text), "a broker has one data directory: give one")
    return text


__all__ = [
    "Address",
    "Given",
    "Settings",
    "advertised",
    "data_directory",
    "load",
    "parse_address",
    "setting_problem",
    "topic_default",
    "variable",
]
