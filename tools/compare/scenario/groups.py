"""Groups: members, generations, what is committed, and looking after them."""

from __future__ import annotations

import struct
from typing import Any

from codec import VERSIONS
from peer import Peer


def subscription(*topics: str, data: bytes = b"") -> bytes:
    """What a consumer says when it joins. Kafka opens it, and a group hangs that it cannot open."""
    named = b"".join(struct.pack(">h", len(name)) + name.encode() for name in topics)
    head = struct.pack(">hi", 0, len(topics))
    return head + named + struct.pack(">i", len(data)) + data


TWO = (("range", subscription(data=b"range")), ("other", subscription(data=b"other")))


def run(peer: Peer) -> None:
    """All steps about groups."""
    find(peer)
    for version in VERSIONS["JoinGroup"]:
        life(peer, version)
    for version in (5, 7, 9):
        static(peer, version)
        pair(peer, version)
    refused(peer)
    admin(peer)
    subscribed(peer)


def ready(peer: Peer, group: str) -> str:
    """A group of this run whose coordinator serves."""
    full = peer.named(group)

    def serves() -> bool:
        found = peer.ask("FindCoordinator", 3, key=full, key_type=0)
        if found["error_code"]:
            return False
        return not peer.ask("OffsetFetch", 5, group_id=full, topics=None)["error_code"]

    peer.settle(f"the coordinator of {full}", serves)
    return full


def find(peer: Peer) -> None:
    """FindCoordinator."""
    ready(peer, "find")
    for version in VERSIONS["FindCoordinator"]:

        def step(label: str, *keys: str, kind: int = 0, at: int = version) -> None:
            named = {"coordinator_keys": list(keys)} if at >= 4 else {"key": keys[0]}
            peer.step(f"find {label}", "FindCoordinator", at, key_type=kind, **named)

        step("a group", peer.named("find"))
        step("a group without a name", "")
        if version >= 1:
            step("of an unknown kind", peer.named("find"), kind=9)
            step("of a share", "not:a-share", kind=2)
        if version >= 4:
            step("two, one twice", peer.named("find"), "other", "other")
            step("none")


def joins(group: str, **values: Any) -> dict[str, Any]:
    """A JoinGroup of any version."""
    protocols = [{"name": name, "metadata": data} for name, data in values.pop("offers", TWO)]
    return {
        "group_id": group,
        "session_timeout_ms": 30_000,
        "rebalance_timeout_ms": 20_000,
        "member_id": "",
        "protocol_type": "consumer",
        "protocols": protocols,
        **values,
    }


def capped(api: str, version: int) -> int:
    """The version of another API that a client of that age would use."""
    return min(max(version, VERSIONS[api].start), VERSIONS[api].stop - 1)


def enter(peer: Peer, label: str, version: int, group: str, **values: Any) -> dict[str, Any]:
    """Join as a client does: with the id it is given, where it is given one."""
    told = peer.step(f"join {label}", "JoinGroup", version, **joins(group, **values))
    if told.get("error_code") == 79:
        values["member_id"] = told["member_id"]
        label = f"join {label}, with its id"
        told = peer.step(label, "JoinGroup", version, **joins(group, **values))
    return told


def life(peer: Peer, version: int) -> None:
    """One member, from its first join to its leaving, and what others are told meanwhile."""
    group = ready(peer, f"life-{version}")
    topic = f"{peer.token}-committed"
    if version == VERSIONS["JoinGroup"].start:
        peer.make_topic("committed", 3)
    sync, beat, leave, commit = (
        capped(api, version) for api in ("SyncGroup", "Heartbeat", "LeaveGroup", "OffsetCommit")
    )
    commit = min(commit + 1, 10)
    told = enter(peer, "alone", version, group)
    me, generation = told.get("member_id", ""), told.get("generation_id", -1)
    one = {"group_id": group, "generation_id": generation, "member_id": me}
    given = [{"member_id": me, "assignment": b"all"}]

    def synced(label: str, **values: Any) -> None:
        peer.step(f"sync {label}", "SyncGroup", sync, **{**one, "assignments": [], **values})

    def beats(label: str, **values: Any) -> None:
        peer.step(f"heartbeat {label}", "Heartbeat", beat, **{**one, **values})

    def commits(label: str, parts: dict[int, int], **values: Any) -> None:
        name = values.pop("topic", topic)
        listed = [
            {"partition_index": i, "committed_offset": at, "committed_metadata": f"m{at}"}
            for i, at in parts.items()
        ]
        known = {"name": name, "topic_id": peer.ids.get(name, b"\x07" * 16), "partitions": listed}
        who = {"group_id": group, "generation_id_or_member_epoch": generation, "member_id": me}
        asked = {**who, "topics": [known], **values}
        peer.step(f"commit {label}", "OffsetCommit", commit, **asked)

    beats("before it syncs")
    commits("before it syncs", {0: 1})
    synced("of another generation", generation_id=generation + 1, assignments=given)
    synced("of a stranger", member_id="nobody", assignments=given)
    if sync >= 5:
        synced("of another kind", protocol_type="connect", protocol_name="range")
        synced("of another protocol", protocol_type="consumer", protocol_name="unknown")
    synced("of the leader", assignments=given, protocol_type="consumer", protocol_name="range")
    synced("again", protocol_type="consumer", protocol_name="range")
    beats("of a member")
    beats("of another generation", generation_id=generation + 1)
    beats("of a stranger", member_id="nobody")
    beats("of no such group", group_id=peer.named("no-group"))
    commits("of a member", {0: 10, 1: 11})
    commits("of another generation", {0: 20}, generation_id_or_member_epoch=generation + 1)
    commits("of a stranger", {0: 20}, member_id="nobody")
    commits("of nobody", {0: 20}, member_id="", generation_id_or_member_epoch=-1)
    commits("of an unknown topic", {0: 5}, topic=peer.named("nobody"))
    commits("of an unknown partition", {9: 5, 2: 12})
    commits("of nothing", {})
    for at in VERSIONS["OffsetFetch"]:
        if capped("OffsetFetch", version + 1) == at or version == 9:
            fetched(peer, at, group, topic, "of a member")
    described(peer, capped("DescribeGroups", version), group, "with a member")
    peer.step("delete it with a member", "DeleteGroups", min(version, 2), groups_names=[group])
    again = joins(group, member_id=me, offers=(("range", subscription(data=b"new")),))
    peer.step("join again", "JoinGroup", version, **again)
    beats("of the old generation")
    left = {"members": [{"member_id": "nobody"}]} if leave >= 3 else {"member_id": "nobody"}
    peer.step("leave as a stranger", "LeaveGroup", leave, group_id=group, **left)
    left = {"members": [{"member_id": me}]} if leave >= 3 else {"member_id": me}
    peer.step("leave", "LeaveGroup", leave, group_id=group, **left)
    peer.step("leave again", "LeaveGroup", leave, group_id=group, **left)
    peer.step("leave no group", "LeaveGroup", leave, **{**left, "group_id": peer.named("none")})
    described(peer, capped("DescribeGroups", version), group, "when empty")
    commits("of nobody when empty", {0: 30}, member_id="", generation_id_or_member_epoch=-1)
    fetched(peer, capped("OffsetFetch", version + 1), group, topic, "when empty")
    peer.step("delete it", "DeleteGroups", min(version, 2), groups_names=[group])
    described(peer, capped("DescribeGroups", version), group, "when gone")


def fetched(peer: Peer, version: int, group: str, topic: str, label: str) -> None:
    """OffsetFetch of one version: some, all, and of nobody."""

    def step(what: str, name: str, topics: Any) -> None:
        if version >= 8:
            one = {"group_id": name, "member_epoch": -1, "topics": topics}
            values: dict[str, Any] = {"groups": [one]}
        else:
            values = {"group_id": name, "topics": topics}
        peer.step(f"fetch {what} {label}", "OffsetFetch", version, **values)

    known = {"name": topic, "partition_indexes": [0, 1, 2, 7]}
    other = {"name": peer.named("nobody"), "partition_indexes": [0]}
    if version >= 8:
        known["topic_id"], other["topic_id"] = peer.ids[topic], b"\x07" * 16
    step("some", group, [known, other])
    step("of no partitions", group, [{**known, "partition_indexes": []}])
    if version >= 2:
        step("all", group, None)
    step("none", group, [])
    step("of no such group", peer.named("no-group"), [known])
    if version >= 8:
        asked = [{"group_id": name, "topics": [known]} for name in (group, peer.named("x"), group)]
        peer.step(f"fetch of three groups {label}", "OffsetFetch", version, groups=asked)
        peer.step(f"fetch of no groups {label}", "OffsetFetch", version, groups=[])


def described(peer: Peer, version: int, group: str, label: str) -> None:
    """DescribeGroups and ListGroups."""
    for rights in (False, True) if version >= 3 else (False,):
        peer.step(
            f"describe {label}" + (" with rights" if rights else ""),
            "DescribeGroups",
            version,
            groups=[group, peer.named("no-group"), group],
            include_authorized_operations=rights,
        )
    listed = capped("ListGroups", version)
    peer.step(f"list {label}", "ListGroups", listed)
    if listed >= 4:
        peer.step(f"list stable {label}", "ListGroups", listed, states_filter=["Stable"])
        states = ["empty", "DEAD"]
        peer.step(f"list others {label}", "ListGroups", listed, states_filter=states)
        peer.step(f"list bogus {label}", "ListGroups", listed, states_filter=["bogus"])
    if listed >= 5:
        for kind in ("classic", "Consumer", "share", "bogus"):
            peer.step(f"list {kind} {label}", "ListGroups", listed, types_filter=[kind])


def static(peer: Peer, version: int) -> None:
    """A static member that comes back, and who it was before."""
    group = ready(peer, f"static-{version}")
    name = {"group_instance_id": "me"}
    told = enter(peer, "as a static member", version, group, **name)
    old, generation = told.get("member_id", ""), told.get("generation_id", -1)
    sync, beat = capped("SyncGroup", version), capped("Heartbeat", version)
    given = [{"member_id": old, "assignment": b"mine"}]
    who = {"group_id": group, "generation_id": generation, "member_id": old, **name}
    kind = {"protocol_type": "consumer", "protocol_name": "range"}
    peer.step("sync as a static member", "SyncGroup", sync, **who, **kind, assignments=given)
    back = peer.step("join as it again", "JoinGroup", version, **joins(group, **name))
    new = {**who, "member_id": back.get("member_id", "")}
    peer.step("sync as it again", "SyncGroup", sync, **new, **kind)
    peer.step("heartbeat as the old one", "Heartbeat", beat, **who)
    peer.step("heartbeat as the new one", "Heartbeat", beat, **new)
    peer.step("join as the old one", "JoinGroup", version, **joins(group, member_id=old, **name))
    peer.step("sync as the old one", "SyncGroup", sync, **who, **kind)
    described(peer, capped("DescribeGroups", version), group, "with a static member")
    leave = max(3, capped("LeaveGroup", version))
    for label, members in (
        ("as somebody else", [{"member_id": "", "group_instance_id": "you"}]),
        ("as the old one", [{"member_id": old, **name}]),
        ("by name", [{"member_id": "", **name}]),
        ("as nobody", []),
    ):
        peer.step(f"leave {label}", "LeaveGroup", leave, group_id=group, members=members)


def pair(peer: Peer, version: int) -> None:
    """A second member joins, both get their share, one leaves."""
    group = ready(peer, f"pair-{version}")
    sync, beat = capped("SyncGroup", version), capped("Heartbeat", version)
    one = {"protocol_type": "consumer", "protocol_name": "range"}
    told = enter(peer, "first", version, group, offers=TWO[:1])
    first = told.get("member_id", "")
    who = {"group_id": group, "generation_id": told.get("generation_id", -1), "member_id": first}
    given = [{"member_id": first, "assignment": b"a"}]
    peer.step("sync of the first", "SyncGroup", sync, **who, **one, assignments=given)

    hello = peer.step("join second", "JoinGroup", version, **joins(group, offers=TWO))
    second = hello.get("member_id", "")
    mine = joins(group, member_id=second, offers=TWO)
    peer.send("JoinGroup", version, "second", **mine)
    peer.settle("the rebalance", lambda: peer.ask("Heartbeat", beat, **who)["error_code"] == 27)
    peer.step("heartbeat while others join", "Heartbeat", beat, **who)
    peer.step("sync while others join", "SyncGroup", sync, **who, **one)
    described(peer, capped("DescribeGroups", version), group, "while others join")
    join = joins(group, member_id=first, offers=TWO[:1])
    both = peer.step("join of the first", "JoinGroup", version, **join)
    peer.receive("join of the second", "JoinGroup", version, "second")
    who["generation_id"] = both.get("generation_id", -1)
    other = {**who, "member_id": second}
    peer.send("SyncGroup", sync, "second", **other, **one)
    peer.step("heartbeat before the sync", "Heartbeat", beat, **who)
    given = [
        {"member_id": first, "assignment": b"a"},
        {"member_id": second, "assignment": b"b"},
        {"member_id": "stranger", "assignment": b"c"},
    ]
    peer.step("sync of the leader", "SyncGroup", sync, **who, **one, assignments=given)
    peer.receive("sync of the follower", "SyncGroup", sync, "second")
    described(peer, capped("DescribeGroups", version), group, "with two")
    leave = max(3, capped("LeaveGroup", version))
    members = [{"member_id": second}, {"member_id": "stranger"}]
    peer.step("leave of the second", "LeaveGroup", leave, group_id=group, members=members)
    peer.step("heartbeat after it", "Heartbeat", beat, **who)
    again = joins(group, member_id=first, offers=TWO[:1])
    peer.step("join after it", "JoinGroup", version, **again)


def refused(peer: Peer) -> None:
    """What no group takes."""
    group = ready(peer, "refused")
    for version in VERSIONS["JoinGroup"]:
        for label, values in (
            ("without a name", {"group_id": ""}),
            ("for too short", {"session_timeout_ms": 1}),
            ("for too long", {"session_timeout_ms": 99_999_999}),
            ("as a stranger", {"member_id": "nobody"}),
            ("with no protocols", {"offers": ()}),
            ("with no kind", {"protocol_type": ""}),
        ):
            asked = {**joins(group, **values)}
            peer.step(f"join {label}", "JoinGroup", version, **asked)
    for version in VERSIONS["OffsetCommit"]:
        topic = peer.named("committed")
        part = {"partition_index": 0, "committed_offset": 3, "committed_metadata": "x" * 5000}
        fine = {**part, "partition_index": 1, "committed_metadata": None}
        known = {"name": topic, "topic_id": peer.ids[topic], "partitions": [part, fine]}
        asked = {"group_id": group, "generation_id_or_member_epoch": -1, "topics": [known]}
        peer.step("commit with much metadata", "OffsetCommit", version, **asked)
        peer.step("commit of no group", "OffsetCommit", version, **{**asked, "group_id": ""})
        known = {**known, "partitions": [{**fine, "committed_leader_epoch": 7}] * 2}
        peer.step("commit one twice", "OffsetCommit", version, **{**asked, "topics": [known]})
        fetched(peer, min(version, 10), group, topic, "after that")


def admin(peer: Peer) -> None:
    """OffsetDelete and DeleteGroups."""
    group = ready(peer, "admin")
    topic = peer.named("committed")
    part = {"partition_index": 0, "committed_offset": 3}
    known = {"name": topic, "partitions": [part, {**part, "partition_index": 1}]}
    peer.ask("OffsetCommit", 8, group_id=group, topics=[known])
    for label, name, parts in (
        ("of one", topic, [0]),
        ("of what is not committed", topic, [2, 0]),
        ("of no such partition", topic, [9]),
        ("of no such topic", peer.named("nobody"), [0]),
        ("of nothing", topic, []),
    ):
        listed = [{"name": name, "partitions": [{"partition_index": index} for index in parts]}]
        peer.step(f"forget {label}", "OffsetDelete", 0, group_id=group, topics=listed)
    listed = [{"name": topic, "partitions": [{"partition_index": 1}]}]
    nobody = peer.named("no-group")
    peer.step("forget of no such group", "OffsetDelete", 0, group_id=nobody, topics=listed)
    peer.step("forget of a group without a name", "OffsetDelete", 0, group_id="", topics=listed)
    fetched(peer, 8, group, topic, "after forgetting")
    for version in VERSIONS["DeleteGroups"]:
        again = peer.named(f"gone-{version}")
        ready(peer, f"gone-{version}")
        peer.ask("OffsetCommit", 8, group_id=again, topics=[known])
        names = [again, nobody, ""]
        peer.step("delete three groups", "DeleteGroups", version, groups_names=names)
        peer.step("delete it again", "DeleteGroups", version, groups_names=[again])
        peer.step("delete one twice", "DeleteGroups", version, groups_names=[nobody, nobody])
        peer.step("delete nothing", "DeleteGroups", version, groups_names=[])


def subscribed(peer: Peer) -> None:
    """Offsets of what members read are not forgotten."""
    group, topic = ready(peer, "subscribed"), peer.named("committed")
    part = {"partition_index": 0, "committed_offset": 3}
    peer.ask("OffsetCommit", 8, group_id=group, topics=[{"name": topic, "partitions": [part]}])
    enter(peer, "to read it", 5, group, offers=(("range", subscription(topic)),))
    listed = [{"name": topic, "partitions": [{"partition_index": 0}]}]
    peer.step("forget what is read", "OffsetDelete", 0, group_id=group, topics=listed)
    other = [{"name": peer.named("nobody"), "partitions": [{"partition_index": 0}]}]
    peer.step("forget what is not", "OffsetDelete", 0, group_id=group, topics=other)
