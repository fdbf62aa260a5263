"""DescribeClientQuotas and AlterClientQuotas: quotas are kept, and not enforced yet.

They lie in the metadata as configs of resources of their own type: the name says whose quota it
is, the key which, the value is the number as Python writes it, exactly.
"""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mqlog.broker import codes
from mqlog.broker.codes import Refusal
from mqlog.broker.flow import PAUSE, RESOURCE_QUOTA, Decision, Propose, Record, config_record
from mqlog.broker.world import Image, World

USER, CLIENT_ID, IP = "user", "client-id", "ip"
EXACT, ONLY_DEFAULT, ANY = range(3)
#: Characters of one name in an entity.
MAX_NAME_LENGTH = 32_767

_CLIENT_KEYS = {
    "producer_byte_rate": True,
    "consumer_byte_rate": True,
    "request_percentage": False,
    "controller_mutation_rate": False,
}
_IP_KEYS = {"connection_creation_rate": True}
_LONGEST = float(2**63)

#: Entity type to name; None is the default for all names that have no quota of their own.
Entity = Mapping[str, str | None]


class Component(NamedTuple):
    """A demand on one entity type: `match` counts for EXACT only."""

    match_type: int
    match: str | None

    def accepts(self, name: str | None) -> bool:
        """Whether an entity with this name is wanted."""
        if self.match_type == EXACT:
            return name == self.match
        return self.match_type == ANY or name is None


def entity_name(entity: Entity) -> str:
    """Return the resource name that an entity has in the metadata."""
    return json.dumps(dict(entity), sort_keys=True, separators=(",", ":"))


def entities(image: Image) -> Iterator[tuple[Entity, dict[str, float]]]:
    """Yield every entity that has quotas, and those."""
    for kind, name in image.config_resources():
        if kind == RESOURCE_QUOTA:
            values = image.configs(RESOURCE_QUOTA, name)
            yield json.loads(name), {key: float(value) for key, value in values.items()}


# -- describing ------------------------------------------------------------------------------------


def describe_client_quotas(world: World, request: Any) -> Decision:
    """Answer DescribeClientQuotas."""
    from mqlog.protocol.describe_client_quotas import DescribeClientQuotasResponse as Response

    try:
        wanted = _components(request.components)
    except Refusal as refusal:
        return Response(error_code=refusal.code, error_message=refusal.message, entries=None)
    entries = []
    for number, (entity, values) in enumerate(entities(world.image()), 1):
        if number % 64 == 0:
            yield PAUSE
        if request.strict and len(entity) != len(wanted):
            continue
        if not all(kind in entity and one.accepts(entity[kind]) for kind, one in wanted.items()):
            continue
        entries.append(
            Response.EntryData(
                [Response.EntityData(kind, name) for kind, name in entity.items()],
                [Response.ValueData(key, value) for key, value in values.items()],
            )
        )
    return Response(entries=entries)


def _components(asked: list[Any]) -> dict[str, Component]:
    wanted: dict[str, Component] = {}
    for one in asked:
        kind = one.entity_type
        if not kind:
            raise Refusal(codes.INVALID_REQUEST, "Invalid empty entity type.")
        if kind in wanted:
            text = f"Entity type {kind} cannot appear more than once in the filter."
            raise Refusal(codes.INVALID_REQUEST, text)
        if kind not in (USER, CLIENT_ID, IP):
            raise Refusal(codes.UNSUPPORTED_VERSION, f"Unsupported entity type {kind}")
        names = {EXACT: "EXACT", ONLY_DEFAULT: "DEFAULT", ANY: "SPECIFIED"}
        if one.match_type not in names:
            raise Refusal(codes.INVALID_REQUEST, f"Unknown match type {one.match_type}")
        rule = f"Request specified MATCH_TYPE_{names[one.match_type]}, but "
        if one.match_type == EXACT and one.match is None:
            raise Refusal(codes.INVALID_REQUEST, f"{rule}set match string to null.")
        if one.match_type != EXACT and one.match is not None:
            raise Refusal(codes.INVALID_REQUEST, f"{rule}also specified a match string.")
        wanted[kind] = Component(one.match_type, one.match)
    if IP in wanted and len(wanted) > 1:
        raise Refusal(
            codes.INVALID_REQUEST,
            "Invalid entity filter component combination. IP filter component should not be used "
            "with user or clientId filter component.",
        )
    return wanted


# -- altering --------------------------------------------------------------------------------------


def alter_client_quotas(world: World, request: Any) -> Decision:
    """Answer AlterClientQuotas: each entity by itself, all or nothing of it."""
    from mqlog.protocol.alter_client_quotas import AlterClientQuotasResponse as Response

    image = world.image()
    # As in Kafka, the last name of a type counts, and an entity is answered once.
    asked: dict[str, list[Any]] = {}
    for entry in request.entries:
        name = entity_name({one.entity_type: one.entity_name for one in entry.entity})
        asked.setdefault(name, []).append(entry.ops)
    results = []
    records: list[Record] = []
    for number, (name, given) in enumerate(asked.items(), 1):
        if number % 64 == 0:
            yield PAUSE
        entity = json.loads(name)
        shown = [Response.EntityData(kind, item) for kind, item in entity.items()]
        result = Response.EntryData(codes.NONE, None, shown)
        results.append(result)
        try:
            keys = _keys(entity)
            ops = {op.key: op for each in given for op in each}
            if len(given) > 1 or len(ops) < len(given[0]):
                pairs = ", ".join(f"{kind}={item}" for kind, item in entity.items())
                text = f"Ignoring duplicate entity ClientQuotaEntity(entries={{{pairs}}})"
                raise Refusal(codes.INVALID_REQUEST, text)
            before = image.configs(RESOURCE_QUOTA, name)
            # A list: what is refused halfway leaves nothing behind.
            records += list(_changes(name, before, keys, ops.values()))
        except Refusal as refusal:
            result.error_code, result.error_message = refusal.code, refusal.message
    if records and not request.validate_only:
        error = yield Propose(records)
        if error:
            for result in results:
                if not result.error_code:
                    result.error_code, result.error_message = codes.KAFKA_STORAGE_ERROR, error
    return Response(entries=results)


def _changes(
    name: str, before: Mapping[str, str], keys: Mapping[str, bool], ops: Any
) -> Iterator[Record]:
    for op in ops:
        if op.remove:
            if op.key in before:
                yield config_record(RESOURCE_QUOTA, name, op.key, None)
            continue
        problem = _value_problem(keys, op.key, op.value)
        if problem:
            raise Refusal(codes.INVALID_REQUEST, problem)
        yield config_record(RESOURCE_QUOTA, name, op.key, repr(op.value))


def _keys(entity: Entity) -> Mapping[str, bool]:
    """Return the quotas that an entity can have, and whether they are whole numbers."""
    if not entity:
        raise Refusal(codes.INVALID_REQUEST, "Invalid empty client quota entity")
    for kind, name in entity.items():
        if kind not in (USER, CLIENT_ID, IP):
            raise Refusal(codes.INVALID_REQUEST, f"Unhandled client quota entity type: {kind}")
        if name == "":
            raise Refusal(codes.INVALID_REQUEST, f"Empty {kind} not supported")
        if name is not None and len(name) > MAX_NAME_LENGTH:
            text = f"A {kind} of {len(name)} characters is too long: at most {MAX_NAME_LENGTH}"
            raise Refusal(codes.INVALID_REQUEST, text)
    if IP not in entity:
        return _CLIENT_KEYS
    if len(entity) > 1:
        raise Refusal(
            codes.INVALID_REQUEST,
            "Invalid quota entity combination, IP entity shouldnot be combined with User or "
            "ClientId",
        )
    address = entity[IP]
    if address is not None and not _is_address(address):
        # Names are not looked up: a decision waits for no other server.
        text = f"{address} is not a valid IP or resolvable host."
        raise Refusal(codes.INVALID_REQUEST, text)
    return _IP_KEYS


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _value_problem(keys: Mapping[str, bool], key: str, value: float) -> str | None:
    if key not in keys:
        return f"Invalid configuration key {key}"
    if math.isnan(value) or value <= 0:
        return f"Quota {key} must be greater than 0"
    if not keys[key]:
        return None
    if value > _LONGEST:
        return f"Proposed value for {key} is too large for a LONG."
    # Kafka forgives what arithmetic with floats leaves behind.
    return f"{key} cannot be a fractional value." if abs(value - round(value)) > 1e-6 else None
