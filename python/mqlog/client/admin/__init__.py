"""The administrator of a cluster, with kafka-python's methods and results."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from mqlog.client.admin.access import AccessAdmin
from mqlog.client.admin.cluster import ClusterAdmin
from mqlog.client.admin.configs import ConfigAdmin
from mqlog.client.admin.groups import GroupAdmin
from mqlog.client.admin.types import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    AlterConfigOp,
    ConfigFilterType,
    ConfigResource,
    ConfigResourceType,
    ConfigSourceType,
    ConfigType,
    ElectionType,
    GroupState,
    GroupType,
    IsolationLevel,
    MemberToRemove,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    OffsetTimestamp,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    ScramMechanism,
    UpdateFeatureType,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)
from mqlog.client.config import AdminConfig
from mqlog.client.native import connect
from mqlog.client.offsets import Coordinators

__all__ = [
    "ACL",
    "ACLFilter",
    "ACLOperation",
    "ACLPermissionType",
    "ACLResourcePatternType",
    "AlterConfigOp",
    "ConfigFilterType",
    "ConfigResource",
    "ConfigResourceType",
    "ConfigSourceType",
    "ConfigType",
    "ElectionType",
    "GroupState",
    "GroupType",
    "IsolationLevel",
    "KafkaAdminClient",
    "MemberToRemove",
    "NewPartitions",
    "NewTopic",
    "OffsetSpec",
    "OffsetTimestamp",
    "ResourcePattern",
    "ResourcePatternFilter",
    "ResourceType",
    "ScramMechanism",
    "UpdateFeatureType",
    "UserScramCredentialDeletion",
    "UserScramCredentialUpsertion",
]


class KafkaAdminClient(ClusterAdmin, ConfigAdmin, GroupAdmin, AccessAdmin):
    """Looks after topics, settings, groups and the cluster.

        with KafkaAdminClient(bootstrap_servers="localhost:9092") as admin:
            admin.create_topics([NewTopic("flights", num_partitions=6)])

    Settings are keywords, or a dict with Kafka's dotted names; `mqlog.client.config` lists them
    all. Making one connects: NoBrokersAvailable if nobody answers within `bootstrap_timeout_ms`
    (default 30 s). Methods wait for their answer within `default_api_timeout_ms` (60 s), or within
    `timeout_ms` where they take it; what a broker refuses raises the class of its code.
    """

    def __init__(self, configs: Mapping[str, Any] | None = None, /, **settings: Any) -> None:
        self._closed = True
        self._config = AdminConfig(configs, settings)
        self._native, self._driver = connect(self._config)
        self._coordinators = Coordinators()
        self._closed = False

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings in force, by name."""
        return self._config

    def close(self) -> None:
        """Closes the connections. Calls after it raise ClosedError."""
        if not self._closed:
            self._closed = True
            self._driver.close()
            self._native.close()

    def metrics(self) -> dict[str, Any]:
        """What the client counts, by name."""
        found: dict[str, Any] = self._native.metrics()
        return found

    def __enter__(self) -> KafkaAdminClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
