"""What `mqlog config` asks of a cluster."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mqlog.cli import admin
from mqlog.cli.output import Row
from mqlog.connection import Api, Cluster, Connection
from mqlog.errors import MqlogError, UsageError
from mqlog.protocol.describe_configs import DescribeConfigsRequest, DescribeConfigsResponse
from mqlog.protocol.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

TOPIC, BROKER = 2, 4
SET, UNSET, APPEND, SUBTRACT = 0, 1, 2, 3
_TYPES = {
    1: "boolean",
    2: "string",
    3: "int",
    4: "short",
    5: "long",
    6: "double",
    7: "list",
    8: "class",
    9: "password",
}


class Resource(NamedTuple):
    """A topic, a broker, or (broker "") the default for all brokers."""

    kind: int
    name: str

    @property
    def text(self) -> str:
        """What people call it."""
        if self.kind == TOPIC:
            return f"topic {self.name!r}"
        return f"broker {self.name}" if self.name else "the cluster's default"


class Change(NamedTuple):
    """One setting and what is done to it."""

    operation: int
    name: str
    value: str | None


def this_broker(cluster: Cluster) -> int:
    """The id of the broker at the bootstrap address; of a cluster, whoever has that address."""
    brokers = cluster.metadata([]).brokers
    for broker in brokers:
        if f"{broker.host}:{broker.port}" == cluster.any.address or len(brokers) == 1:
            return broker.node_id
    raise UsageError(f"which broker? --broker ID: {', '.join(str(b.node_id) for b in brokers)}")


def _connection(cluster: Cluster, resource: Resource) -> Connection:
    """A broker's own settings are told by itself; all else by any."""
    if resource.kind != BROKER or not resource.name:
        return cluster.any
    metadata = cluster.metadata([])
    if int(resource.name) not in {broker.node_id for broker in metadata.brokers}:
        raise MqlogError(f"there is no broker {resource.name}")
    return cluster.node(int(resource.name), metadata)


def describe(cluster: Cluster, resource: Resource, names: Sequence[str] = ()) -> list[Row]:
    """One row a setting, by name; only `names` if there are any, which must exist."""
    asked = DescribeConfigsRequest.DescribeConfigsResource(resource.kind, resource.name, None)
    request = DescribeConfigsRequest(resources=[asked])
    connection = _connection(cluster, resource)
    answer = connection.call(Api.DESCRIBE_CONFIGS, request, DescribeConfigsResponse)
    rows: list[Row] = []
    for result in answer.results:
        admin.check(result.error_code, result.error_message, resource.text)
        rows += [
            {
                "setting": one.name,
                "value": "(hidden)" if one.is_sensitive else one.value,
                "set_by": admin.SOURCES.get(one.config_source, str(one.config_source)),
                "type": _TYPES.get(one.config_type),
                "read_only": one.read_only,
            }
            for one in sorted(result.configs, key=lambda one: one.name)
        ]
    if not names:
        return rows
    by_name = {str(row["setting"]): row for row in rows}
    refuse_unknown(resource, names, by_name)
    return [by_name[name] for name in names]


def refuse_unknown(resource: Resource, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise for a setting that the resource does not have, with the one it may be."""
    every = list(known)
    for name in names:
        if name not in every:
            near = difflib.get_close_matches(name, every, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"{resource.text} has no setting {name!r}{hint}")


def alter(
    cluster: Cluster, resource: Resource, changes: Sequence[Change], *, dry_run: bool
) -> None:
    """Change settings of one resource, all or none."""
    part = IncrementalAlterConfigsRequest.AlterableConfig
    asked = IncrementalAlterConfigsRequest.AlterConfigsResource(
        resource.kind,
        resource.name,
        [part(change.name, change.operation, change.value) for change in changes],
    )
    request = IncrementalAlterConfigsRequest([asked], validate_only=dry_run)
    connection = _connection(cluster, resource)
    answer = connection.call(
        Api.INCREMENTAL_ALTER_CONFIGS, request, IncrementalAlterConfigsResponse
    )
    for result in answer.responses:
        admin.check(result.error_code, result.error_message, f"cannot alter {resource.text}")
