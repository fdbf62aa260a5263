"""FindCoordinator: the only broker coordinates every group; the first to ask has its topic made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mqlog.broker import codes
from mqlog.broker.flow import Decision, Propose
from mqlog.broker.group_log import TOPIC
from mqlog.broker.topics import NewTopic, new_topic_id

if TYPE_CHECKING:
    from mqlog.broker.coordinator import Coordinator
    from mqlog.broker.world import World

KEY_GROUP, KEY_TRANSACTION = 0, 1
#: First version that asks for several keys.
_KEYS = 4


def find_coordinator(
    world: World,
    groups: Coordinator,
    request: Any,
    version: int,
    listener: str,
    local: tuple[str, int],
) -> Decision:
    """Answer FindCoordinator.

    librdkafka sends lz4 only to brokers that serve this. A transactional id gets an error that is
    fatal to every client: transactions are not served.
    """
    from mqlog.protocol.find_coordinator import FindCoordinatorResponse as Response

    node, (host, port) = world.node_id, world.reachable_at(listener, local)
    error, message = codes.NONE, ""
    if request.key_type == KEY_TRANSACTION:
        error, message = codes.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "No transactions here."
    elif request.key_type != KEY_GROUP:
        error = codes.INVALID_REQUEST
        message = codes.BAD_REQUEST
    elif not groups.attach(fresh=False):
        problem = yield Propose(_offsets_topic(world).records())
        if problem:
            error, message = codes.COORDINATOR_NOT_AVAILABLE, problem
        else:
            groups.attach(fresh=True)
    if error:
        node, host, port = -1, "", -1
    if version >= _KEYS:
        keys = request.coordinator_keys
        found = [Response.Coordinator(key, node, host, port, error, message) for key in keys]
        return Response(coordinators=found)
    # Kafka says NONE here, and nothing in later versions.
    return Response(0, error, message or "NONE", node, host, port)


def _offsets_topic(world: World) -> NewTopic:
    settings = world.settings
    count = settings.integer("offsets.topic.num.partitions")
    segment_bytes = settings.text("offsets.topic.segment.bytes")
    configs = {
        "cleanup.policy": "compact",
        "compression.type": "producer",
        "segment.bytes": segment_bytes,
    }
    return NewTopic(new_topic_id(world), TOPIC, [[world.node_id]] * count, configs)
