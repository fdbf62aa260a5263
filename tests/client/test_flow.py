"""Flows and the driver that runs them, over a scripted native client."""

from __future__ import annotations

from typing import Any

import pytest

from mqlog.client.flow import Backoff, Call, Flow, Refresh, Sleep, gather, retrying
from mqlog.errors import (
    CoordinatorLoadInProgressError,
    KafkaConnectionError,
    KafkaError,
    KafkaProtocolError,
    KafkaTimeoutError,
    UnsupportedVersionError,
)
from mqlog.protocol.list_groups import ListGroupsRequest, ListGroupsResponse
from mqlog.protocol.metadata import MetadataRequest, MetadataResponse
from mqlog.protocol.offset_fetch import OffsetFetchRequest, OffsetFetchResponse

from .fake import FakeNative, Later, driver

FOREVER = 60_000


def ask(target: Any = "any") -> Flow[int]:
    answer: ListGroupsResponse = yield Call(ListGroupsRequest(), target)
    return answer.error_code


def test_a_call_is_answered() -> None:
    native = FakeNative(lambda request, target: ListGroupsResponse(error_code=target))
    assert driver(native).run(ask(7), FOREVER, "asking") == 7
    assert type(native.asked[0]) is ListGroupsRequest


def test_a_request_may_depend_on_the_version() -> None:
    def flow() -> Flow[Any]:
        return (
            yield Call(
                lambda version: OffsetFetchRequest(group_id=f"v{version}"),
                kind=OffsetFetchRequest,
            )
        )

    native = FakeNative(lambda request, _: OffsetFetchResponse(), newest={9: 5})
    driver(native).run(flow(), FOREVER, "asking")
    assert native.asked[0].group_id == "v5"


def test_what_fails_is_tried_again_with_back_off() -> None:
    errors = [KafkaConnectionError("gone"), KafkaConnectionError("gone"), None]
    seen = []

    def answer(request: Any, _: Any) -> ListGroupsResponse:
        error = errors.pop(0)
        if error:
            raise error
        return ListGroupsResponse()

    flow = retrying(ask, seen.append)
    assert driver(FakeNative(answer)).run(flow, FOREVER, "asking") == 0
    assert len(seen) == 2


def test_what_cannot_succeed_is_not_tried_again() -> None:
    def refuse(*_: Any) -> Any:
        raise KafkaError.of(30)

    native = FakeNative(refuse)
    with pytest.raises(KafkaError) as caught:
        driver(native).run(retrying(ask), FOREVER, "asking")
    assert caught.value.code == 30
    assert len(native.asked) == 1


def test_time_ends_in_an_error_that_tells_the_last() -> None:
    def refuse(*_: Any) -> Any:
        raise CoordinatorLoadInProgressError("it loads")

    with pytest.raises(KafkaTimeoutError) as caught:
        driver(FakeNative(refuse)).run(retrying(ask), 20, "finding it", "max_block_ms")
    assert str(caught.value) == "finding it took longer than 20 ms (max_block_ms); it loads"
    assert isinstance(caught.value.__cause__, CoordinatorLoadInProgressError)
    never = FakeNative(lambda *_: Later(ListGroupsResponse()))
    with pytest.raises(KafkaTimeoutError, match=r"^asking took longer than 0 ms"):
        driver(never).run(ask(), 0, "asking")


def test_several_go_on_at_once() -> None:
    first, second = Later(ListGroupsResponse(error_code=1)), Later(ListGroupsResponse(error_code=2))
    given = {1: first, 2: second}
    native = FakeNative(lambda _, target: given[target])
    runner = driver(native)
    task = runner.start(gather([ask(1), ask(2)]))
    second.release()
    assert not runner.wait(task, 2)
    assert len(native.asked) == 2
    first.release()
    assert runner.wait(task, FOREVER)
    assert task.result() == [1, 2]


def test_the_first_error_of_several_ends_all() -> None:
    def answer(_: Any, target: int) -> Any:
        if target == 2:
            raise KafkaError.of(30)
        return Later(ListGroupsResponse())

    closed = []

    def parked() -> Flow[None]:
        try:
            yield from ask(1)
        finally:
            closed.append(True)

    with pytest.raises(KafkaError):
        driver(FakeNative(answer)).run(gather([parked(), ask(2)]), FOREVER, "asking")
    assert closed


def test_a_task_goes_on_while_another_is_waited_for() -> None:
    parked = Later(ListGroupsResponse(error_code=5))
    native = FakeNative(lambda _, target: parked if target == 1 else ListGroupsResponse())
    runner = driver(native)
    task = runner.start(ask(1))
    assert not runner.wait(task, 0)
    parked.release()
    assert runner.run(ask(2), FOREVER, "asking") == 0
    assert task.done
    assert task.result() == 5


def test_a_flow_may_sleep_refresh_and_catch() -> None:
    def flow() -> Flow[str]:
        yield Sleep(1)
        found = yield Refresh(["t"])
        try:
            yield Call(MetadataRequest())
        except UnsupportedVersionError:
            yield Backoff(1, KafkaError())
        return str(found)

    def refuse(*_: Any) -> Any:
        raise UnsupportedVersionError

    native = FakeNative(refuse, metadata="snapshot")
    assert driver(native).run(flow(), FOREVER, "asking") == "snapshot"
    assert native.asked[0] == ("refresh", ["t"])


def test_garbage_and_what_no_version_carries_are_errors_of_the_flow() -> None:
    with pytest.raises(KafkaProtocolError, match="does not keep to the protocol"):
        driver(FakeNative(lambda *_: b"\0")).run(ask(), FOREVER, "asking")

    def by_topic() -> Flow[MetadataResponse]:
        return (yield Call(ListGroupsRequest(states_filter=["Empty"])))

    native = FakeNative(lambda *_: ListGroupsResponse(), newest={16: 3})
    with pytest.raises(UnsupportedVersionError, match="the broker speaks no newer one"):
        driver(native).run(by_topic(), FOREVER, "asking")


def test_a_defect_of_a_flow_is_raised_where_it_is_run() -> None:
    def flow() -> Flow[None]:
        yield "nonsense"  # type: ignore[misc]

    with pytest.raises(TypeError, match="a flow yielded 'nonsense'"):
        driver(FakeNative(lambda *_: None)).run(flow(), FOREVER, "asking")
