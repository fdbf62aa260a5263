"""Producer ids: none is given twice, whatever fails, crashes and comes back."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mqlog.broker import producer_ids
from mqlog.protocol.init_producer_id import InitProducerIdRequest

from .fake import Broker, World

INIT_PRODUCER_ID = 22


class Ids(RuleBasedStateMachine):
    """Requests in bursts, proposals that fail, and crashes before and after they are durable."""

    def __init__(self) -> None:
        super().__init__()
        # So that a few requests need several blocks.
        self.small = mock.patch.object(producer_ids, "BLOCK", 3)
        self.small.start()
        self.broker = Broker()
        self.seen: set[int] = set()
        self.read: set[int] = set()

    @rule(count=st.sampled_from([1, 2, 4, 7]))
    def ask(self, count: int) -> None:
        for _ in range(count):
            self.broker.send(INIT_PRODUCER_ID, 4, InitProducerIdRequest(transactional_id=None))
        self.broker.step()

    @rule()
    def step(self) -> None:
        self.broker.step()

    @precondition(lambda self: self.broker.proposals)
    @rule(error=st.sampled_from([None, None, "no space left"]))
    def disk(self, error: str | None) -> None:
        [number] = self.broker.proposals
        self.broker.propose_done(number, error)

    @rule(durable=st.booleans())
    def crash(self, durable: bool) -> None:
        for number in list(self.broker.proposals):
            self.broker.propose_done(number, None if durable else "crashed")
        self.broker = Broker(self.broker.world)
        self.read = set()

    @invariant()
    def no_id_twice(self) -> None:
        assert len(self.broker.proposals) <= 1
        for token in self.broker.answers.keys() - self.read:
            self.read.add(token)
            answer = self.broker.answers[token]
            if answer.error_code:
                assert (answer.error_code, answer.producer_id) == (56, -1)
                continue
            assert answer.producer_epoch == 0
            assert answer.producer_id not in self.seen
            assert answer.producer_id < self.broker.world.held.next_producer_id()
            self.seen.add(answer.producer_id)

    def teardown(self) -> None:
        self.broker.finish()
        self.small.stop()
        assert self.broker.answers.keys() == self.broker.asked.keys()
        self.no_id_twice()


TestIds = Ids.TestCase
TestIds.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)


def test_ids_count_up_and_a_block_costs_one_proposal() -> None:
    broker = Broker()
    tokens = [
        broker.send(INIT_PRODUCER_ID, 4, InitProducerIdRequest(transactional_id=None))
        for _ in range(producer_ids.BLOCK)
    ]
    broker.step()
    assert broker.proposals == {1: [("producer_ids", producer_ids.BLOCK)]}
    broker.finish()
    assert [broker.answers[token].producer_id for token in tokens] == list(
        range(producer_ids.BLOCK)
    )
    assert broker.world.held.next_producer_id() == producer_ids.BLOCK


def test_a_full_disk_answers_and_the_next_request_tries_again() -> None:
    broker = Broker()
    first = broker.send(INIT_PRODUCER_ID, 4, InitProducerIdRequest(transactional_id=None))
    broker.step()
    broker.propose_done(1, "no space left")
    broker.step()
    assert broker.answers[first].error_code == 56
    answer = broker.call(INIT_PRODUCER_ID, 4, InitProducerIdRequest(transactional_id=None))
    assert (answer.error_code, answer.producer_id) == (0, 0)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (InitProducerIdRequest(transactional_id="t", transaction_timeout_ms=1), 53),
        (InitProducerIdRequest(transactional_id=""), 42),
        (InitProducerIdRequest(transactional_id=None, producer_id=1), 42),
        (InitProducerIdRequest(transactional_id=None, producer_epoch=1), 42),
    ],
)
def test_what_is_refused_takes_no_id(request_: InitProducerIdRequest, code: int) -> None:
    broker = Broker()
    answer = broker.call(INIT_PRODUCER_ID, 4, request_)
    assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (code, -1, -1)
    assert broker.world.held.next_producer_id() == 0


def test_an_old_producer_gets_a_new_id() -> None:
    # A client that lost its sequence asks with the id and epoch it had.
    broker = Broker(World())
    for wanted in (0, 1):
        asked = InitProducerIdRequest(transactional_id=None, producer_id=7, producer_epoch=3)
        answer = broker.call(INIT_PRODUCER_ID, 4, asked)
        assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (0, wanted, 0)
