"""InitProducerId for idempotent producers.

Ids come from blocks of 1,000. A block is marked as used in the metadata, durably, before its first
id is given out: what a crash loses is unused ids, never the knowledge of used ones.
"""

from __future__ import annotations

from typing import Any

from mqlog.broker import codes
from mqlog.broker.flow import Decision, Propose, producer_ids_record
from mqlog.broker.world import World

BLOCK = 1000


class ProducerIds:
    """The ids of the current block that are left."""

    def __init__(self) -> None:
        """Start without a block: the first request takes one."""
        self._next = self._end = 0

    def init_producer_id(self, world: World, request: Any) -> Decision:
        """Answer InitProducerId."""
        from mqlog.protocol.init_producer_id import InitProducerIdResponse as Response

        refused = _refusal(request)
        if refused:
            return Response(error_code=refused, producer_epoch=-1)
        while self._next == self._end:
            start = world.image().next_producer_id()
            error = yield Propose([producer_ids_record(start + BLOCK)])
            if error:
                return Response(error_code=codes.KAFKA_STORAGE_ERROR, producer_epoch=-1)
            self._next, self._end = start, start + BLOCK
        self._next += 1
        return Response(producer_id=self._next - 1, producer_epoch=0)

    @property
    def needs_block(self) -> bool:
        """Whether the next request has to propose."""
        return self._next == self._end


def _refusal(request: Any) -> int:
    if request.transactional_id is not None:
        if not request.transactional_id:
            return codes.INVALID_REQUEST
        # Fatal and not retriable for every client: transactions are not served.
        return codes.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    if (request.producer_id == -1) != (request.producer_epoch == -1):
        return codes.INVALID_REQUEST
    return codes.NONE
