"""The control thread's state machine: events in, effects out, no I/O.

Events and effects are the tuples of `mqlog._native.Broker.poll` and `.submit`:

    ("request", token, api_key, version, client_id, body, peer, local, listener, arrival_ns)
    ("disconnected", token)   ("proposed", id, error)   ("files_done", id, [(value, code, message)])
    ("dir_offline", reason)
    ("loaded", id, error, offsets, groups, bytes)   ("trimmed", id, error)
    ("append_failed", topic_id, partition, reason)

    ("reply", token, body)   ("reply_metadata", token)   ("close", token)
    ("propose", id, records)   ("files", id, operations)   and those of `coordinator`

Requests of groups go to the coordinator, at once. Any other request becomes a `flow.Decision`.
Decisions that change the same metadata share a lane and take turns, so each sees what the one
before it did; all others run side by side. A step advances a bounded number of them, so a request
with 1,000 topics delays nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from mqlog.broker import (
    acls,
    cluster,
    configs,
    coordinator,
    features,
    quotas,
    reassign,
    records,
    retention,
    topics,
    transactions,
)
from mqlog.broker.coordinator import Coordinator
from mqlog.broker.find_coordinator import find_coordinator
from mqlog.broker.flow import Decision, FileResult, Files, Pause, Propose
from mqlog.broker.producer_ids import ProducerIds
from mqlog.broker.world import World

Event = tuple[Any, ...]
Effect = tuple[Any, ...]

METADATA, FIND_COORDINATOR = 3, 10
#: Decisions advanced in one step before the thread looks for new events.
ADVANCES_PER_STEP = 64
_METADATA_LANE, _PRODUCER_LANE = "metadata", "producer ids"


class Codec(NamedTuple):
    """Bytes to requests, responses to bytes: `mqlog._native`'s functions."""

    decode: Callable[[str, int, int, bytes], Any]
    encode: Callable[[str, int, int, Any], bytes]


class Request(NamedTuple):
    """A request as it arrived, its body decoded."""

    token: int
    api_key: int
    version: int
    client_id: str | None
    message: Any
    peer: tuple[str, int]
    local: tuple[str, int]
    listener: str

    def parked(self) -> Request:
        """Return what is needed of it to answer it later."""
        return Request(self.token, self.api_key, self.version, None, None, _NOBODY, _NOBODY, "")


_NOBODY = ("", 0)


class _Task:
    """A decision under way, and what to do with its result."""

    __slots__ = ("answer", "decision", "finish", "lane")

    def __init__(
        self, decision: Decision, finish: Callable[[Any], Effect | None], lane: str | None
    ) -> None:
        self.decision = decision
        self.finish = finish
        self.lane = lane
        self.answer: Any = None


class Control:
    """All decisions of one broker."""

    def __init__(
        self,
        world: World,
        codec: Codec,
        on_error: Callable[[str, BaseException], None] = lambda what, error: None,
    ) -> None:
        """`on_error` is told of requests that could not be decided; their connection is closed."""
        self._world = world
        self._codec = codec
        self._on_error = on_error
        self._producer_ids = ProducerIds()
        self.groups = Coordinator(world, codec, on_error)
        self._ready: deque[_Task] = deque()
        self._lanes: dict[str, deque[_Task]] = {_METADATA_LANE: deque(), _PRODUCER_LANE: deque()}
        self._waiting: dict[int, _Task] = {}
        self._last_id = 0
        self._retention_due_ms: int | None = None
        self._retention_runs = False
        self.offline: str | None = None

    @property
    def busy(self) -> bool:
        """Whether there is work that waits for no event: step again at once."""
        return bool(self._ready) or self.groups.busy

    def step(
        self, events: Iterable[Event], now_ms: int, horizon_ms: int | None = None
    ) -> list[Effect]:
        """Take in `events`, advance some decisions; `now_ms` is monotonic.

        All events that arrived before `horizon_ms` are in; no timer of a group that is due later
        fires.
        """
        effects: list[Effect] = []
        self.groups.begin(now_ms)
        for event in events:
            self._take(event, effects)
        self._fire_timers(now_ms)
        for _ in range(min(ADVANCES_PER_STEP, len(self._ready))):
            self._advance(self._ready.popleft(), effects)
        self.groups.finish(now_ms if horizon_ms is None else horizon_ms, effects)
        return effects

    def next_timer_ms(self, now_ms: int) -> int:
        """Return how long `step` has nothing to do if no event comes."""
        if self.busy:
            return 0
        due = [at for at in (self._retention_due_ms, self.groups.next_ms()) if at is not None]
        return max(0, min(60_000, min(due, default=now_ms + 1_000) - now_ms))

    # -- events ------------------------------------------------------------------------------------

    def _take(self, event: Event, effects: list[Effect]) -> None:
        match event:
            case ("request", token, key, version, client_id, body, peer, local, listener, _):
                try:
                    message = self._codec.decode("request", key, version, body)
                    request = Request(
                        token, key, version, client_id, message, peer, local, listener
                    )
                    if key in coordinator.APIS:
                        self.groups.request(request)
                    else:
                        self._start(self._task(request))
                except Exception as error:  # noqa: BLE001 - one request must not end the broker
                    self._fail(f"request {key} version {version} of {peer[0]}", error)
                    effects.append(("close", token))
            case ("proposed", number, error):
                self._resume(number, error)
            case ("files_done", number, results):
                self._resume(number, [FileResult(*result) for result in results])
            case ("loaded", number, error, offsets, groups, size):
                self.groups.loaded(number, error, offsets, groups, size)
            case ("trimmed", number, error):
                self.groups.trimmed(number, error)
            case ("append_failed", topic_id, partition, reason):
                self.groups.append_failed(topic_id, partition, reason)
            case ("dir_offline", reason):
                self.offline = reason
            case _:
                pass  # "disconnected": an answer to it is dropped by the other side

    def _start(self, task: _Task) -> None:
        if task.lane is not None:
            lane = self._lanes[task.lane]
            lane.append(task)
            if len(lane) > 1:
                return
        self._ready.append(task)

    def _resume(self, number: int, answer: Any) -> None:
        task = self._waiting.pop(number, None)
        if task is not None:
            task.answer = answer
            self._ready.append(task)

    def _fire_timers(self, now_ms: int) -> None:
        due_ms = self._retention_due_ms
        if self._retention_runs or (due_ms is not None and now_ms < due_ms):
            return
        interval = self._world.settings.integer("log.retention.check.interval.ms")
        if due_ms is None:
            self._retention_due_ms = now_ms + min(interval, 30_000)
            return
        self._retention_due_ms = now_ms + interval
        self._retention_runs = True
        self._start(_Task(retention.enforce(self._world), self._retention_done, None))

    def _retention_done(self, _result: Any) -> None:
        self._retention_runs = False

    # -- decisions ---------------------------------------------------------------------------------

    def _advance(self, task: _Task, effects: list[Effect]) -> None:
        answer, task.answer = task.answer, None
        try:
            asked = task.decision.send(answer)
        except StopIteration as done:
            self._finish(task, done.value, effects)
            return
        except Exception as error:  # noqa: BLE001 - one request must not end the broker
            self._fail("decision", error)
            self._finish(task, None, effects)
            return
        if isinstance(asked, Pause):
            self._ready.append(task)
            return
        self._last_id += 1
        self._waiting[self._last_id] = task
        if isinstance(asked, Propose):
            effects.append(("propose", self._last_id, asked.records))
        elif isinstance(asked, Files):
            effects.append(("files", self._last_id, asked.operations))

    def _finish(self, task: _Task, result: Any, effects: list[Effect]) -> None:
        effect = task.finish(result)
        if effect is not None:
            effects.append(effect)
        if task.lane is not None:
            lane = self._lanes[task.lane]
            lane.popleft()
            if lane:
                self._ready.append(lane[0])

    def _fail(self, what: str, error: BaseException) -> None:
        self._on_error(what, error)

    def _task(self, request: Request) -> _Task:
        if request.api_key == METADATA:
            names = [topic.name for topic in request.message.topics or () if topic.name]
            decision = topics.auto_create(self._world, names)
            return _Task(decision, lambda _: ("reply_metadata", request.token), _METADATA_LANE)
        decide, lane = _DECISIONS[request.api_key]
        if request.api_key == FIND_COORDINATOR and self.groups.attach(fresh=False):
            lane = None  # nothing to make: groups do not wait for administration
        return _Task(decide(self, request), lambda result: self._reply(request, result), lane)

    def _reply(self, request: Request, response: Any) -> Effect:
        if response is None:
            return ("close", request.token)
        try:
            body = self._codec.encode("response", request.api_key, request.version, response)
        except Exception as error:  # noqa: BLE001 - one request must not end the broker
            self._fail(f"response {request.api_key} version {request.version}", error)
            return ("close", request.token)
        return ("reply", request.token, body)


_Decide = Callable[[Control, Request], Decision]


def _plain(decide: Callable[[World, Any], Decision]) -> _Decide:
    return lambda control, request: decide(control._world, request.message)


def _versioned(decide: Callable[[World, Any, int], Decision]) -> _Decide:
    return lambda control, request: decide(control._world, request.message, request.version)


def _delete_topics(control: Control, request: Request) -> Decision:
    response = yield from topics.delete_topics(control._world, request.message, request.version)
    gone = [one.name for one in response.responses if one.name and not one.error_code]
    control.groups.topics_deleted(gone)
    return response


#: API key: who decides, and in which lane.
_DECISIONS: dict[int, tuple[_Decide, str | None]] = {
    10: (
        lambda control, request: find_coordinator(
            control._world,
            control.groups,
            request.message,
            request.version,
            request.listener,
            request.local,
        ),
        _METADATA_LANE,
    ),
    19: (_versioned(topics.create_topics), _METADATA_LANE),
    20: (_delete_topics, _METADATA_LANE),
    21: (_plain(records.delete_records_request), None),
    22: (
        lambda control, request: control._producer_ids.init_producer_id(
            control._world, request.message
        ),
        _PRODUCER_LANE,
    ),
    29: (_plain(acls.describe_acls), None),
    30: (_plain(acls.create_acls), None),
    31: (_plain(acls.delete_acls), None),
    32: (_plain(configs.describe_configs), None),
    33: (_plain(configs.alter_configs), _METADATA_LANE),
    34: (_plain(reassign.alter_replica_log_dirs), None),
    35: (_plain(cluster.describe_log_dirs), None),
    37: (_plain(topics.create_partitions), _METADATA_LANE),
    43: (_versioned(reassign.elect_leaders), None),
    44: (_plain(configs.incremental_alter_configs), _METADATA_LANE),
    45: (_plain(reassign.alter_partition_reassignments), None),
    46: (_plain(reassign.list_partition_reassignments), None),
    48: (_plain(quotas.describe_client_quotas), None),
    49: (_plain(quotas.alter_client_quotas), _METADATA_LANE),
    50: (_plain(acls.describe_scram_credentials), None),
    55: (
        lambda control, request: features.describe_quorum(
            control._world, request.message, request.version, request.listener, request.local
        ),
        None,
    ),
    57: (_versioned(features.update_features), None),
    60: (
        lambda control, request: cluster.describe_cluster(
            control._world, request.message, request.listener, request.local
        ),
        None,
    ),
    61: (_plain(cluster.describe_producers), None),
    64: (_plain(features.unregister_broker), None),
    65: (_plain(transactions.describe_transactions), None),
    66: (_plain(transactions.list_transactions), None),
    74: (_versioned(configs.list_config_resources), None),
    75: (_plain(cluster.describe_topic_partitions), None),
}
