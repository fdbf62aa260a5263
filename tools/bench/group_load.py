"""Raw frames of group members over plain sockets, and the loop that drives many of them."""

from __future__ import annotations

import heapq
import select
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from mqlog import _native
from mqlog.protocol.heartbeat import HeartbeatRequest
from mqlog.protocol.join_group import JoinGroupRequest
from mqlog.protocol.leave_group import LeaveGroupRequest
from mqlog.protocol.offset_commit import OffsetCommitRequest
from mqlog.protocol.sync_group import SyncGroupRequest

COMMIT, HEARTBEAT, JOIN, LEAVE, SYNC = (8, 9), (12, 4), (11, 5), (13, 4), (14, 3)
REBALANCING, NEEDS_ID = 27, 79


def frame(api: tuple[int, int], message: object) -> bytes:
    """A request with its length."""
    body = _native.encode_request(*api, 1, "load", message)
    return struct.pack(">i", len(body)) + body


def commit_frame(
    group: str, partitions: Iterable[int], generation: int = -1, who: str = ""
) -> bytes:
    """An OffsetCommit of these partitions of topic `g`."""
    parts = [OffsetCommitRequest.OffsetCommitRequestPartition(i, 12345) for i in partitions]
    topic = OffsetCommitRequest.OffsetCommitRequestTopic("g", partitions=parts)
    return frame(COMMIT, OffsetCommitRequest(group, generation, who, topics=[topic]))


class Link:
    """A connection with at most one request in flight."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""

    def send(self, data: bytes) -> None:
        """Send a whole frame."""
        self.socket.sendall(data)

    def receive(self) -> bytes | None:
        """What has come of an answer; the whole of it without its length, or None."""
        got = self.socket.recv(1 << 20)
        if not got:
            raise SystemExit("the broker closed a connection")
        self._held += got
        if len(self._held) < 4 or len(self._held) < 4 + int.from_bytes(self._held[:4], "big"):
            return None
        answer, self._held = self._held[4:], b""
        return answer


class Load:
    """Many links in one loop."""

    def __init__(self, links: Sequence[Link]) -> None:
        self.links = links
        self._poll = select.epoll()
        self._at = {link.socket.fileno(): i for i, link in enumerate(links)}
        for fd in self._at:
            self._poll.register(fd, select.EPOLLIN)

    def close(self) -> None:
        """Close all links."""
        self._poll.close()
        for link in self.links:
            link.socket.close()

    def answers(self, timeout_s: float) -> list[tuple[int, bytes]]:
        """Index of the link and answer, of those that have come."""
        found = []
        for fd, _ in self._poll.poll(timeout_s):
            index = self._at[fd]
            answer = self.links[index].receive()
            if answer is not None:
                found.append((index, answer))
        return found

    def run(self, frames: Sequence[bytes], seconds: float) -> list[float]:
        """Each link asks again and again; latencies in seconds."""
        end = time.monotonic() + seconds
        return self._loop(frames, lambda done: time.monotonic() < end)

    def count(self, frames: Sequence[bytes], requests: int) -> None:
        """The same for a number of requests."""
        self._loop(frames, lambda done: done < requests - len(self.links))

    def _loop(self, frames: Sequence[bytes], more: Any) -> list[float]:
        sent = [time.monotonic()] * len(self.links)
        latencies: list[float] = []
        for link, data in zip(self.links, frames, strict=True):
            link.send(data)
        waiting = len(self.links)
        while waiting:
            for index, _ in self.answers(10):
                now = time.monotonic()
                latencies.append(now - sent[index])
                waiting -= 1
                if more(len(latencies)):
                    sent[index] = now
                    self.links[index].send(frames[index])
                    waiting += 1
        return latencies

    def paced(self, frames: Sequence[bytes], interval_s: float, seconds: float) -> list[float]:
        """Each link asks every `interval_s`; latencies from the moment it should have asked."""
        start = time.monotonic()
        step = interval_s / len(self.links)
        due = [(start + step * i, i) for i in range(len(self.links))]
        since: dict[int, float] = {}
        late: list[float] = []
        while due or since:
            now = time.monotonic()
            while due and due[0][0] <= now:
                at, index = heapq.heappop(due)
                since[index] = at
                self.links[index].send(frames[index])
            wait = max(0.0, min(0.5, due[0][0] - now)) if due else 0.5
            for index, _ in self.answers(wait):
                at = since.pop(index)
                late.append(time.monotonic() - at)
                if at + interval_s < start + seconds:
                    heapq.heappush(due, (at + interval_s, index))
        return late


class Member:
    """A member of a group, as far as joining goes."""

    def __init__(self, link: Link, group: str) -> None:
        self.link, self.group = link, group
        self.id, self.generation, self.leads = "", -1, False
        self.others: list[str] = []

    def heartbeat(self) -> bytes:
        """Its Heartbeat."""
        return frame(HEARTBEAT, HeartbeatRequest(self.group, self.generation, self.id))

    def commit(self, partitions: Iterable[int]) -> bytes:
        """Its OffsetCommit."""
        return commit_frame(self.group, partitions, self.generation, self.id)

    def leave(self) -> bytes:
        """Its LeaveGroup."""
        who = LeaveGroupRequest.MemberIdentity(self.id, None)
        return frame(LEAVE, LeaveGroupRequest(self.group, members=[who]))

    def _join(self) -> None:
        protocol = JoinGroupRequest.JoinGroupRequestProtocol("range", b"\0" * 100)
        asked = JoinGroupRequest(self.group, 60_000, 60_000, self.id, None, "consumer", [protocol])
        self.link.send(frame(JOIN, asked))

    def _sync(self, partitions: int) -> None:
        size = 8 * (partitions // max(1, len(self.others))) + 20
        given = [
            SyncGroupRequest.SyncGroupRequestAssignment(who, b"\0" * size) for who in self.others
        ]
        asked = SyncGroupRequest(self.group, self.generation, self.id, assignments=given)
        self.link.send(frame(SYNC, asked))

    @staticmethod
    def join_all(load: Load, members: Sequence[Member], partitions: int) -> None:
        """Join and sync, until all have their assignment."""
        state = dict.fromkeys(range(len(members)), JOIN)
        leaders_first = sorted(range(len(members)), key=lambda i: not members[i].leads)
        for index in leaders_first:
            members[index]._join()
        end = time.monotonic() + 120
        counts: dict[str, int] = defaultdict(int)
        while state:
            if time.monotonic() > end:
                raise SystemExit(f"{len(state)} of {len(members)} members do not settle")
            for index, answer in load.answers(1):
                member, api = members[index], state[index]
                _, body = _native.response_header(*api, answer)
                said = _native.decode("response", *api, answer[body:])
                if api == JOIN and said.error_code == 0:
                    member.id, member.generation = said.member_id, said.generation_id
                    member.leads = said.leader == said.member_id
                    member.others = [one.member_id for one in said.members]
                    state[index] = SYNC
                    member._sync(partitions)
                elif said.error_code == 0:
                    del state[index]
                    counts[member.group] += 1
                elif said.error_code in (NEEDS_ID, REBALANCING):
                    member.id = getattr(said, "member_id", "") or member.id
                    state[index] = JOIN
                    member._join()
                else:
                    raise SystemExit(f"error {said.error_code} for a member of {member.group}")
