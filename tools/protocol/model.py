"""The tables of facts, read into objects. Imported by generate.py and its emitters."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
MAX = 32767


def snake(name: str) -> str:
    """`TopicId` to `topic_id`, `V3AndBelowTopics` to `v3_and_below_topics`."""
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


@dataclass(frozen=True)
class Span:
    """A range of versions, both ends included."""

    min: int = 0
    max: int = -1

    @classmethod
    def parse(cls, text: str) -> Span:
        """`N+` or `A-B`."""
        low, _, high = text.removesuffix("+").partition("-")
        return cls(int(low), MAX if text.endswith("+") else int(high))

    def meets(self, other: Span) -> bool:
        """Whether any version is in both."""
        return max(self.min, other.min) <= min(self.max, other.max)


@dataclass
class Field:
    """One field of a struct."""

    name: str
    type: str
    versions: Span
    nullable: Span = Span()
    tag: int = 0
    tagged: Span = Span()
    default: str = ""
    ignorable: bool = False
    inflexible: bool = False

    @property
    def array(self) -> bool:
        """Whether it holds any number of elements."""
        return self.type.startswith("[]")

    @property
    def element(self) -> str:
        """Its type, without the array's mark."""
        return self.type.removeprefix("[]")

    @property
    def struct(self) -> bool:
        """Whether it is a struct or an array of them."""
        return self.element[0].isupper()


@dataclass
class Message:
    """One message with all its structs; the first of them is the message itself."""

    name: str
    kind: str
    key: int
    versions: Span
    flexible: int
    structs: dict[str, list[Field]] = field(default_factory=dict)

    @property
    def api(self) -> str:
        """The message's name without what it is for."""
        return self.name.removesuffix("Request").removesuffix("Response")

    @property
    def module(self) -> str:
        """The file that holds it, in every language."""
        if self.kind in ("request", "response"):
            return snake(self.api)
        family, _, suffix = self.kind.partition("-")
        return f"{family}_records" if suffix else family


def parse_field(line: str) -> Field:
    """One indented line of messages.txt."""
    name, type_, versions, *rest = line.split()
    words = dict(word.partition("=")[::2] for word in rest)
    return Field(
        name=snake(name),
        type=type_,
        versions=Span.parse(versions),
        nullable=Span.parse(words["nullable"]) if "nullable" in words else Span(),
        tag=int(words.get("tag", 0)),
        tagged=Span.parse(words["tagged"]) if "tagged" in words else Span(),
        default=words.get("default", ""),
        ignorable="ignorable" in words,
        inflexible="inflexible" in words,
    )


def parse_message(line: str) -> Message:
    """The line that opens a message. A version that Kafka calls unstable is left out."""
    name, kind, *rest = line.split()
    words = dict(word.partition("=")[::2] for word in rest)
    versions = Span.parse(words["versions"])
    if "unstable" in words:
        versions = Span(versions.min, int(words["unstable"]) - 1)
    flexible = MAX if words["flexible"] == "never" else int(words["flexible"])
    return Message(name, kind, int(words.get("key", -1)), versions, flexible, {name: []})


def messages() -> list[Message]:
    """All of messages.txt, without fields that no stable version has."""
    found: list[Message] = []
    fields: list[Field] = []
    for line in (HERE / "messages.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith(" "):
            one = parse_field(line)
            if one.versions.meets(found[-1].versions):
                fields.append(one)
        elif " " in line:
            found.append(parse_message(line))
            fields = found[-1].structs[found[-1].name]
        else:
            fields = found[-1].structs.setdefault(line.split(".")[1], [])
    return found


def rows(name: str) -> list[list[str]]:
    """The words of each line of apis.txt or errors.txt; a message after ` | ` is one word."""
    lines = (HERE / name).read_text().splitlines()
    split = (line.partition(" | ") for line in lines if line and not line.startswith("#"))
    return [[*words.split(), *([text] if text else [])] for words, _, text in split]
