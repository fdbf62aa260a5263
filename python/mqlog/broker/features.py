"""UpdateFeatures, DescribeQuorum, UnregisterBroker: a cluster of one broker.

The broker is its own quorum, and its one feature stands at the one level it knows; ApiVersions
tells the same (`features.rs` of the server).
"""

from __future__ import annotations

from typing import Any

from mqlog.broker import codes
from mqlog.broker.codes import Refusal
from mqlog.broker.flow import Decision
from mqlog.broker.world import World

METADATA_VERSION = "metadata.version"
#: Kafka's number for 4.3-IV0.
LEVEL = 30
UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE = 1, 2, 3
_METADATA_TOPIC = "__cluster_metadata"
#: The broker leads its own metadata from the start, in one epoch.
_EPOCH = 1


def update_features(world: World, request: Any, version: int) -> Decision:
    """Answer UpdateFeatures: nothing can change, so only what is asked to stay succeeds."""
    from mqlog.protocol.update_features import UpdateFeaturesResponse as Response

    yield from ()
    try:
        for update in request.feature_updates:
            _check_update(world, update, version)
    except Refusal as refusal:
        text = (
            "The update failed for all features since the following feature had an error: "
            f"{refusal.message}"
        )
        return Response(error_code=refusal.code, error_message=text)
    same = [
        Response.UpdatableFeatureResult(update.feature, codes.NONE, "NONE")
        for update in request.feature_updates
    ]
    return Response(error_message=None, results=same if version <= 1 else [])


def _check_update(world: World, update: Any, version: int) -> None:
    level, name = update.max_version_level, update.feature

    def refused(why: str) -> Refusal:
        text = f"Invalid update version {level} for feature {name}. {why}"
        return Refusal(codes.INVALID_UPDATE_VERSION, text)

    known = UPGRADE if version == 0 else update.upgrade_type
    if known not in (UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE):
        raise refused("The controller does not support the given upgrade type.")
    if name != METADATA_VERSION:
        if level == 0:
            raise refused(f"Feature {name} not found.")
        raise refused(f"Local controller {world.node_id} does not support this feature.")
    if level < 0:
        raise refused("A feature version cannot be less than 0.")
    if level != LEVEL:
        raise refused(f"Local controller {world.node_id} only supports versions {LEVEL}-{LEVEL}")


def describe_quorum(
    world: World, request: Any, version: int, listener: str, local: tuple[str, int]
) -> Decision:
    """Answer DescribeQuorum: the broker is the only voter, and caught up with itself."""
    from mqlog.protocol.describe_quorum import DescribeQuorumResponse as Response

    yield from ()
    asked = [(topic.topic_name, [p.partition_index for p in topic.partitions])
             for topic in request.topics]  # fmt: skip
    response = Response()
    if asked != [(_METADATA_TOPIC, [0])]:
        text = codes.NO_SUCH_TOPIC
        for name, indexes in asked:
            parts = [
                Response.PartitionData(index, codes.UNKNOWN_TOPIC_OR_PARTITION, text)
                for index in indexes
            ]
            response.topics.append(Response.TopicData(name, parts))
        return response
    end, now = world.metadata_end(), world.now_ms()
    voter = Response.ReplicaState(world.node_id, log_end_offset=end)
    voter.last_fetch_timestamp = voter.last_caught_up_timestamp = now
    part = Response.PartitionData(
        leader_id=world.node_id, leader_epoch=_EPOCH, high_watermark=end, current_voters=[voter]
    )
    response.topics = [Response.TopicData(_METADATA_TOPIC, [part])]
    if version >= 2:
        host, port = world.reachable_at(listener, local)
        node = Response.Node(world.node_id, [Response.Listener(listener, host, port)])
        response.nodes = [node]
    return response


def unregister_broker(world: World, request: Any) -> Decision:
    """Answer UnregisterBroker: the broker that answers cannot be taken away."""
    from mqlog.protocol.unregister_broker import UnregisterBrokerResponse as Response

    yield from ()
    if request.broker_id == world.node_id:
        text = f"Broker ID {world.node_id} is the only broker of this cluster and is serving it"
        return Response(error_code=codes.INVALID_REQUEST, error_message=text)
    text = f"Broker ID {request.broker_id} is not currently registered"
    return Response(error_code=codes.BROKER_ID_NOT_REGISTERED, error_message=text)
