"""DescribeClientQuotas and AlterClientQuotas: kept, found by filter, gone when removed."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from .client import Connection, eventually
from .conftest import split_address

UNSUPPORTED_VERSION = 35
INVALID_REQUEST = 42
EXACT, ONLY_DEFAULT, ANY = range(3)
PRODUCER, CONSUMER, REQUEST = "producer_byte_rate", "consumer_byte_rate", "request_percentage"
MUTATION, CONNECTION = "controller_mutation_rate", "connection_creation_rate"

IP_ALONE = "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId"
IP_FILTER_ALONE = (
    "Invalid entity filter component combination. IP filter component should not be used with "
    "user or clientId filter component."
)

Entity = dict[str, str | None]
_names = itertools.count()


def new_name() -> str:
    """A name that no other test has."""
    return f"wire-{os.getpid()}-{next(_names)}"


def frozen(entity: Any) -> frozenset[tuple[str, str | None]]:
    """An entity of an answer, in any order."""
    return frozenset((one.entity_type, one.entity_name) for one in entity)


def alter(
    conn: Connection,
    *asked: tuple[Entity, dict[str, float | None]],
    version: int = 1,
    validate_only: bool = False,
) -> dict[frozenset[tuple[str, str | None]], tuple[int, str | None]]:
    """AlterClientQuotas, `None` removes: error and text by entity."""
    entries = [
        {
            "entity": [{"entity_type": kind, "entity_name": name} for kind, name in who.items()],
            "ops": [
                {"key": key, "value": value or 0.0, "remove": value is None}
                for key, value in ops.items()
            ],
        }
        for who, ops in asked
    ]
    answer = conn.call("AlterClientQuotas", version, entries=entries, validate_only=validate_only)
    return {frozen(one.entity): (one.error_code, one.error_message) for one in answer.entries}


def describe(
    conn: Connection, *demands: tuple[str, int, str | None], strict: bool = False, version: int = 1
) -> Any:
    """DescribeClientQuotas: the whole answer."""
    components = [
        {"entity_type": kind, "match_type": match_type, "match": match}
        for kind, match_type, match in demands
    ]
    return conn.call("DescribeClientQuotas", version, components=components, strict=strict)


def found(conn: Connection, *demands: Any, **more: Any) -> Any:
    """Quotas by entity."""
    answer = describe(conn, *demands, **more)
    assert answer.error_code == 0
    return {
        frozen(one.entity): {value.key: value.value for value in one.values}
        for one in answer.entries
    }


def of(**entity: str | None) -> Entity:
    """`_` in a type stands for `-`."""
    return {kind.replace("_", "-"): name for kind, name in entity.items()}


def key(entity: Entity) -> frozenset[tuple[str, str | None]]:
    """An entity as `found` tells it."""
    return frozenset(entity.items())


@pytest.mark.parametrize("version", range(2))
def test_quotas_are_kept_until_removed(conn: Connection, version: int) -> None:
    who = of(user=new_name())
    done = {key(who): (0, None)}
    demand = ("user", EXACT, who["user"])

    def now() -> Any:
        return found(conn, demand, version=version)

    assert alter(conn, (who, {PRODUCER: 1000.0, REQUEST: 0.25}), version=version) == done
    eventually(lambda: now() == {key(who): {PRODUCER: 1000.0, REQUEST: 0.25}})
    change = {PRODUCER: 5.0, MUTATION: 1e300, REQUEST: None, CONSUMER: None, "never.heard": None}
    assert alter(conn, (who, change), version=version) == done
    eventually(lambda: now() == {key(who): {PRODUCER: 5.0, MUTATION: 1e300}})
    tried = alter(conn, (who, {PRODUCER: 6.0}), version=version, validate_only=True)
    assert tried == done
    assert alter(conn, (who, {}), version=version) == done
    assert now() == {key(who): {PRODUCER: 5.0, MUTATION: 1e300}}
    assert alter(conn, (who, {PRODUCER: None, MUTATION: None}), version=version) == done
    eventually(lambda: now() == {})


def test_who_is_found(conn: Connection) -> None:
    user, client = new_name(), new_name()
    alone, both = of(user=user), of(user=user, client_id=client)
    anybody = of(client_id=client, user=None)
    everyone = {key(one): {PRODUCER: float(n)} for n, one in enumerate((alone, both, anybody), 1)}
    asked = [(one, {PRODUCER: float(n)}) for n, one in enumerate((alone, both, anybody), 1)]
    assert set(alter(conn, *asked).values()) == {(0, None)}
    eventually(lambda: everyone.items() <= found(conn).items())

    def told(*demands: Any, **more: Any) -> set[frozenset[tuple[str, str | None]]]:
        return set(found(conn, *demands, **more)) & set(everyone)

    me, mine = ("user", EXACT, user), ("client-id", EXACT, client)
    assert told(me) == {key(alone), key(both)}
    assert told(me, strict=True) == {key(alone)}
    assert told(me, mine) == told(me, mine, strict=True) == {key(both)}
    assert told(mine) == {key(both), key(anybody)}
    assert told(mine, strict=True) == set()
    assert told(("user", ONLY_DEFAULT, None)) == {key(anybody)}
    assert told(("user", ANY, None)) == set(everyone)
    assert told(("user", ANY, None), strict=True) == {key(alone)}
    assert told(("client-id", ANY, None)) == {key(both), key(anybody)}
    assert told(("ip", ANY, None)) == told(("user", EXACT, "")) == told(strict=True) == set()
    gone = [(one, {PRODUCER: None}) for one in (alone, both, anybody)]
    assert set(alter(conn, *gone).values()) == {(0, None)}
    eventually(lambda: told() == set())


@pytest.mark.parametrize(
    ("who", "ops", "text"),
    [
        ({}, {PRODUCER: 1.0}, "Invalid empty client quota entity"),
        (of(bogus="x"), {PRODUCER: 1.0}, "Unhandled client quota entity type: bogus"),
        (of(user=""), {PRODUCER: 1.0}, "Empty user not supported"),
        (of(user="wire-bad"), {"nope": 1.0}, "Invalid configuration key nope"),
        (of(user="wire-bad"), {CONNECTION: 1.0}, f"Invalid configuration key {CONNECTION}"),
        (of(ip="1.2.3.4"), {PRODUCER: 1.0}, f"Invalid configuration key {PRODUCER}"),
        (of(user="wire-bad"), {PRODUCER: -1.0}, f"Quota {PRODUCER} must be greater than 0"),
        (of(user="wire-bad"), {REQUEST: 0.0}, f"Quota {REQUEST} must be greater than 0"),
        (of(user="wire-bad"), {PRODUCER: 1.5}, f"{PRODUCER} cannot be a fractional value."),
        (
            of(user="wire-bad"),
            {CONSUMER: 9.3e18},
            f"Proposed value for {CONSUMER} is too large for a LONG.",
        ),
        (
            of(user="wire-bad", ip="1.2.3.4"),
            {CONNECTION: 1.0},
            IP_ALONE,
        ),
        (
            of(ip="not an address"),
            {CONNECTION: 1.0},
            "not an address is not a valid IP or resolvable host.",
        ),
    ],
)
def test_what_is_refused(
    conn: Connection, who: Entity, ops: dict[str, float | None], text: str
) -> None:
    good = of(user=new_name())
    told = alter(conn, (who, {REQUEST: 7.0, **ops}), (good, {PRODUCER: 1.0}))
    code, why = told[key(who)]
    assert code == INVALID_REQUEST
    assert why == text or (why or "").startswith("Invalid configuration key request_percentage")
    assert alter(conn, (who, ops)) == {key(who): (INVALID_REQUEST, text)}
    # Nothing of it is done, and it is in nobody's way.
    eventually(lambda: key(good) in found(conn))
    assert key(who) not in found(conn)
    assert alter(conn, (good, {PRODUCER: None}))[key(good)] == (0, None)


def test_an_entity_named_twice(conn: Connection) -> None:
    user = new_name()
    who = of(user=user)
    told = alter(conn, (who, {PRODUCER: 1.0}), (who, {PRODUCER: 2.0}))
    text = f"Ignoring duplicate entity ClientQuotaEntity(entries={{user={user}}})"
    assert told == {key(who): (INVALID_REQUEST, text)}
    assert alter(conn) == {}


@pytest.mark.parametrize(
    ("demands", "code", "text"),
    [
        ([("bogus", EXACT, "x")], UNSUPPORTED_VERSION, "Unsupported entity type bogus"),
        ([("", ANY, None)], INVALID_REQUEST, "Invalid empty entity type."),
        ([("user", 3, None)], INVALID_REQUEST, "Unknown match type 3"),
        (
            [("user", EXACT, None)],
            INVALID_REQUEST,
            "Request specified MATCH_TYPE_EXACT, but set match string to null.",
        ),
        (
            [("user", ONLY_DEFAULT, "x")],
            INVALID_REQUEST,
            "Request specified MATCH_TYPE_DEFAULT, but also specified a match string.",
        ),
        (
            [("user", ANY, "x")],
            INVALID_REQUEST,
            "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.",
        ),
        (
            [("user", ANY, None), ("user", EXACT, "x")],
            INVALID_REQUEST,
            "Entity type user cannot appear more than once in the filter.",
        ),
        (
            [("ip", ANY, None), ("user", ANY, None)],
            INVALID_REQUEST,
            IP_FILTER_ALONE,
        ),
    ],
)
@pytest.mark.parametrize("version", range(2))
def test_filters_that_make_no_sense(
    conn: Connection, version: int, demands: list[Any], code: int, text: str
) -> None:
    answer = describe(conn, *demands, version=version)
    assert (answer.error_code, answer.error_message, answer.entries) == (code, text, None)


@pytest.mark.ours
def test_quotas_survive_a_restart(tmp_path: Path) -> None:
    from mqlog.testing import Broker

    kept = of(user="a", client_id=None)
    # Only the exact number is the number that was set.
    quotas = {PRODUCER: 1.0, REQUEST: 0.1 + 0.2, MUTATION: 1e-300}
    with Broker(tmp_path) as own, Connection(split_address(own.bootstrap_servers)) as conn:
        assert alter(conn, (kept, quotas), (of(ip="::1"), {CONNECTION: 9.0})) == {
            key(kept): (0, None),
            key(of(ip="::1")): (0, None),
        }
        assert alter(conn, (of(ip="::1"), {CONNECTION: None})) == {key(of(ip="::1")): (0, None)}
        own.kill()
        own.start()
    with Broker(tmp_path) as own, Connection(split_address(own.bootstrap_servers)) as conn:
        assert found(conn) == {key(kept): quotas}
        # They are no resource that config requests know.
        listed = conn.call("ListConfigResources", 1, resource_types=[])
        assert {one.resource_type for one in listed.config_resources} == {4}
