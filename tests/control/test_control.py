"""The state machine under random requests, completions in any order, failures and crashes.

The model is a plain dictionary that takes requests one after the other, in the order in which they
arrived; that they really overlap, wait for the disk and are cut into slices must not show.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mqlog.protocol.create_partitions import CreatePartitionsRequest
from mqlog.protocol.create_topics import CreateTopicsRequest
from mqlog.protocol.delete_records import DeleteRecordsRequest
from mqlog.protocol.delete_topics import DeleteTopicsRequest
from mqlog.protocol.describe_topic_partitions import DescribeTopicPartitionsRequest
from mqlog.protocol.incremental_alter_configs import IncrementalAlterConfigsRequest
from mqlog.protocol.init_producer_id import InitProducerIdRequest
from mqlog.protocol.metadata import MetadataRequest

from .fake import Broker, World

METADATA, CREATE, DELETE, DELETE_RECORDS = 3, 19, 20, 21
INIT_PRODUCER_ID, CREATE_PARTITIONS, ALTER, DESCRIBE = 22, 37, 44, 75
#: Requests that take turns.
LANE = (METADATA, CREATE, DELETE, CREATE_PARTITIONS, ALTER)
DEFAULT_PARTITIONS = 2
STORAGE_ERROR = 56

NAMES = ["a", "b", "c", "x.y", "x_y", "__consumer_offsets"]
BAD_NAMES = ["", ".", "..", "a/b", "a\0", "ü", "n" * 250, "__cluster_metadata"]
names = st.sampled_from(NAMES * 3 + BAD_NAMES)
counts = st.sampled_from([-1, -1, 1, 2, 3, 0, -2, 10_001])


def name_code(name: str) -> int:
    """Kafka's rule for names."""
    if name in (".", "..") or not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name):
        return 17
    return 42 if name == "__cluster_metadata" else 0


class Model:
    """Topics with their number of partitions and `retention.ms`, changed by one thing at a time."""

    def __init__(self) -> None:
        self.topics: dict[str, tuple[int, str | None]] = {}

    def create_code(self, name: str, taken: set[str], partitions: int, replicas: int) -> int:
        if name_code(name):
            return name_code(name)
        if name in self.topics:
            return 36
        if any(other.replace(".", "_") == name.replace(".", "_") for other in taken):
            return 17
        if replicas < -1 or replicas == 0:
            return 38
        if partitions < -1 or partitions == 0:
            return 37
        if partitions > 10_000:
            return 44
        return 38 if replicas > 1 else 0

    def answer(self, api_key: int, request: Any, failed: bool) -> Any:
        """What a request must be answered with; what it changes is changed unless `failed`."""
        before = dict(self.topics)
        after, codes = getattr(self, f"_{_METHODS[api_key]}")(request)
        if failed:
            assert after != before, "only a change can fail"
            return {key: code or STORAGE_ERROR for key, code in codes.items()}
        self.topics = after
        return codes

    def _create(self, request: CreateTopicsRequest) -> Any:
        times = Counter(topic.name for topic in request.topics)
        after, codes = dict(self.topics), {}
        for topic in request.topics:
            name, wanted = topic.name, topic.num_partitions
            if times[name] > 1:
                codes[name] = 42
                continue
            codes[name] = self.create_code(name, set(after), wanted, topic.replication_factor)
            if codes[name] == 0:
                after[name] = (DEFAULT_PARTITIONS if wanted == -1 else wanted, None)
        return dict(self.topics) if request.validate_only else after, codes

    def _delete(self, request: DeleteTopicsRequest) -> Any:
        times = Counter(request.topic_names)
        after, codes = dict(self.topics), {}
        for name in times:
            codes[name] = 3 if name not in self.topics else 42 if times[name] > 1 else 0
            if codes[name] == 0:
                del after[name]
        return after, codes

    def _create_partitions(self, request: CreatePartitionsRequest) -> Any:
        times = Counter(topic.name for topic in request.topics)
        after, codes = dict(self.topics), {}
        for topic in request.topics:
            have, config = self.topics.get(topic.name, (0, None))
            if times[topic.name] > 1:
                codes[topic.name] = 42
            elif not have:
                codes[topic.name] = 3
            elif topic.count <= have:
                codes[topic.name] = 37
            elif topic.count > 10_000:
                codes[topic.name] = 44
            else:
                codes[topic.name] = 0
                after[topic.name] = (topic.count, config)
        return dict(self.topics) if request.validate_only else after, codes

    def _alter(self, request: IncrementalAlterConfigsRequest) -> Any:
        [resource] = request.resources
        [change] = resource.configs
        name, after = resource.resource_name, dict(self.topics)
        if name_code(name) == 17:
            return after, {name: 17 if name else 42}
        if name not in after:
            return after, {name: 3}
        if change.value == "soon":
            return after, {name: 40}
        after[name] = (after[name][0], change.value)
        return after, {name: 0}

    def _metadata(self, request: MetadataRequest) -> Any:
        after = dict(self.topics)
        for topic in request.topics or ():
            name = topic.name
            if name and self.create_code(name, set(after) - {name}, -1, -1) == 0:
                after.setdefault(name, (DEFAULT_PARTITIONS, None))
        return after, {}


_METHODS = {
    METADATA: "metadata",
    CREATE: "create",
    DELETE: "delete",
    CREATE_PARTITIONS: "create_partitions",
    ALTER: "alter",
}


def codes_of(api_key: int, answer: Any) -> dict[str, int]:
    """The answer as name to error code."""
    if api_key == METADATA:
        assert answer == "reply_metadata"
        return {}
    results = {CREATE: "topics", CREATE_PARTITIONS: "results"}.get(api_key, "responses")
    name = "resource_name" if api_key == ALTER else "name"
    found = [(str(getattr(one, name)), int(one.error_code)) for one in getattr(answer, results)]
    assert len(dict(found)) == len(found), "each name once"
    return dict(found)


class ControlPlane(RuleBasedStateMachine):
    """Clients that send whatever they like, and a disk that answers in any order."""

    def __init__(self) -> None:
        super().__init__()
        world = World(num_partitions=str(DEFAULT_PARTITIONS), log_retention_ms="0")
        self.broker = Broker(world)
        self.model = Model()
        self.start()

    def start(self) -> None:
        self.requests: dict[int, Any] = {}
        self.turn: list[int] = []
        self.failed: set[int] = set()
        self.read: set[int] = set()

    def send(self, api_key: int, version: int, request: Any) -> None:
        token = self.broker.send(api_key, version, request)
        self.requests[token] = request
        if api_key in LANE:
            self.turn.append(token)

    # -- requests ----------------------------------------------------------------------------------

    @rule(
        topics=st.lists(
            st.tuples(names, counts, st.sampled_from([-1, 1, 1, 0, 2, -3])), max_size=4
        ),
        validate_only=st.booleans(),
    )
    def create(self, topics: list[tuple[str, int, int]], validate_only: bool) -> None:
        made = [CreateTopicsRequest.CreatableTopic(*topic) for topic in topics]
        self.send(CREATE, 7, CreateTopicsRequest(made, 1000, validate_only))

    @rule(topics=st.lists(names, max_size=3))
    def delete(self, topics: list[str]) -> None:
        self.send(DELETE, 5, DeleteTopicsRequest(topic_names=topics))

    @rule(
        topics=st.lists(st.tuples(names, st.sampled_from([0, 2, 3, 4, 10_001])), max_size=3),
        validate_only=st.booleans(),
    )
    def create_partitions(self, topics: list[tuple[str, int]], validate_only: bool) -> None:
        asked = [CreatePartitionsRequest.CreatePartitionsTopic(*topic, None) for topic in topics]
        self.send(CREATE_PARTITIONS, 3, CreatePartitionsRequest(asked, 1000, validate_only))

    @rule(name=names, value=st.sampled_from(["5", "-1", "soon", None]))
    def alter(self, name: str, value: str | None) -> None:
        kind = IncrementalAlterConfigsRequest
        change = kind.AlterableConfig("retention.ms", 0 if value else 1, value)
        self.send(ALTER, 1, kind([kind.AlterConfigsResource(2, name, [change])]))

    @rule(topics=st.lists(st.sampled_from(NAMES + BAD_NAMES), max_size=4))
    def metadata(self, topics: list[str]) -> None:
        asked = [MetadataRequest.MetadataRequestTopic(name=name) for name in topics]
        self.send(METADATA, 12, MetadataRequest(asked))

    @rule()
    def init_producer_id(self) -> None:
        self.send(INIT_PRODUCER_ID, 4, InitProducerIdRequest(transactional_id=None))

    @rule(name=names)
    def delete_records(self, name: str) -> None:
        part = DeleteRecordsRequest.DeleteRecordsPartition(0, 3)
        topic = DeleteRecordsRequest.DeleteRecordsTopic(name, [part])
        self.send(DELETE_RECORDS, 2, DeleteRecordsRequest([topic]))

    @rule()
    def describe(self) -> None:
        self.send(DESCRIBE, 0, DescribeTopicPartitionsRequest(response_partition_limit=2000))

    @rule(api_key=st.sampled_from([CREATE, METADATA, ALTER, 999]))
    def rubbish(self, api_key: int) -> None:
        token = self.broker.send_bytes(api_key, 1, b"\xff\xff")
        self.broker.step()
        self.read.add(token)
        assert self.broker.answers[token] == "close"
        assert self.broker.errors.pop()

    # -- time, disk, crash -------------------------------------------------------------------------

    @rule()
    def step(self) -> None:
        self.broker.step()

    @rule(ms=st.sampled_from([1, 30_000, 300_000]))
    def time_passes(self, ms: int) -> None:
        self.broker.now_ms += ms

    @precondition(lambda self: self.broker.proposals)
    @rule(data=st.data(), error=st.sampled_from([None, None, None, "no space left"]))
    def proposal_done(self, data: st.DataObject, error: str | None) -> None:
        number = data.draw(st.sampled_from(sorted(self.broker.proposals)))
        ids_only = {record[0] for record in self.broker.proposals[number]} == {"producer_ids"}
        if error and not ids_only:
            # It is the turn of the oldest request that has no answer.
            self.failed.add(next(t for t in self.turn if t not in self.broker.answers))
        self.broker.propose_done(number, error)

    @precondition(lambda self: self.broker.files)
    @rule(data=st.data(), code=st.sampled_from([0, 1]))
    def files_done(self, data: st.DataObject, code: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.broker.files)))
        count = len(self.broker.files[number])
        self.broker.files_done(number, [(3, code, None)] * count)

    @rule(durable=st.booleans())
    def crash(self, durable: bool) -> None:
        """Nobody is answered any more; what was proposed is there or is not."""
        for number in list(self.broker.proposals):
            self.broker.propose_done(number, None if durable else "crashed")
        image = self.broker.world.held
        self.model.topics = {
            topic.name: (
                len(topic.partitions), image.configs(2, topic.name).get("retention.ms")
            )
            for topic in image.topics.values()
        }  # fmt: skip
        self.broker = Broker(self.broker.world)
        self.start()

    # -- what must hold ----------------------------------------------------------------------------

    @invariant()
    def proposals_of_a_lane_never_overlap(self) -> None:
        kinds = [
            {record[0] for record in records} == {"producer_ids"}
            for records in self.broker.proposals.values()
        ]
        assert kinds.count(True) <= 1
        assert kinds.count(False) <= 1

    @invariant()
    def answers_are_what_one_after_the_other_gives(self) -> None:
        new = self.broker.answers.keys() - self.read
        for token in self.turn:
            if token not in new:
                continue
            assert token == next(t for t in self.turn if t not in self.read), "out of turn"
            self.read.add(token)
            api_key, _ = self.broker.asked[token]
            wanted = self.model.answer(api_key, self.requests[token], token in self.failed)
            assert codes_of(api_key, self.broker.answers[token]) == wanted
        for token in new - self.read:
            self.read.add(token)
            self.check_look(token)

    def check_look(self, token: int) -> None:
        """Requests outside the lane are answered from the image of the moment."""
        answer = self.broker.answers[token]
        assert answer != "close"
        if self.broker.asked[token][0] == DESCRIBE:
            found = {topic.name: len(topic.partitions) for topic in answer.topics}
            topics = self.broker.images[token].topics.values()
            assert found == {topic.name: len(topic.partitions) for topic in topics}

    @invariant()
    def the_image_is_what_was_answered(self) -> None:
        """What a client was told is durable; only the request whose turn it is may be ahead."""
        image = self.broker.world.held
        shown = {
            topic.name: (len(topic.partitions), image.configs(2, topic.name).get("retention.ms"))
            for topic in image.topics.values()
        }
        if not self.broker.proposals and all(token in self.read for token in self.turn):
            assert shown == self.model.topics
        for topic in image.topics.values():
            assert topic.partitions, "a topic is there with its partitions or not at all"

    @invariant()
    def nothing_failed(self) -> None:
        assert self.broker.errors == []

    def teardown(self) -> None:
        self.broker.finish()
        self.answers_are_what_one_after_the_other_gives()
        assert self.broker.answers.keys() == self.broker.asked.keys(), "every request is answered"
        self.the_image_is_what_was_answered()
        assert self.broker.control.next_timer_ms(self.broker.now_ms) > 0


TestControlPlane = ControlPlane.TestCase
TestControlPlane.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
