"""What a scripted node answers when it behaves, API by API."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from mqlog.protocol import ZERO_UUID, response_class

from .scripted import Api, Cluster, Exchange, HangUp, Partition, Topic
from .scripted_sasl import MECHANISMS, Refused, Sasl

UNKNOWN_TOPIC_OR_PARTITION = 3
NOT_LEADER_OR_FOLLOWER = 6
NOT_COORDINATOR = 16
UNSUPPORTED_SASL_MECHANISM = 33
ILLEGAL_SASL_STATE = 34
TOPIC_ALREADY_EXISTS = 36
SASL_AUTHENTICATION_FAILED = 58
FETCH_SESSION_ID_NOT_FOUND = 70
INVALID_FETCH_SESSION_EPOCH = 71
FENCED_LEADER_EPOCH = 74
UNKNOWN_LEADER_EPOCH = 75
UNKNOWN_TOPIC_ID = 100

BEFORE_SASL = (Api.API_VERSIONS, Api.SASL_HANDSHAKE, Api.SASL_AUTHENTICATE)
TICK_S = 0.05


def answer(exchange: Exchange, *, dry: bool) -> Any:
    """The response; None if there is none. `dry`: its shape, with nothing done."""
    if not exchange.connection.authenticated and exchange.api not in BEFORE_SASL:
        raise HangUp
    with exchange.cluster.changed:
        return HANDLERS[exchange.api](exchange, dry)


def _empty(exchange: Exchange) -> Any:
    return response_class(exchange.api)()


def api_versions(exchange: Exchange, dry: bool) -> Any:
    response = _empty(exchange)
    part = type(response).ApiVersion
    response.api_keys = [
        part(key, low, high) for key, (low, high) in exchange.cluster.versions.items()
    ]
    return response


def metadata(exchange: Exchange, dry: bool) -> Any:
    cluster, request, response = exchange.cluster, exchange.request, _empty(exchange)
    kind = type(response)
    response.brokers = [
        kind.MetadataResponseBroker(node.id, *node.advertised) for node in cluster.nodes if node.up
    ]
    response.cluster_id, response.controller_id = cluster.cluster_id, 0
    everything = request.topics is None or (exchange.version == 0 and not request.topics)
    wanted = [(name, ZERO_UUID) for name in cluster.topics]
    if not everything:
        wanted = [(one.name, one.topic_id) for one in request.topics]
    for name, topic_id in wanted:
        found, topic = cluster.find(name, topic_id)
        if topic is None and cluster.auto_create and request.allow_auto_topic_creation and name:
            topic = cluster.create(name, cluster.auto_create)
        shown = kind.MetadataResponseTopic(name=found, topic_id=topic.id if topic else topic_id)
        if topic is None:
            shown.error_code = UNKNOWN_TOPIC_ID if topic_id != ZERO_UUID else 3
        else:
            shown.partitions = [
                kind.MetadataResponsePartition(
                    0, number, part.leader, part.epoch, [part.leader], [part.leader], []
                )
                for number, part in enumerate(topic.partitions)
            ]
        response.topics.append(shown)
    return response


def _lead(exchange: Exchange, topic: Topic | None, index: int) -> tuple[int, Partition | None]:
    """The partition, if this node leads it; else why not."""
    if topic is None or not 0 <= index < len(topic.partitions):
        return UNKNOWN_TOPIC_OR_PARTITION, None
    part = topic.partitions[index]
    if part.leader != exchange.node.id:
        return NOT_LEADER_OR_FOLLOWER, part
    return 0, part


def _hint(exchange: Exchange, shown: Any, response: Any, part: Partition) -> None:
    """KIP-951: who leads now, and where that node is."""
    if not exchange.cluster.hints:
        return
    shown.current_leader.leader_id = part.leader
    shown.current_leader.leader_epoch = part.epoch
    node = exchange.cluster.nodes[part.leader]
    response.node_endpoints = [type(response).NodeEndpoint(node.id, *node.advertised)]


def produce(exchange: Exchange, dry: bool) -> Any:
    request, response = exchange.request, _empty(exchange)
    kind = type(response)
    hint_from = 10
    for sent in request.topic_data:
        _, topic = exchange.cluster.find(sent.name, sent.topic_id)
        shown = kind.TopicProduceResponse(sent.name, sent.topic_id)
        for data in sent.partition_data:
            error, part = _lead(exchange, topic, data.index)
            base = -1
            if topic is None and sent.topic_id != ZERO_UUID:
                error = UNKNOWN_TOPIC_ID
            if not error and part is not None and not dry:
                error, base = part.log.append(data.records, part.epoch)
            made = kind.PartitionProduceResponse(data.index, error, base)
            if error == NOT_LEADER_OR_FOLLOWER and part is not None:
                if exchange.version >= hint_from:
                    _hint(exchange, made, response, part)
            elif part is not None:
                made.log_start_offset = part.log.start
            shown.partition_responses.append(made)
        response.responses.append(shown)
    exchange.cluster.changed.notify_all()
    return response if request.acks else None


# -- fetch -----------------------------------------------------------------------------------------


def fetch(exchange: Exchange, dry: bool) -> Any:
    """Waits as long as the request says if there is nothing to give."""
    request, response = exchange.request, _empty(exchange)
    error, session, wanted = _session(exchange)
    response.session_id = session
    if error:
        response.error_code = error
        return response
    deadline = time.monotonic() + request.max_wait_ms / 1000
    while True:
        ready = _fetch_all(exchange, response, wanted)
        left = deadline - time.monotonic()
        if ready or left <= 0 or dry or exchange.cluster.groups.closed:
            break
        exchange.cluster.changed.wait(min(left, TICK_S))
    if request.session_epoch > 0:  # an incremental answer leaves out what has nothing to say
        for topic in response.responses:
            topic.partitions = [one for one in topic.partitions if one.records or one.error_code]
        response.responses = [one for one in response.responses if one.partitions]
    return response


def _session(exchange: Exchange) -> tuple[int, int, list[tuple[str, bytes, Any]]]:
    """(error, session id, what is to be fetched)."""
    request, sessions = exchange.request, exchange.node.sessions
    named = [(one.topic, one.topic_id, part) for one in request.topics for part in one.partitions]
    usable = exchange.version >= 7 and exchange.cluster.sessions
    if request.session_epoch <= 0 or not usable:
        sessions.pop(request.session_id, None)
        if request.session_epoch < 0 or not usable:
            return 0, 0, named
        session = random.randrange(1, 1 << 31)
        sessions[session] = [1, {(name, tid, part.partition): part for name, tid, part in named}]
        return 0, session, named
    known = sessions.get(request.session_id)
    if known is None:
        return FETCH_SESSION_ID_NOT_FOUND, 0, []
    if known[0] != request.session_epoch:
        return INVALID_FETCH_SESSION_EPOCH, request.session_id, []
    known[0] += 1
    for name, topic_id, part in named:
        known[1][name, topic_id, part.partition] = part
    for gone in request.forgotten_topics_data:
        for index in gone.partitions:
            known[1].pop((gone.topic, gone.topic_id, index), None)
    return 0, request.session_id, [(name, tid, part) for (name, tid, _), part in known[1].items()]


def _fetch_all(exchange: Exchange, response: Any, wanted: list[tuple[str, bytes, Any]]) -> bool:
    """Fill the answer; whether there is a reason to send it now."""
    left, ready, topics = exchange.request.max_bytes, False, {}
    for name, topic_id, ask in wanted:
        shown = topics.setdefault(
            (name, topic_id), type(response).FetchableTopicResponse(name, topic_id)
        )
        made = _fetch_one(exchange, response, name, topic_id, ask, left)
        if made.records:
            left -= len(made.records)
            ready = True
        ready = ready or made.error_code != 0
        shown.partitions.append(made)
    response.responses = list(topics.values())
    return ready


def _fetch_one(
    exchange: Exchange, response: Any, name: str, topic_id: bytes, ask: Any, left: int
) -> Any:
    _, topic = exchange.cluster.find(name, topic_id)
    error, part = _lead(exchange, topic, ask.partition)
    made = type(response).PartitionData(ask.partition, error, -1)
    if topic is None and topic_id != ZERO_UUID:
        made.error_code = UNKNOWN_TOPIC_ID
    if part is None:
        return made
    if error:
        if exchange.version >= 16:
            _hint(exchange, made, response, part)
        return made
    if ask.current_leader_epoch >= 0 and ask.current_leader_epoch != part.epoch:
        older = ask.current_leader_epoch < part.epoch
        made.error_code = FENCED_LEADER_EPOCH if older else UNKNOWN_LEADER_EPOCH
        return made
    log = part.log
    made.high_watermark = made.last_stable_offset = log.end
    made.log_start_offset, made.aborted_transactions = log.start, None
    limit = min(ask.partition_max_bytes, left)
    made.error_code, made.records = log.read(ask.fetch_offset, limit) if left > 0 else (0, b"")
    return made


def list_offsets(exchange: Exchange, dry: bool) -> Any:
    response = _empty(exchange)
    kind = type(response)
    for asked in exchange.request.topics:
        shown = kind.ListOffsetsTopicResponse(asked.name)
        for ask in asked.partitions:
            _, topic = exchange.cluster.find(asked.name, ZERO_UUID)
            error, part = _lead(exchange, topic, ask.partition_index)
            made = kind.ListOffsetsPartitionResponse(ask.partition_index, error)
            if not error and part is not None:
                made.timestamp, made.offset = part.log.offset_for(ask.timestamp)
                if exchange.version >= 4:
                    made.leader_epoch = part.epoch
            shown.partitions.append(made)
        response.topics.append(shown)
    return response


def offset_for_leader_epoch(exchange: Exchange, dry: bool) -> Any:
    response = _empty(exchange)
    kind = type(response)
    for asked in exchange.request.topics:
        shown = kind.OffsetForLeaderTopicResult(asked.topic)
        for ask in asked.partitions:
            _, topic = exchange.cluster.find(asked.topic, ZERO_UUID)
            error, part = _lead(exchange, topic, ask.partition)
            made = kind.EpochEndOffset(error, ask.partition)
            if not error and part is not None:
                made.leader_epoch, made.end_offset = part.log.epoch_end(ask.leader_epoch)
            shown.partitions.append(made)
        response.topics.append(shown)
    return response


# -- producers, topics, groups ---------------------------------------------------------------------


def init_producer_id(exchange: Exchange, dry: bool) -> Any:
    response = _empty(exchange)
    cluster, request = exchange.cluster, exchange.request
    if request.producer_id >= 0 and request.producer_epoch < 32766:
        response.producer_id = request.producer_id
        response.producer_epoch = request.producer_epoch + 1
        return response
    response.producer_id, response.producer_epoch = cluster.next_producer_id, 0
    cluster.next_producer_id += 0 if dry else 1
    return response


def create_topics(exchange: Exchange, dry: bool) -> Any:
    response = _empty(exchange)
    for one in exchange.request.topics:
        made = type(response).CreatableTopicResult(name=one.name)
        if one.name in exchange.cluster.topics:
            made.error_code = TOPIC_ALREADY_EXISTS
        elif not dry and not exchange.request.validate_only:
            topic = exchange.cluster.create(one.name, max(one.num_partitions, 1))
            made.topic_id = topic.id if exchange.version >= 7 else ZERO_UUID
        response.topics.append(made)
    return response


def find_coordinator(exchange: Exchange, dry: bool) -> Any:
    response, cluster = _empty(exchange), exchange.cluster
    node = cluster.nodes[cluster.coordinator]
    host, port = node.advertised
    if exchange.version >= 4:
        response.coordinators = [
            type(response).Coordinator(key, node.id, host, port, 0, None)
            for key in exchange.request.coordinator_keys
        ]
    else:
        response.node_id, response.host, response.port = node.id, host, port
    return response


def _coordinates(exchange: Exchange, response: Any) -> bool:
    if exchange.cluster.coordinator == exchange.node.id:
        return True
    response.error_code = NOT_COORDINATOR
    return False


def _group(name: str, *, versioned: bool = False) -> Callable[[Exchange, bool], Any]:
    def handle(exchange: Exchange, dry: bool) -> Any:
        response = _empty(exchange)
        if dry or not _coordinates(exchange, response):
            return response
        method = getattr(exchange.cluster.groups, name)
        if versioned:
            return method(exchange.request, exchange.version, response)
        return method(exchange.request, response)

    return handle


def offset_commit(exchange: Exchange, dry: bool) -> Any:
    response, request, cluster = _empty(exchange), exchange.request, exchange.cluster
    kind = type(response)
    leads = cluster.coordinator == exchange.node.id
    error = cluster.groups.may_commit(request) if leads else NOT_COORDINATOR
    group = cluster.groups.group(request.group_id)
    for topic in request.topics:
        name, _ = cluster.find(topic.name, topic.topic_id)
        shown = kind.OffsetCommitResponseTopic(topic.name, topic.topic_id)
        for part in topic.partitions:
            if not error and not dry:
                group.offsets[name, part.partition_index] = (
                    part.committed_offset,
                    part.committed_leader_epoch,
                    part.committed_metadata,
                )
            shown.partitions.append(kind.OffsetCommitResponsePartition(part.partition_index, error))
        response.topics.append(shown)
    cluster.changed.notify_all()
    return response


def offset_fetch(exchange: Exchange, dry: bool) -> Any:
    response, request = _empty(exchange), exchange.request
    kind, leads = type(response), exchange.cluster.coordinator == exchange.node.id
    if exchange.version < 8:
        response.error_code = 0 if leads else NOT_COORDINATOR
        response.topics = _offsets(
            exchange,
            request.group_id,
            request.topics,
            kind.OffsetFetchResponseTopic,
            kind.OffsetFetchResponsePartition,
        )
        return response
    for group in request.groups:
        shown = kind.OffsetFetchResponseGroup(group.group_id)
        shown.error_code = 0 if leads else NOT_COORDINATOR
        shown.topics = _offsets(
            exchange,
            group.group_id,
            group.topics,
            kind.OffsetFetchResponseTopics,
            kind.OffsetFetchResponsePartitions,
        )
        response.groups.append(shown)
    return response


def _offsets(exchange: Exchange, group_id: str, topics: Any, topic_kind: Any, kind: Any) -> Any:
    cluster = exchange.cluster
    offsets = cluster.groups.group(group_id).offsets
    wanted: dict[str, tuple[Any, list[int]]] = {}
    if topics is None:
        for name, index in offsets:
            wanted.setdefault(name, (ZERO_UUID, []))[1].append(index)
    for one in topics or ():
        topic_id = getattr(one, "topic_id", ZERO_UUID)
        name, _ = cluster.find(one.name, topic_id)
        wanted[name] = (topic_id, one.partition_indexes)
    out = []
    for name, (topic_id, indexes) in wanted.items():
        shown = topic_kind(name=name)
        if topic_id != ZERO_UUID:
            shown.topic_id, shown.name = topic_id, ""
        for index in indexes:
            offset, epoch, text = offsets.get((name, index), (-1, -1, ""))
            shown.partitions.append(
                kind(index, offset, epoch if exchange.version >= 5 else -1, text)
            )
        out.append(shown)
    return out


# -- SASL ------------------------------------------------------------------------------------------


def sasl_handshake(exchange: Exchange, dry: bool) -> Any:
    response, users = _empty(exchange), exchange.cluster.users
    response.mechanisms = list(MECHANISMS)
    if users is None:
        response.error_code = ILLEGAL_SASL_STATE
    elif exchange.request.mechanism not in MECHANISMS:
        response.error_code = UNSUPPORTED_SASL_MECHANISM
    else:
        exchange.connection.sasl = Sasl(exchange.request.mechanism, users)
    return response


def sasl_authenticate(exchange: Exchange, dry: bool) -> Any:
    response, connection = _empty(exchange), exchange.connection
    response.error_message = None
    if connection.sasl is None:
        response.error_code = ILLEGAL_SASL_STATE
        return response
    try:
        response.auth_bytes = connection.sasl.step(exchange.request.auth_bytes)
    except Refused as refused:
        response.error_code, response.error_message = SASL_AUTHENTICATION_FAILED, str(refused)
    connection.authenticated = connection.sasl.done
    return response


HANDLERS: dict[int, Callable[[Exchange, bool], Any]] = {
    Api.PRODUCE: produce,
    Api.FETCH: fetch,
    Api.LIST_OFFSETS: list_offsets,
    Api.METADATA: metadata,
    Api.OFFSET_COMMIT: offset_commit,
    Api.OFFSET_FETCH: offset_fetch,
    Api.FIND_COORDINATOR: find_coordinator,
    Api.JOIN_GROUP: _group("join", versioned=True),
    Api.HEARTBEAT: _group("heartbeat"),
    Api.LEAVE_GROUP: _group("leave", versioned=True),
    Api.SYNC_GROUP: _group("sync"),
    Api.SASL_HANDSHAKE: sasl_handshake,
    Api.API_VERSIONS: api_versions,
    Api.CREATE_TOPICS: create_topics,
    Api.INIT_PRODUCER_ID: init_producer_id,
    Api.OFFSET_FOR_LEADER_EPOCH: offset_for_leader_epoch,
}
# Last, as it belongs to the connection more than to the cluster.
HANDLERS[Api.SASL_AUTHENTICATE] = sasl_authenticate

__all__ = ["HANDLERS", "Cluster", "answer"]
