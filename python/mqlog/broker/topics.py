"""CreateTopics, DeleteTopics, CreatePartitions, and topics made because a client asked for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from mqlog.broker import codes
from mqlog.broker.codes import Refusal
from mqlog.broker.configs import check_topic_configs, effective_broker, topic_entries
from mqlog.broker.flow import (
    PAUSE,
    RESOURCE_TOPIC,
    Decision,
    Propose,
    Record,
    config_record,
    partition_record,
    remove_topic_record,
    topic_record,
)
from mqlog.broker.names import check_name, collision_key
from mqlog.broker.world import Image, Topic, World

#: Topics handled before others get their turn.
SLICE = 32
#: Partitions one request may make, as in Kafka.
MAX_NEW_PARTITIONS = 10_000
MAX_PARTITIONS_PER_TOPIC = 10_000
_FORBIDDEN = frozenset({"__cluster_metadata"})
_ZERO_ID = bytes(16)
_BY_NAME_AND_ID = "The provided topic name maps to an ID that was already supplied."


class NewTopic(NamedTuple):
    """A topic that passed all checks."""

    topic_id: bytes
    name: str
    replicas: list[list[int]]
    configs: dict[str, str]

    def records(self) -> list[Record]:
        """Return what makes it."""
        made = [topic_record(self.topic_id, self.name)]
        made += [partition_record(self.topic_id, i, ids) for i, ids in enumerate(self.replicas)]
        pairs = self.configs.items()
        return made + [config_record(RESOURCE_TOPIC, self.name, k, v) for k, v in pairs]


class Names:
    """The names in use, and those of this request; finds collisions without a scan per topic."""

    def __init__(self, image: Image) -> None:
        """Start with the names in use."""
        self._image = image
        self._by_key: dict[str, str] | None = None

    def claim(self, name: str) -> None:
        """Take a name, or refuse it."""
        check_name(name)
        if name in _FORBIDDEN:
            text = f"Creation of internal topic {name} is prohibited."
            raise Refusal(codes.INVALID_REQUEST, text)
        if self._image.topic(name) is not None:
            text = f"Topic '{name}' already exists."
            raise Refusal(codes.TOPIC_ALREADY_EXISTS, text)
        if self._by_key is None:
            self._by_key = {collision_key(known): known for known in self._image.topic_names()}
        other = self._by_key.get(collision_key(name))
        if other is not None:
            text = f"Topic '{name}' collides with existing topic: {other}"
            raise Refusal(codes.INVALID_TOPIC_EXCEPTION, text)

    def keep(self, name: str) -> None:
        """Remember a name that was claimed."""
        if self._by_key is not None:
            self._by_key[collision_key(name)] = name


def create_topics(world: World, request: Any, version: int) -> Decision:
    """Answer CreateTopics: one proposal for all topics that can be made."""
    from mqlog.protocol.create_topics import CreateTopicsResponse as Response

    image = world.image()
    times = Counter(topic.name for topic in request.topics)
    names = Names(image)
    results: dict[str, Any] = {}
    new: list[NewTopic] = []
    budget = MAX_NEW_PARTITIONS
    for number, topic in enumerate(request.topics, 1):
        if number % SLICE == 0:
            yield PAUSE
        if topic.name in results:
            continue
        try:
            check_time(request)
            if times[topic.name] > 1:
                raise Refusal(codes.INVALID_REQUEST, "Duplicate topic name.")
            made = _check_topic(world, image, names, topic, budget)
        except Refusal as refusal:
            results[topic.name] = _refused(Response, topic.name, refusal)
            continue
        budget -= len(made.replicas)
        names.keep(topic.name)
        new.append(made)
        results[topic.name] = _created(Response, world, image, made, version)
    if new and not request.validate_only:
        error = yield Propose([record for topic in new for record in topic.records()])
        if error:
            failure = Refusal(codes.KAFKA_STORAGE_ERROR, error)
            results.update({t.name: _refused(Response, t.name, failure) for t in new})
    return Response(topics=list(results.values()))


def check_time(request: Any) -> None:
    """Refuse what has to be done before now."""
    if request.timeout_ms < 0:
        raise Refusal(codes.REQUEST_TIMED_OUT, None)


def _refused(response: Any, name: str, refusal: Refusal) -> Any:
    return response.CreatableTopicResult(
        name=name, error_code=refusal.code, error_message=refusal.message
    )


def _created(response: Any, world: World, image: Image, new: NewTopic, version: int) -> Any:
    configs = []
    if version >= 5:  # before, the answer has no room for them
        configs = [
            response.CreatableTopicConfigs(e.config.name, e.value, False, e.source, False)
            for e in topic_entries(world, image, new.configs)
        ]
    return response.CreatableTopicResult(
        name=new.name,
        topic_id=new.topic_id,
        error_message=None,
        num_partitions=len(new.replicas),
        replication_factor=len(new.replicas[0]),
        configs=configs,
    )


def _check_topic(world: World, image: Image, names: Names, topic: Any, budget: int) -> NewTopic:
    names.claim(topic.name)
    configs = {}
    for config in topic.configs:
        if config.value is None:
            text = f"Null value not supported for topic configs: {config.name}"
            raise Refusal(codes.INVALID_CONFIG, text)
        configs[config.name] = config.value
    check_topic_configs(world, image, configs)
    if topic.assignments:
        replicas = _manual(world, topic)
    else:
        replicas = _automatic(world, image, topic.num_partitions, topic.replication_factor, budget)
    if len(replicas) > budget:
        raise _too_many()
    return NewTopic(new_topic_id(world), topic.name, replicas, configs)


def new_topic_id(world: World) -> bytes:
    """Return an id whose text form does not begin with a dash, as in Kafka."""
    while True:
        topic_id = world.new_topic_id()
        # The first of its base64 digits is its top six bits; 62 is the dash. 0 and 1 are reserved.
        if topic_id[0] >> 2 != 62 and any(topic_id[:15]):
            return topic_id


def _too_many() -> Refusal:
    text = "Excessively large number of partitions per request."
    return Refusal(codes.POLICY_VIOLATION, text)


def _automatic(
    world: World, image: Image, partitions: int, factor: int, budget: int
) -> list[list[int]]:
    if partitions == -1:
        partitions = int(effective_broker(world, image, "num.partitions") or 1)
    if factor == -1:
        factor = int(effective_broker(world, image, "default.replication.factor") or 1)
    if factor <= 0:
        text = "Replication factor must be larger than 0, or -1 to use the default value."
        raise Refusal(codes.INVALID_REPLICATION_FACTOR, text)
    if partitions <= 0:
        text = "Number of partitions was set to an invalid non-positive value."
        raise Refusal(codes.INVALID_PARTITIONS, text)
    if partitions > budget:
        raise _too_many()
    if factor > 1:
        raise Refusal(
            codes.INVALID_REPLICATION_FACTOR,
            f"Unable to replicate the partition {factor} time(s): The target replication factor "
            f"of {factor} cannot be reached because only 1 broker(s) are registered.",
        )
    return [[world.node_id] for _ in range(partitions)]


def _manual(world: World, topic: Any) -> list[list[int]]:
    if topic.replication_factor != -1 or topic.num_partitions != -1:
        what = "replication factor" if topic.replication_factor != -1 else "number of partitions"
        text = f"A manual partition assignment was specified, but {what} was not set to -1."
        raise Refusal(codes.INVALID_REQUEST, text)
    found: dict[int, list[int]] = {}
    for assignment in topic.assignments:
        index = assignment.partition_index
        if index in found:
            text = f"Found multiple manual partition assignments for partition {index}"
            raise Refusal(codes.INVALID_REPLICA_ASSIGNMENT, text)
        check_replicas(world, assignment.broker_ids)
        found[index] = list(assignment.broker_ids)
    if sorted(found) != list(range(len(found))):
        text = "partitions should be a consecutive 0-based integer sequence"
        raise Refusal(codes.INVALID_REPLICA_ASSIGNMENT, text)
    return [found[index] for index in range(len(found))]


def check_replicas(world: World, ids: list[int]) -> None:
    """Refuse replicas that one broker cannot hold."""
    prefix = "The manual partition assignment includes"
    if not ids:
        raise Refusal(codes.INVALID_REPLICA_ASSIGNMENT, f"{prefix} an empty replica list.")
    for node in sorted(ids):
        if ids.count(node) > 1:
            text = f"{prefix} the broker {node} more than once."
            raise Refusal(codes.INVALID_REPLICA_ASSIGNMENT, text)
        if node != world.node_id:
            text = f"{prefix} broker {node}, but no such broker is registered."
            raise Refusal(codes.INVALID_REPLICA_ASSIGNMENT, text)


def auto_create(world: World, names: Iterable[str]) -> Decision:
    """Make the topics of a Metadata request that are missing; what cannot be made is left out."""
    image = world.image()
    if (effective_broker(world, image, "auto.create.topics.enable") or "").lower() != "true":
        return None
    taken, new = Names(image), []
    budget = MAX_NEW_PARTITIONS
    for number, name in enumerate(dict.fromkeys(names), 1):
        if number % SLICE == 0:
            yield PAUSE
        if image.topic(name) is not None:
            continue
        try:
            taken.claim(name)
            replicas = _automatic(world, image, -1, -1, budget)
        except Refusal:
            continue  # the answer is made from the image, which does not have it
        budget -= len(replicas)
        taken.keep(name)
        new.append(NewTopic(new_topic_id(world), name, replicas, {}))
    if new:
        yield Propose([record for topic in new for record in topic.records()])
    return None


def delete_topics(world: World, request: Any, version: int) -> Decision:
    """Answer DeleteTopics, by name or by id."""
    from mqlog.protocol.delete_topics import DeleteTopicsResponse as Response

    image = world.image()
    if version >= 6:
        asked = [(topic.name, topic.topic_id) for topic in request.topics]
    else:
        asked = [(name, _ZERO_ID) for name in request.topic_names]
    times = Counter(asked)
    found: dict[bytes, Any] = {}
    results = []
    for number, (name, topic_id) in enumerate(times, 1):
        if number % SLICE == 0:
            yield PAUSE
        result = Response.DeletableTopicResult(name=name, topic_id=topic_id)
        try:
            check_time(request)
            topic = _find(world, image, name, topic_id)
            what = "name" if name is not None else "id"
            if times[name, topic_id] > 1:
                raise Refusal(codes.INVALID_REQUEST, f"Duplicate topic {what}.")
            if topic.topic_id in found:
                # Once by name, once by id: refused, and told once.
                other = found[topic.topic_id]
                other.error_code = codes.INVALID_REQUEST
                other.error_message = _BY_NAME_AND_ID
                continue
            result.name, result.topic_id = topic.name, topic.topic_id
            found[topic.topic_id] = result
        except Refusal as refusal:
            result.error_code, result.error_message = refusal.code, refusal.message
        results.append(result)
    gone = {topic_id: one for topic_id, one in found.items() if not one.error_code}
    if gone:
        error = yield Propose([remove_topic_record(topic_id) for topic_id in gone])
        if error:
            for result in gone.values():
                result.error_code, result.error_message = codes.KAFKA_STORAGE_ERROR, error
    return Response(responses=results)


def _find(world: World, image: Image, name: str | None, topic_id: bytes) -> Topic:
    if (effective_broker(world, image, "delete.topic.enable") or "").lower() != "true":
        raise Refusal(codes.TOPIC_DELETION_DISABLED, "Topic deletion is disabled.")
    if name is not None and topic_id != _ZERO_ID:
        text = "You may not specify both topic name and topic id."
        raise Refusal(codes.INVALID_REQUEST, text)
    if name is None and topic_id == _ZERO_ID:
        raise Refusal(codes.INVALID_REQUEST, "Neither topic name nor id were specified.")
    topic = image.topic(name) if name is not None else image.topic_by_id(topic_id)
    if topic is not None:
        return topic
    if name is not None:
        raise Refusal(codes.UNKNOWN_TOPIC_OR_PARTITION, codes.NO_SUCH_TOPIC)
    raise Refusal(codes.UNKNOWN_TOPIC_ID, codes.NO_SUCH_TOPIC_ID)


def create_partitions(world: World, request: Any) -> Decision:
    """Answer CreatePartitions; every topic asked for is in the answer."""
    from mqlog.protocol.create_partitions import CreatePartitionsResponse as Response

    image = world.image()
    times = Counter(topic.name for topic in request.topics)
    results: dict[str, Any] = {}
    records: list[Record] = []
    budget = MAX_NEW_PARTITIONS
    for number, asked in enumerate(request.topics, 1):
        if number % SLICE == 0:
            yield PAUSE
        if asked.name in results:
            continue
        result = results[asked.name] = Response.CreatePartitionsTopicResult(asked.name)
        try:
            check_time(request)
            if times[asked.name] > 1:
                raise Refusal(codes.INVALID_REQUEST, "Duplicate topic name.")
            added = _more_partitions(world, image, asked, budget)
        except Refusal as refusal:
            result.error_code, result.error_message = refusal.code, refusal.message
            continue
        budget -= len(added)
        records += added
    if records and not request.validate_only:
        error = yield Propose(records)
        if error:
            for result in results.values():
                if not result.error_code:
                    result.error_code, result.error_message = codes.KAFKA_STORAGE_ERROR, error
    return Response(results=list(results.values()))


def _more_partitions(world: World, image: Image, asked: Any, budget: int) -> list[Record]:
    topic = image.topic(asked.name)
    if topic is None:
        raise Refusal(codes.UNKNOWN_TOPIC_OR_PARTITION, None)
    have = len(topic.partitions)
    if asked.count == have:
        raise Refusal(codes.INVALID_PARTITIONS, f"Topic already has {have} partition(s).")
    if asked.count < have:
        raise Refusal(
            codes.INVALID_PARTITIONS,
            f"The topic {asked.name} currently has {have} partition(s); {asked.count} would not "
            "be an increase.",
        )
    more = asked.count - have
    if more > budget or asked.count > MAX_PARTITIONS_PER_TOPIC:
        raise _too_many()
    replicas = [[world.node_id] for _ in range(more)]
    if asked.assignments is not None:
        if len(asked.assignments) != more:
            raise Refusal(
                codes.INVALID_REPLICA_ASSIGNMENT,
                f"Attempted to add {more} additional partition(s), but only "
                f"{len(asked.assignments)} assignment(s) were specified.",
            )
        replicas = [list(assignment.broker_ids) for assignment in asked.assignments]
        for ids in replicas:
            check_replicas(world, ids)
    return [partition_record(topic.topic_id, have + i, ids) for i, ids in enumerate(replicas)]
