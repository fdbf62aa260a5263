"""Settings of topics, brokers and groups: describe, alter, reset."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mqlog.client.admin.base import AdminBase, check, plain
from mqlog.client.admin.types import (
    AlterConfigOp,
    ConfigFilterType,
    ConfigResource,
    ConfigResourceType,
    ConfigSourceType,
    ConfigType,
    one_of,
)
from mqlog.client.flow import Flow, gather
from mqlog.errors import KafkaError, UnsupportedVersionError
from mqlog.protocol.alter_configs import AlterConfigsRequest
from mqlog.protocol.describe_configs import DescribeConfigsRequest, DescribeConfigsResponse
from mqlog.protocol.incremental_alter_configs import IncrementalAlterConfigsRequest
from mqlog.protocol.list_config_resources import (
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)

#: The first version of DescribeConfigs with synonyms.
_SYNONYMS = 1
_OF_BROKER = (ConfigResourceType.BROKER, ConfigResourceType.BROKER_LOGGER)
_UNMODIFIED = (
    ConfigSourceType.DYNAMIC_DEFAULT_BROKER_CONFIG,
    ConfigSourceType.STATIC_BROKER_CONFIG,
    ConfigSourceType.DEFAULT_CONFIG,
)
#: Type of resource (in lower case), its name, and the settings or the outcome.
ByResource = dict[str, dict[str, Any]]


class ConfigAdmin(AdminBase):
    """The administrator's methods about settings."""

    def describe_configs(
        self,
        config_resources: Iterable[ConfigResource],
        include_synonyms: bool = False,
        config_filter: Any = "modified",
    ) -> ByResource:
        """Settings: {type: {name: {setting: {value, config_source, ...}}}}.

        `configs` of a resource names those wanted, None is all. `config_filter` is modified (not
        default), dynamic (can be altered), all, default or static.
        """
        resources = list(config_resources)
        wanted = one_of(ConfigFilterType, config_filter)
        return self._run(self._settings(resources, include_synonyms, wanted), "describing configs")

    def _settings(
        self, resources: Sequence[ConfigResource], synonyms: bool, wanted: ConfigFilterType
    ) -> Flow[ByResource]:
        def ask(node: Any, some: list[ConfigResource]) -> Flow[DescribeConfigsResponse]:
            request = DescribeConfigsRequest(
                [
                    DescribeConfigsRequest.DescribeConfigsResource(
                        one.resource_type,
                        one.name,
                        None if one.configs is None else list(one.configs),
                    )
                    for one in some
                ],
                synonyms,
            )
            return self._ask(request, node, oldest=_SYNONYMS)

        answers = yield from gather(ask(*item) for item in _by_node(resources).items())
        found: ByResource = defaultdict(dict)
        for answer in answers:
            for told in answer.results:
                kind = ConfigResourceType(told.resource_type)
                check(told.error_code, told.error_message, f"{kind.name} {told.resource_name!r}")
                settings = {config.name: _setting(config) for config in told.configs}
                found[kind.name.lower()][told.resource_name] = {
                    name: setting for name, setting in settings.items() if _shown(setting, wanted)
                }
        return dict(found)

    def list_config_resources(
        self, resource_types: Iterable[Any] | None = None
    ) -> dict[str, list[str]]:
        """The names of resources that have settings, by type; all types that the broker lists."""
        kinds = [int(one_of(ConfigResourceType, kind)) for kind in resource_types or []]
        flow = self._ask(ListConfigResourcesRequest(kinds), oldest=1 if kinds else 0)
        answer: ListConfigResourcesResponse = self._run(flow, "listing config resources")
        check(answer.error_code, about="listing config resources")
        found: dict[str, list[str]] = defaultdict(list)
        for one in answer.config_resources:
            kind = ConfigResourceType(one.resource_type)
            found[kind.name.lower()].append(one.resource_name)
        return dict(found)

    def alter_configs(
        self,
        config_resources: Iterable[ConfigResource],
        validate_only: bool = False,
        raise_on_unknown: bool = True,
        incremental: bool | None = None,
    ) -> ByResource:
        """Alters settings; others stay as they are.

        `configs` of a resource maps each setting to a value or to (AlterConfigOp, value). Returns
        {type: {name: "OK" or what was wrong}}. A setting that does not exist raises ValueError,
        unless `raise_on_unknown` is false. `incremental=False` uses the request of before Kafka
        2.3, which knows SET only; None picks what the broker speaks.
        """
        changes = [(one, _operations(one)) for one in config_resources]
        flow = self._alter(changes, validate_only, raise_on_unknown, incremental)
        return self._run(flow, "altering configs")

    def reset_configs(
        self,
        config_resources: Iterable[ConfigResource],
        validate_only: bool = False,
        raise_on_unknown: bool = True,
        incremental: bool | None = None,
    ) -> ByResource:
        """Gives settings their defaults: those named in `configs`, or all that were modified."""
        flow = self._reset(list(config_resources), validate_only, raise_on_unknown, incremental)
        return self._run(flow, "resetting configs")

    def _reset(
        self,
        resources: list[ConfigResource],
        validate_only: bool,
        raise_on_unknown: bool,
        incremental: bool | None,
    ) -> Flow[ByResource]:
        modified = yield from self._existing(resources, ConfigFilterType.MODIFIED)
        changes = [
            (one, _removals(one.configs or there))
            for one, there in zip(resources, modified, strict=True)
        ]
        return (yield from self._alter(changes, validate_only, raise_on_unknown, incremental))

    def _existing(
        self, resources: Sequence[ConfigResource], wanted: ConfigFilterType
    ) -> Flow[list[dict[str, Any]]]:
        """What each resource has now."""
        bare = [ConfigResource(one.resource_type, one.name) for one in resources]
        found = yield from self._settings(bare, False, wanted)
        return [found[one.resource_type.name.lower()][one.name] for one in bare]

    def _alter(
        self,
        changes: list[tuple[ConfigResource, _Operations]],
        validate_only: bool,
        raise_on_unknown: bool,
        incremental: bool | None,
    ) -> Flow[ByResource]:
        resources = [one for one, _ in changes]
        if raise_on_unknown:
            known = yield from self._existing(resources, ConfigFilterType.DYNAMIC)
            for (one, operations), there in zip(changes, known, strict=True):
                unknown = sorted(operations.keys() - there.keys())
                if unknown:
                    kind = one.resource_type.name.lower()
                    raise ValueError(f"{kind} {one.name!r} has no such settings: {unknown}")
        if incremental is not False:
            try:
                return (yield from self._send(changes, validate_only, _incremental))
            except UnsupportedVersionError:
                if incremental:
                    raise
        # The older request resets what it does not name, so all that is set goes along.
        modified = yield from self._existing(resources, ConfigFilterType.MODIFIED)
        whole = [
            (one, _merged(operations, there))
            for (one, operations), there in zip(changes, modified, strict=True)
        ]
        return (yield from self._send(whole, validate_only, _whole))

    def _send(
        self, changes: list[tuple[ConfigResource, _Operations]], validate_only: bool, build: Any
    ) -> Flow[ByResource]:
        operations = {id(one): change for one, change in changes}
        by_node = _by_node([one for one, _ in changes])
        answers = yield from gather(
            self._ask(build([(one, operations[id(one)]) for one in some], validate_only), node)
            for node, some in by_node.items()
        )
        found: ByResource = defaultdict(dict)
        for answer in answers:
            for told in answer.responses:
                kind = ConfigResourceType(told.resource_type).name.lower()
                error = KafkaError.of(told.error_code, told.error_message)
                said = f"{error.name}: {error}" if told.error_code else "OK"
                found[kind][told.resource_name] = said
        return dict(found)


_Operations = dict[str, tuple[AlterConfigOp, str | None]]


def _by_node(resources: Iterable[ConfigResource]) -> dict[Any, list[ConfigResource]]:
    """Whom to ask: each broker for its own settings, any for the others."""
    found: dict[Any, list[ConfigResource]] = defaultdict(list)
    for one in resources:
        if one.resource_type not in _OF_BROKER or not one.name:
            found["any"].append(one)
        else:
            try:
                found[int(one.name)].append(one)
            except ValueError:
                raise ValueError(f"broker {one.name!r}: its name is its node id") from None
    return found


def _setting(config: Any) -> dict[str, Any]:
    found = plain(config)
    del found["name"]
    found["config_source"] = _name(ConfigSourceType, config.config_source)
    found["config_type"] = _name(ConfigType, config.config_type)
    for synonym in found.get("synonyms", ()):
        synonym["source"] = _name(ConfigSourceType, synonym["source"])
    return found


def _name(kind: Any, value: int) -> str:
    return str(kind(value).name) if value in set(kind) else "UNKNOWN"


def _shown(setting: dict[str, Any], wanted: ConfigFilterType) -> bool:
    source = ConfigSourceType[setting["config_source"]]
    match wanted:
        case ConfigFilterType.DYNAMIC:
            return not setting["read_only"]
        case ConfigFilterType.MODIFIED:
            return source not in _UNMODIFIED
        case ConfigFilterType.DEFAULT:
            return source in _UNMODIFIED
        case ConfigFilterType.STATIC:
            return source is ConfigSourceType.STATIC_BROKER_CONFIG
    return True


def _operations(resource: ConfigResource) -> _Operations:
    configs = resource.configs or {}
    if not isinstance(configs, Mapping):
        raise TypeError("configs must be a dict of settings to values or (operation, value)")
    found: _Operations = {}
    for name, change in configs.items():
        operation, value = change if isinstance(change, tuple) else (AlterConfigOp.SET, change)
        kind = one_of(AlterConfigOp, operation)
        gone = kind is AlterConfigOp.DELETE or value is None
        found[name] = kind, None if gone else str(value)
    return found


def _removals(names: Iterable[str]) -> _Operations:
    return dict.fromkeys(names, (AlterConfigOp.DELETE, None))


def _merged(operations: _Operations, there: Mapping[str, Any]) -> _Operations:
    """What a resource shall have as a whole."""
    whole: _Operations = {
        name: (AlterConfigOp.SET, setting["value"])
        for name, setting in there.items()
        if setting["value"] is not None
    }
    for name, (operation, value) in operations.items():
        if operation is AlterConfigOp.DELETE:
            whole.pop(name, None)
        elif operation is AlterConfigOp.SET:
            whole[name] = operation, value
        else:
            raise ValueError(f"{name}: {operation.name} needs Kafka 2.3 or later")
    return whole


def _incremental(
    changes: list[tuple[ConfigResource, _Operations]], validate_only: bool
) -> IncrementalAlterConfigsRequest:
    kind = IncrementalAlterConfigsRequest
    return kind(
        [
            kind.AlterConfigsResource(
                one.resource_type,
                one.name,
                [
                    kind.AlterableConfig(name, int(operation), value)
                    for name, (operation, value) in operations.items()
                ],
            )
            for one, operations in changes
        ],
        validate_only,
    )


def _whole(
    changes: list[tuple[ConfigResource, _Operations]], validate_only: bool
) -> AlterConfigsRequest:
    kind = AlterConfigsRequest
    return kind(
        [
            kind.AlterConfigsResource(
                one.resource_type,
                one.name,
                [kind.AlterableConfig(name, value) for name, (_, value) in operations.items()],
            )
            for one, operations in changes
        ],
        validate_only,
    )
