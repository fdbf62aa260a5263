"""What administration speaks of, with kafka-python's names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum
from typing import Any, ClassVar, TypeVar

from mqlog.errors import IllegalArgumentError

E = TypeVar("E", bound=Enum)


def one_of(kind: type[E], value: Any) -> E:
    """A member of an enum, given itself, its name in any case, or its value. ValueError if none."""
    if isinstance(value, kind):
        return value
    if isinstance(value, str):
        name = value.strip().upper().replace("-", "_")
        for member in kind:
            if name in (member.name, str(member.value).upper()):
                return member
            if name.replace("_", "") == str(member.value).upper():
                return member
    elif any(value == member.value for member in kind):
        return kind(value)
    allowed = ", ".join(member.name for member in kind)
    raise ValueError(f"{kind.__name__} {value!r}: must be one of {allowed}")


# -- topics and partitions -----------------------------------------------------------------------


@dataclass
class NewTopic:
    """A topic to create; -1 leaves partitions or replicas to the broker's settings."""

    name: str
    num_partitions: int = -1
    replication_factor: int = -1
    #: Partition: the nodes of its replicas.
    replica_assignments: Mapping[int, Sequence[int]] = field(default_factory=dict)
    topic_configs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.replica_assignments = self.replica_assignments or {}
        self.topic_configs = self.topic_configs or {}


@dataclass
class NewPartitions:
    """How many partitions a topic shall have, and where the new ones go (None: anywhere)."""

    total_count: int
    new_assignments: Sequence[Sequence[int]] | None = None


class ElectionType(IntEnum):
    """Which replica leads: the preferred one, or also one that is out of sync."""

    PREFERRED = 0
    UNCLEAN = 1


class IsolationLevel(IntEnum):
    """Whether records of open transactions count."""

    READ_UNCOMMITTED = 0
    READ_COMMITTED = 1


class OffsetSpec(IntEnum):
    """Places in a partition."""

    LATEST = -1
    EARLIEST = -2
    MAX_TIMESTAMP = -3
    EARLIEST_LOCAL = -4
    LATEST_TIERED = -5


class OffsetTimestamp(int):
    """A time in milliseconds since 1970: the first record at or after it."""

    __slots__ = ()


# -- configs -------------------------------------------------------------------------------------


class ConfigResourceType(IntEnum):
    """What can be configured."""

    UNKNOWN = 0
    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


class ConfigResource:
    """Settings of one thing: names to ask for, or values to set; None is all of them."""

    def __init__(self, resource_type: Any, name: str, configs: Any = None) -> None:
        self.resource_type = one_of(ConfigResourceType, resource_type)
        self.name = name
        self.configs: Mapping[str, Any] | Iterable[str] | None = configs

    def __repr__(self) -> str:
        return f"ConfigResource({self.resource_type.name}, {self.name!r}, {self.configs!r})"


class AlterConfigOp(IntEnum):
    """What to do with a value."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class ConfigFilterType(IntEnum):
    """Which settings to describe."""

    ALL = 0
    DYNAMIC = 1
    MODIFIED = 2
    DEFAULT = 3
    STATIC = 4


class ConfigType(IntEnum):
    """What kind of value a setting has."""

    UNKNOWN = 0
    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


class ConfigSourceType(IntEnum):
    """Where a value comes from."""

    UNKNOWN = 0
    DYNAMIC_TOPIC_CONFIG = 1
    DYNAMIC_BROKER_CONFIG = 2
    DYNAMIC_DEFAULT_BROKER_CONFIG = 3
    STATIC_BROKER_CONFIG = 4
    DEFAULT_CONFIG = 5
    DYNAMIC_BROKER_LOGGER_CONFIG = 6
    DYNAMIC_CLIENT_METRICS_CONFIG = 7
    DYNAMIC_GROUP_CONFIG = 8


class UpdateFeatureType(IntEnum):
    """Which way a feature may move."""

    UNKNOWN = 0
    UPGRADE = 1
    SAFE_DOWNGRADE = 2
    UNSAFE_DOWNGRADE = 3


# -- groups --------------------------------------------------------------------------------------


class GroupState(StrEnum):
    """The state of a group."""

    UNKNOWN = "Unknown"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"
    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"


class GroupType(StrEnum):
    """The protocol of a group."""

    UNKNOWN = "Unknown"
    CLASSIC = "classic"
    CONSUMER = "consumer"
    SHARE = "share"


@dataclass(frozen=True)
class MemberToRemove:
    """A member by its id, or a static one by its group_instance_id."""

    member_id: str | None = None
    group_instance_id: str | None = None
    reason: str | None = None


# -- access --------------------------------------------------------------------------------------


class ResourceType(IntEnum):
    """What access is granted to; ANY only in a filter."""

    UNKNOWN = 0
    ANY = 1
    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    USER = 7


class ACLOperation(IntEnum):
    """What may be done; ANY only in a filter."""

    UNKNOWN = 0
    ANY = 1
    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12
    CREATE_TOKENS = 13
    DESCRIBE_TOKENS = 14


class ACLPermissionType(IntEnum):
    """Whether it may be done; ANY only in a filter."""

    UNKNOWN = 0
    ANY = 1
    DENY = 2
    ALLOW = 3


class ACLResourcePatternType(IntEnum):
    """How a name is matched; ANY and MATCH only in a filter."""

    UNKNOWN = 0
    ANY = 1
    MATCH = 2
    LITERAL = 3
    PREFIXED = 4


def _must_be(value: Any, kind: type[Any], name: str) -> None:
    if not isinstance(value, kind):
        raise IllegalArgumentError(f"{name} must be a {kind.__name__}, not {value!r}")


def _not_in(value: Any, filters: Iterable[Any], name: str) -> None:
    if value in filters:
        raise IllegalArgumentError(f"{name}={value.name} is for filters only")


@dataclass(frozen=True)
class ResourcePatternFilter:
    """Resources to look for; a name of None is any."""

    resource_type: ResourceType
    resource_name: str | None
    pattern_type: ACLResourcePatternType

    def __post_init__(self) -> None:
        _must_be(self.resource_type, ResourceType, "resource_type")
        _must_be(self.pattern_type, ACLResourcePatternType, "pattern_type")


@dataclass(frozen=True)
class ResourcePattern(ResourcePatternFilter):
    """Resources that access is granted to."""

    pattern_type: ACLResourcePatternType = ACLResourcePatternType.LITERAL

    def __post_init__(self) -> None:
        super().__post_init__()
        _not_in(self.resource_type, [ResourceType.ANY], "resource_type")
        kinds = [ACLResourcePatternType.ANY, ACLResourcePatternType.MATCH]
        _not_in(self.pattern_type, kinds, "pattern_type")


@dataclass(frozen=True)
class ACLFilter:
    """Grants to look for; a principal or host of None is any."""

    principal: str | None
    host: str | None
    operation: ACLOperation
    permission_type: ACLPermissionType
    resource_pattern: ResourcePatternFilter

    def __post_init__(self) -> None:
        _must_be(self.operation, ACLOperation, "operation")
        _must_be(self.permission_type, ACLPermissionType, "permission_type")
        _must_be(self.resource_pattern, ResourcePatternFilter, "resource_pattern")


@dataclass(frozen=True)
class ACL(ACLFilter):
    """A grant, or a denial."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _not_in(self.operation, [ACLOperation.ANY], "operation")
        _not_in(self.permission_type, [ACLPermissionType.ANY], "permission_type")
        _must_be(self.resource_pattern, ResourcePattern, "resource_pattern")


# -- users ---------------------------------------------------------------------------------------


class ScramMechanism(IntEnum):
    """How a password is kept."""

    UNKNOWN = 0
    SCRAM_SHA_256 = 1
    SCRAM_SHA_512 = 2

    @property
    def hash_name(self) -> str:
        """The hash, as hashlib calls it."""
        return self.name.removeprefix("SCRAM_").replace("_", "").lower()


class UserScramCredentialDeletion:
    """A user's credential to delete."""

    def __init__(self, user: str, mechanism: Any) -> None:
        self.user = user
        self.mechanism = one_of(ScramMechanism, mechanism)

    def __repr__(self) -> str:
        return f"UserScramCredentialDeletion({self.user!r}, {self.mechanism.name})"


class UserScramCredentialUpsertion:
    """A user's credential to set. The password itself is not sent, only what SCRAM makes of it."""

    DEFAULT_ITERATIONS: ClassVar[int] = 4096

    def __init__(
        self,
        user: str,
        mechanism: Any,
        password: str | bytes,
        iterations: int | None = None,
        salt: bytes | None = None,
    ) -> None:
        self.user = user
        self.mechanism = one_of(ScramMechanism, mechanism)
        _not_in(self.mechanism, [ScramMechanism.UNKNOWN], "mechanism")
        self.iterations = self.DEFAULT_ITERATIONS if iterations is None else iterations
        self.salt = os.urandom(24) if salt is None else salt
        plain = password.encode() if isinstance(password, str) else password
        self.salted_password = hashlib.pbkdf2_hmac(
            self.mechanism.hash_name, plain, self.salt, self.iterations
        )

    def __repr__(self) -> str:
        name = self.mechanism.name
        return f"UserScramCredentialUpsertion({self.user!r}, {name}, iterations={self.iterations})"
