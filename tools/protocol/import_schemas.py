#!/usr/bin/env python3
"""Turn Kafka's published JSON tables into `messages.txt`, our own compact table of facts.

    python tools/protocol/import_schemas.py DIR

DIR holds the tables as they lie in Kafka's jars, in any depth. Only facts are taken: names,
types, versions, defaults. The format of `messages.txt` is explained in its first lines.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).with_name("messages.txt")

#: Families of tables, by the directory they come from; others (broker-internal state) are left out.
FAMILIES = {
    "kafka-clients": "client",
    "kafka-group-coordinator": "group",
    "kafka-transaction-coordinator": "transaction",
    "kafka-share-coordinator": "share",
}

HEADER = """\
# Every request and response of Kafka 4.3.1, with the records of its coordinators.
# Written by import_schemas.py, read by generate.py. One line a field.
#
# NAME KIND key=API versions=MIN-MAX flexible=FROM|never [unstable=N]     opens a message
# NAME.STRUCT                                                             opens a struct of it
#   FIELD TYPE VERSIONS [attributes]                                      a field of that struct
#
# TYPE      bool int8 int16 uint16 int32 uint32 int64 float64 string bytes records uuid,
#           a struct's name, or [] before one of these.
# VERSIONS  N+ or MIN-MAX: where the field exists. Elsewhere it has its default.
# nullable= where null is legal.     tag=N tagged=  where it is a tagged field, and its number.
# default=  if not zero, empty or false.    ignorable  may be dropped where it does not exist.
# inflexible  keeps its old encoding in flexible versions.
"""


def load(path: Path) -> dict[str, Any]:
    """One table, without the comments that JSON does not know."""
    table: dict[str, Any] = json.loads(re.sub(r"(?m)^\s*//.*$|\s//[^\"\n]*$", "", path.read_text()))
    return table


def span(text: str) -> str:
    """`N+` and `A-B` stay; a single version becomes `N-N`."""
    return text if text.endswith("+") or "-" in text else f"{text}-{text}"


def field_line(field: dict[str, Any]) -> str:
    """The line of one field."""
    tagged = field.get("taggedVersions", "none")
    parts = [field["name"], field["type"], span(field.get("versions", tagged))]
    if field.get("nullableVersions", "none") != "none":
        parts.append(f"nullable={span(field['nullableVersions'])}")
    if tagged != "none":
        parts += [f"tag={field['tag']}", f"tagged={span(tagged)}"]
    # Only the string "null" means null; a JSON null is as good as nothing.
    default = str(field.get("default") or "")
    if default.lower() not in ("", "0", "false", "0.0"):
        number = default.startswith("0x")
        parts.append(f"default={int(default, 16) if number else default}")
    if field.get("ignorable") in (True, "true"):
        parts.append("ignorable")
    if field.get("flexibleVersions") == "none":
        parts.append("inflexible")
    return "  " + " ".join(parts)


def structs_of(table: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Every struct of a message by name, the root first, in the order of first use."""
    found: dict[str, list[dict[str, Any]]] = {table["name"]: table["fields"]}

    def visit(fields: list[dict[str, Any]]) -> None:
        for field in fields:
            name = field["type"].removeprefix("[]")
            if field.get("fields"):
                found[name] = field["fields"]
                visit(field["fields"])
            elif name in common and name not in found:
                found[name] = common[name]
                visit(common[name])

    common = {entry["name"]: entry["fields"] for entry in table.get("commonStructs", [])}
    visit(table["fields"])
    return found


def message_lines(table: dict[str, Any], family: str) -> list[str]:
    """All lines of one message."""
    kind = table["type"]
    if kind == "data" or kind.startswith("coordinator"):
        kind = {"coordinator-key": f"{family}-key", "coordinator-value": f"{family}-value"}.get(
            kind, "data"
        )
    head = [table["name"], kind]
    if "apiKey" in table:
        head.append(f"key={table['apiKey']}")
    flexible = table.get("flexibleVersions", "none").removesuffix("+")
    head.append(f"versions={span(table['validVersions'])}")
    head.append(f"flexible={'never' if flexible == 'none' else flexible}")
    if table.get("latestVersionUnstable"):
        head.append(f"unstable={table['validVersions'].split('-')[-1]}")
    lines = [" ".join(head)]
    for name, fields in structs_of(table).items():
        if name != table["name"]:
            lines.append(f"{table['name']}.{name}")
        lines += map(field_line, fields)
    return lines


def main() -> None:
    """Read every table below the directory named on the command line."""
    messages: dict[str, list[str]] = {}
    for path in sorted(Path(sys.argv[1]).rglob("*.json")):
        family = next((FAMILIES[part] for part in path.parts if part in FAMILIES), None)
        if family is None:
            continue
        table = load(path)
        if table.get("validVersions", "none") != "none" and "fields" in table:
            messages[table["name"]] = message_lines(table, family)
    body = "\n\n".join("\n".join(messages[name]) for name in sorted(messages))
    OUTPUT.write_text(HEADER + "\n" + body + "\n")
    print(f"{OUTPUT.name}: {len(messages)} messages")


if __name__ == "__main__":
    main()
