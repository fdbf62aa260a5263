"""The cluster: its brokers, versions, features, disks and quorum."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from mqlog.client.admin.base import check, outcome, plain
from mqlog.client.admin.partitions import PartitionAdmin
from mqlog.client.admin.types import UpdateFeatureType, one_of
from mqlog.client.flow import Flow
from mqlog.client.structs import TopicPartitionReplica
from mqlog.errors import KafkaError, UnsupportedVersionError
from mqlog.protocol.alter_replica_log_dirs import AlterReplicaLogDirsRequest
from mqlog.protocol.api_versions import ApiVersionsRequest, ApiVersionsResponse
from mqlog.protocol.describe_cluster import DescribeClusterRequest, DescribeClusterResponse
from mqlog.protocol.describe_log_dirs import DescribeLogDirsRequest
from mqlog.protocol.describe_quorum import DescribeQuorumRequest, DescribeQuorumResponse
from mqlog.protocol.update_features import UpdateFeaturesRequest, UpdateFeaturesResponse

_FENCED = 2


class ClusterAdmin(PartitionAdmin):
    """The administrator's methods about the cluster."""

    def describe_cluster(self) -> dict[str, Any]:
        """Its `cluster_id`, `controller_id`, `brokers` and what this client may do with it."""
        return self._run(self._describe_cluster(), "describing the cluster")

    def _describe_cluster(self) -> Flow[dict[str, Any]]:
        def request(version: int) -> DescribeClusterRequest:
            return DescribeClusterRequest(
                include_cluster_authorized_operations=True,
                include_fenced_brokers=version >= _FENCED,
            )

        try:
            answer: DescribeClusterResponse = yield from self._ask(
                request, kind=DescribeClusterRequest
            )
        except UnsupportedVersionError:  # before Kafka 2.8
            found = yield from self._metadata([])
            del found["topics"], found["error_code"]
            for broker in found["brokers"]:
                broker["broker_id"] = broker.pop("node_id")
            return found
        check(answer.error_code, answer.error_message)
        found = plain(answer)
        for name in ("error_code", "error_message", "endpoint_type"):
            del found[name]
        return found

    def api_versions(self) -> dict[int, tuple[int, int]]:
        """The versions that a broker speaks, by API key."""
        answer = self._run(self._api_versions("any"), "asking for versions")
        return {one.api_key: (one.min_version, one.max_version) for one in answer.api_keys}

    def _api_versions(self, target: Any) -> Flow[ApiVersionsResponse]:
        request = ApiVersionsRequest("mqlog", "0")
        return self._ask(request, target, oldest=3)

    def describe_features(self, send_request_to_controller: bool = False) -> dict[str, Any]:
        """Features with their `supported` and `finalized` levels (lowest, highest), by name."""
        target = "controller" if send_request_to_controller else "any"
        answer = self._run(self._api_versions(target), "describing features")
        check(answer.error_code, about="describing features")
        epoch = answer.finalized_features_epoch
        found: dict[str, dict[str, Any]] = defaultdict(dict)
        for one in answer.supported_features:
            found[one.name]["supported"] = one.min_version, one.max_version
        for level in answer.finalized_features:
            levels = level.min_version_level, level.max_version_level
            found[level.name]["finalized"] = levels
            found[level.name]["finalized_epoch"] = epoch if epoch >= 0 else None
        return dict(found)

    def update_features(
        self,
        feature_updates: Mapping[str, Any],
        validate_only: bool = False,
        timeout_ms: float = 60_000,
    ) -> dict[str, str]:
        """Finalizes features: {name: level} or {name: (UpdateFeatureType, level)}; "OK" or text."""
        downgrades = (UpdateFeatureType.SAFE_DOWNGRADE, UpdateFeatureType.UNSAFE_DOWNGRADE)
        updates = []
        for name, how in feature_updates.items():
            kind, level = how if isinstance(how, tuple) else (UpdateFeatureType.UPGRADE, how)
            way = one_of(UpdateFeatureType, kind)
            updates.append((name, int(level), way))

        def request(version: int) -> UpdateFeaturesRequest:
            keys = [
                UpdateFeaturesRequest.FeatureUpdateKey(
                    name,
                    level,
                    allow_downgrade=version == 0 and way in downgrades,
                    upgrade_type=int(way) if version >= 1 else 1,
                )
                for name, level, way in updates
            ]
            return UpdateFeaturesRequest(int(timeout_ms), keys, validate_only)

        flow = self._ask_controller(
            request, lambda answer: [answer.error_code], kind=UpdateFeaturesRequest
        )
        answer: UpdateFeaturesResponse = self._run(flow, "updating features", timeout_ms)
        check(answer.error_code, answer.error_message, "updating features")
        told = {one.feature: one for one in answer.results}
        return {
            name: str(KafkaError.of(told[name].error_code, told[name].error_message))
            if name in told and told[name].error_code
            else "OK"
            for name in feature_updates
        }

    def describe_log_dirs(
        self, topic_partitions: Any = None, brokers: Iterable[int] | None = None
    ) -> list[dict[str, Any]]:
        """Data directories with the sizes of partitions, of these brokers or all.

        Of a dict of topics to partitions, of a list of topics, or of everything.
        """
        topics = None
        if topic_partitions is not None:
            kind = DescribeLogDirsRequest.DescribableLogDirTopic
            topics = [kind(*item) for item in self._topic_partitions(topic_partitions).items()]
        nodes = None if brokers is None else list(brokers)

        def flow() -> Flow[list[dict[str, Any]]]:
            asked = (yield from self._nodes()) if nodes is None else nodes
            answers = yield from self._at_nodes(asked, DescribeLogDirsRequest(topics))
            return [
                {"broker": node, "log_dirs": [plain(one) for one in answer.results]}
                for node, answer in zip(asked, answers, strict=True)
            ]

        return self._run(flow(), "describing log directories")

    def alter_replica_log_dirs(
        self, replica_assignments: Mapping[Any, str]
    ) -> dict[TopicPartitionReplica, type[KafkaError]]:
        """Moves replicas (topic, partition, broker_id) to other directories of their brokers."""
        nodes: dict[int, dict[str, dict[str, list[int]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        for replica, path in replica_assignments.items():
            topic, index, node = replica
            nodes[node][path][topic].append(index)
        kind = AlterReplicaLogDirsRequest

        def flow() -> Flow[dict[TopicPartitionReplica, type[KafkaError]]]:
            found: dict[TopicPartitionReplica, type[KafkaError]] = {}
            for node, paths in nodes.items():
                request = kind(
                    [
                        kind.AlterReplicaLogDir(
                            path,
                            [kind.AlterReplicaLogDirTopic(*item) for item in topics.items()],
                        )
                        for path, topics in paths.items()
                    ]
                )
                answer = yield from self._ask(request, node)
                for topic in answer.results:
                    for told in topic.partitions:
                        replica = TopicPartitionReplica(
                            topic.topic_name, told.partition_index, node
                        )
                        found[replica] = outcome(told.error_code)
            return found

        return self._run(flow(), "moving replicas between directories")

    def describe_metadata_quorum(self) -> dict[str, Any]:
        """The state of the controllers' quorum, of a cluster that has one (KRaft)."""
        kind = DescribeQuorumRequest
        request = kind([kind.TopicData("__cluster_metadata", [kind.PartitionData(0)])])
        answer: DescribeQuorumResponse = self._run(self._ask(request), "describing the quorum")
        check(answer.error_code, answer.error_message, "describing the quorum")
        found = plain(answer)
        del found["error_code"], found["error_message"]
        for topic in found["topics"]:
            for part in topic["partitions"]:
                code, message = part.pop("error_code"), part.pop("error_message")
                part["error"] = str(KafkaError.of(code, message)) if code else None
        return found
