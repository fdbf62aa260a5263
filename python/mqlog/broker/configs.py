"""DescribeConfigs, IncrementalAlterConfigs, AlterConfigs, ListConfigResources.

A topic's setting is, first match first: its own dynamic value, the broker's dynamic value, the
cluster-wide dynamic value, what the broker was started with, the default. The last four are looked
up under the names in `ConfigDef.synonyms`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mqlog.broker import codes
from mqlog.broker.broker_configs import broker_configs
from mqlog.broker.codes import Refusal
from mqlog.broker.config_types import LIST, PASSWORD, UNKNOWN, ConfigDef, split_list
from mqlog.broker.flow import (
    PAUSE,
    RESOURCE_BROKER,
    RESOURCE_TOPIC,
    Decision,
    Propose,
    Record,
    config_record,
)
from mqlog.broker.names import check_name
from mqlog.broker.settings import setting_problem
from mqlog.broker.topic_configs import TOPIC_CONFIGS, contradiction
from mqlog.broker.world import Image, World

DYNAMIC_TOPIC, DYNAMIC_BROKER, DYNAMIC_DEFAULT, STATIC_BROKER, DEFAULT = range(1, 6)
SET, DELETE, APPEND, SUBTRACT = range(4)
#: What a broker listens with is its own: there is no cluster-wide value for it.
_PER_BROKER = ("listeners", "listener.security.protocol.map", "sasl.", "ssl.", "principal.builder.")
_MALFORMED = (
    "This most likely occurs because of a request being malformed by the client library or the "
    "message was sent to an incompatible broker. See the broker logs for more details."
)


class Synonym(NamedTuple):
    """A value that would count if the ones before it were not there."""

    name: str
    value: str | None
    source: int


class Entry(NamedTuple):
    """A setting of a resource as it is now."""

    config: ConfigDef
    value: str | None
    source: int
    synonyms: list[Synonym]
    read_only: bool


class Change(NamedTuple):
    """One change asked for: `operation` is SET, DELETE, APPEND or SUBTRACT."""

    name: str
    operation: int
    value: str | None


# -- looking up ------------------------------------------------------------------------------------


def broker_values(world: World, image: Image, name: str) -> Iterator[Synonym]:
    """Yield every value that a broker setting has but the default; the one that counts first."""
    for resource, source in ((str(world.node_id), DYNAMIC_BROKER), ("", DYNAMIC_DEFAULT)):
        value = image.configs(RESOURCE_BROKER, resource).get(name)
        if value is not None:
            yield Synonym(name, value, source)
    given = world.settings.given.get(name)
    if given is not None:
        yield Synonym(name, given.value, STATIC_BROKER)


def topic_entry(world: World, image: Image, config: ConfigDef, own: Mapping[str, str]) -> Entry:
    """Return one setting of a topic whose dynamic configs are `own`."""
    synonyms: list[Synonym] = []
    value, source = config.default, DEFAULT
    if config.name in own:
        synonyms.append(Synonym(config.name, own[config.name], DYNAMIC_TOPIC))
        value, source = own[config.name], DYNAMIC_TOPIC
    for name, factor in config.synonyms:
        for synonym in broker_values(world, image, name):
            if source == DEFAULT and synonym.value is not None:
                value, source = _scaled(synonym.value, factor), synonym.source
            synonyms.append(synonym)
        default = broker_configs()[name].default
        if default is not None:
            synonyms.append(Synonym(name, default, DEFAULT))
    return Entry(config, value, source, synonyms, read_only=False)


def _scaled(value: str, factor: int) -> str:
    number = value if factor == 1 else str(int(value) * factor)
    return "-1" if factor != 1 and int(value) < 0 else number


def topic_entries(world: World, image: Image, own: Mapping[str, str]) -> list[Entry]:
    """Return all settings of a topic whose dynamic configs are `own`."""
    return [topic_entry(world, image, config, own) for config in TOPIC_CONFIGS.values()]


def effective_topic(world: World, image: Image, own: Mapping[str, str]) -> dict[str, str]:
    """Return name to value of all settings of a topic."""
    return {entry.config.name: entry.value or "" for entry in topic_entries(world, image, own)}


def effective_broker(world: World, image: Image, name: str) -> str | None:
    """Return what a broker setting is now."""
    for synonym in broker_values(world, image, name):
        return synonym.value
    return broker_configs()[name].default


def _broker_synonyms(world: World, image: Image, name: str) -> list[Synonym]:
    found = list(broker_values(world, image, name))
    default = broker_configs()[name].default
    return found if default is None else [*found, Synonym(name, default, DEFAULT)]


def broker_entry(world: World, image: Image, config: ConfigDef) -> Entry:
    """Return one setting of this broker."""
    synonyms = _broker_synonyms(world, image, config.name)
    if synonyms:
        for other in _coarser(config.name):
            synonyms += _broker_synonyms(world, image, other)
    first = synonyms[0] if synonyms else Synonym(config.name, None, DEFAULT)
    return Entry(config, first.value, first.source, synonyms, not config.dynamic)


def _coarser(name: str) -> list[str]:
    """Return the settings that count if this one is not set: log.retention.hours for ...ms."""
    for config in TOPIC_CONFIGS.values():
        if config.synonyms[:1] == ((name, 1),):
            return [other for other, _ in config.synonyms[1:]]
    return []


def _unknown_entries(image: Image, name: str) -> list[Entry]:
    """Return what is kept for others: settings that this broker does not know, all secret."""
    source = DYNAMIC_BROKER if name else DYNAMIC_DEFAULT
    return [
        Entry(
            ConfigDef(key, UNKNOWN, None, None, False, "", dynamic=False),
            value,
            source,
            [Synonym(key, value, source)],
            True,
        )
        for key, value in image.configs(RESOURCE_BROKER, name).items()
        if key not in broker_configs()
    ]


# -- checking --------------------------------------------------------------------------------------


def check_topic_configs(world: World, image: Image, own: Mapping[str, str]) -> None:
    """Refuse dynamic configs that a topic cannot have."""
    for name in own:
        if name not in TOPIC_CONFIGS:
            raise Refusal(codes.INVALID_CONFIG, f"Unknown topic config name: {name}")
    for name, value in own.items():
        problem = TOPIC_CONFIGS[name].problem(value)
        if problem:
            raise Refusal(codes.INVALID_CONFIG, problem)
    problem = contradiction(effective_topic(world, image, own)) if own else None
    if problem:
        raise Refusal(codes.INVALID_CONFIG, problem)


def _check_broker_changes(world: World, name: str, changes: list[Change]) -> None:
    _check_broker_name(world, name, "expected {}, but received {}", "Node id")
    table = broker_configs()
    fixed = [c.name for c in changes if c.name in table and not table[c.name].dynamic]
    per_broker = [c.name for c in changes if not name and c.name.startswith(_PER_BROKER)]
    if per_broker:
        raise Refusal(
            codes.INVALID_REQUEST,
            "Cannot update these configs at default cluster level, broker id must be specified: "
            f"[{', '.join(per_broker)}]",
        )
    if fixed:
        raise Refusal(
            codes.INVALID_REQUEST, f"Cannot update these configs dynamically: [{', '.join(fixed)}]"
        )


def _check_broker_name(world: World, name: str, rule: str, what: str) -> None:
    if not name:
        return
    if not name.isascii() or not name.lstrip("-").isdigit():
        raise Refusal(codes.INVALID_REQUEST, f"{what} must be an integer, but it is: {name}")
    if int(name) != world.node_id:
        text = "Unexpected broker id, " + rule.format(world.node_id, name)
        raise Refusal(codes.INVALID_REQUEST, text)


# -- altering --------------------------------------------------------------------------------------


def altered(
    resource_type: int, current: Mapping[str, str], change: Change, base: str
) -> str | None:
    """Return what a setting becomes; `base` is what it is if the resource has no own value."""
    name = change.name
    if change.operation == DELETE:
        return None
    if change.value is None:
        raise Refusal(codes.INVALID_REQUEST, f"Null value not supported for : {name}")
    if change.operation == SET:
        return change.value
    verb = {APPEND: "APPEND", SUBTRACT: "SUBTRACT"}.get(change.operation)
    if verb is None:
        text = f"Unknown operations type {change.operation}"
        raise Refusal(codes.INVALID_REQUEST, text)
    table = TOPIC_CONFIGS if resource_type == RESOURCE_TOPIC else broker_configs()
    config = table.get(name)
    if config is None or config.kind != LIST:
        if resource_type == RESOURCE_TOPIC:
            text = f"Can't {verb} to key {name} because its type is not LIST."
        elif config is None:
            text = f"Unknown config name: {name}"
        else:
            text = f"Config value {verb.lower()} is not allowed for config key: {name}"
        raise Refusal(codes.INVALID_CONFIG, text)
    items = split_list(current.get(name, base))
    asked = split_list(change.value)
    if not asked:
        text = f"Configuration '{name}' values must not be empty."
        raise Refusal(codes.INVALID_CONFIG, text)
    if verb == "APPEND":
        return ",".join(items + [item for item in asked if item not in items])
    return ",".join(item for item in items if item not in asked)


def alter_resource(
    world: World, image: Image, resource_type: int, name: str, changes: list[Change]
) -> list[Record]:
    """Return the records that make the changes to one resource, or refuse them all."""
    if resource_type not in (RESOURCE_TOPIC, RESOURCE_BROKER):
        raise Refusal(codes.INVALID_REQUEST, f"Unknown resource type {resource_type}")
    if resource_type == RESOURCE_TOPIC:
        _check_topic(image, name, alter=True)
    else:
        _check_broker_changes(world, name, changes)
    if len({change.name for change in changes}) < len(changes):
        raise Refusal(codes.INVALID_REQUEST, "Error due to duplicate config keys")
    before = image.configs(resource_type, name)
    after = dict(before)
    for change in changes:
        value = altered(resource_type, before, change, _base(world, image, resource_type, change))
        if value is None:
            after.pop(change.name, None)
        else:
            after[change.name] = value
    if resource_type == RESOURCE_TOPIC:
        check_topic_configs(world, image, after)
    else:
        _check_broker_values(after, before)
    return _difference(resource_type, name, before, after)


def _base(world: World, image: Image, resource_type: int, change: Change) -> str:
    if resource_type == RESOURCE_BROKER:
        known = change.name in broker_configs()
        return (effective_broker(world, image, change.name) or "") if known else ""
    config = TOPIC_CONFIGS.get(change.name)
    return (topic_entry(world, image, config, {}).value or "") if config else ""


def _check_broker_values(after: Mapping[str, str], before: Mapping[str, str]) -> None:
    for name, value in after.items():
        if before.get(name) == value:
            continue
        # Kafka stores broker settings it does not know, and so do we; their values are never told.
        problem = setting_problem(name, value) if name in broker_configs() else None
        if problem:
            raise Refusal(codes.INVALID_REQUEST, problem)


def _difference(
    resource_type: int, name: str, before: Mapping[str, str], after: Mapping[str, str]
) -> list[Record]:
    gone = [config_record(resource_type, name, key, None) for key in before if key not in after]
    new = [
        config_record(resource_type, name, key, value)
        for key, value in after.items()
        if before.get(key) != value
    ]
    return gone + new


def _check_topic(image: Image, name: str, *, alter: bool) -> None:
    if alter and not name:
        raise Refusal(codes.INVALID_REQUEST, "Default topic resources are not allowed.")
    check_name(name)
    if image.topic(name) is None:
        text = f"The topic '{name}' does not exist." if alter else ""
        raise Refusal(codes.UNKNOWN_TOPIC_OR_PARTITION, text)


# -- requests --------------------------------------------------------------------------------------


def incremental_alter_configs(world: World, request: Any) -> Decision:
    """Answer IncrementalAlterConfigs."""
    from mqlog.protocol.incremental_alter_configs import IncrementalAlterConfigsResponse as Response

    changes = [
        [Change(c.name, c.config_operation, c.value) for c in resource.configs]
        for resource in request.resources
    ]
    return (yield from _alter(world, request, changes, Response))


def alter_configs(world: World, request: Any) -> Decision:
    """Answer AlterConfigs: what is not named is removed."""
    from mqlog.protocol.alter_configs import AlterConfigsResponse as Response

    image = world.image()
    changes = []
    for resource in request.resources:
        named = {config.name for config in resource.configs}
        before = image.configs(resource.resource_type, resource.resource_name)
        gone = [Change(name, DELETE, None) for name in before if name not in named]
        changes.append([Change(c.name, SET, c.value) for c in resource.configs] + gone)
    return (yield from _alter(world, request, changes, Response))


def _alter(world: World, request: Any, all_changes: list[list[Change]], response: Any) -> Decision:
    image = world.image()
    keys = [(r.resource_type, r.resource_name) for r in request.resources]
    records: list[Record] = []
    results = []
    seen: dict[tuple[int, str], int] = {}
    for key in keys:
        seen[key] = seen.get(key, 0) + 1
    for (kind, name), changes in zip(keys, all_changes, strict=True):
        code, message = codes.NONE, None
        try:
            if seen[kind, name] > 1:
                text = "Each resource must appear at most once."
                raise Refusal(codes.INVALID_REQUEST, text)
            records += alter_resource(world, image, kind, name, changes)
        except Refusal as refusal:
            code, message = refusal.code, refusal.message
        results.append(response.AlterConfigsResourceResponse(code, message, kind, name))
        if len(results) % 64 == 0:
            yield PAUSE
    if records and not request.validate_only:
        error = yield Propose(records)
        if error:
            for result in results:
                if not result.error_code:
                    result.error_code, result.error_message = codes.KAFKA_STORAGE_ERROR, error
    return response(responses=results)


def describe_configs(world: World, request: Any) -> Decision:
    """Answer DescribeConfigs."""
    from mqlog.protocol.describe_configs import DescribeConfigsResponse as Response

    image = world.image()
    results = []
    for resource in request.resources:
        kind, name = resource.resource_type, resource.resource_name
        try:
            entries = _describe(world, image, kind, name)
        except Refusal as refusal:
            bad = Response.DescribeConfigsResult(refusal.code, refusal.message, kind, name, [])
            results.append(bad)
            continue
        wanted = set(resource.configuration_keys or ())
        shown = [
            _shown(Response, entry, request)
            for entry in entries
            if not wanted or entry.config.name in wanted
        ]
        results.append(Response.DescribeConfigsResult(0, "", kind, name, shown))
        yield PAUSE
    return Response(results=results)


def _describe(world: World, image: Image, kind: int, name: str) -> list[Entry]:
    if kind == RESOURCE_TOPIC:
        _check_topic(image, name, alter=False)
        return topic_entries(world, image, image.configs(RESOURCE_TOPIC, name))
    if kind != RESOURCE_BROKER:
        raise Refusal(codes.INVALID_REQUEST, _MALFORMED)
    rule = "expected {} or empty string, but received {}"
    _check_broker_name(world, name, rule, "Broker id")
    table = broker_configs()
    if name:
        known = [broker_entry(world, image, config) for config in table.values()]
        return known + _unknown_entries(image, name)
    return _unknown_entries(image, name) + [
        Entry(table[key], value, DYNAMIC_DEFAULT, [Synonym(key, value, DYNAMIC_DEFAULT)], False)
        for key, value in image.configs(RESOURCE_BROKER, "").items()
        if key in table
    ]


def _shown(response: Any, entry: Entry, request: Any) -> Any:
    secret = entry.config.kind in (PASSWORD, UNKNOWN)
    synonyms = entry.synonyms if request.include_synonyms else ()
    return response.DescribeConfigsResourceResult(
        name=entry.config.name,
        value=None if secret else entry.value,
        read_only=entry.read_only,
        config_source=entry.source,
        is_sensitive=secret,
        synonyms=[
            response.DescribeConfigsSynonym(s.name, None if secret else s.value, s.source)
            for s in synonyms
        ],
        config_type=entry.config.kind,
        documentation=entry.config.doc if request.include_documentation else None,
    )


def list_config_resources(world: World, request: Any, version: int) -> Decision:
    """Answer ListConfigResources. Version 0 asks for client metrics only, which are not kept."""
    from mqlog.protocol.list_config_resources import ListConfigResourcesResponse as Response

    yield from ()
    if version == 0:
        return Response()
    # topic, broker, broker logger, client metrics, group: what Kafka knows.
    known = (RESOURCE_TOPIC, RESOURCE_BROKER, 8, 16, 32)
    asked = request.resource_types or known
    if any(kind not in known for kind in asked):
        return Response(error_code=codes.UNSUPPORTED_VERSION)
    found = []
    if RESOURCE_BROKER in asked:
        found.append(Response.ConfigResource(str(world.node_id), RESOURCE_BROKER))
    if RESOURCE_TOPIC in asked:
        names = world.image().topic_names()
        found += [Response.ConfigResource(name, RESOURCE_TOPIC) for name in names]
    return Response(config_resources=found)
