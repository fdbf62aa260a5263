"""Sends the same requests to a Kafka and to mqlog, and compares the answers field by field.

    .venv/bin/python tools/compare --kafka HOST:PORT --mqlog HOST:PORT

Every (API, version) that mqlog serves is asked, in a scenario of its own topics and groups, so
brokers with data may be used; both need `group.initial.rebalance.delay.ms=0` to be quick. What is
volatile is made equal by named rules (`rules.py`); what differs then must have its reason in
`reasons.py`. Exit code 1: a difference without a reason, a reason without a difference, or a
version that was not asked.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from codec import KEYS
from peer import Peer, Step
from reasons import REASONS
from rules import NAMES, Rules, differences
from scenario import cluster, groups, records, topics

APIS = {key: name for name, key in KEYS.items()}
#: Characters of a value that are shown.
WIDE = 160


def run(peer: Peer) -> None:
    """The scenario, from begin to end."""
    for part in (topics, records, groups, cluster):
        part.run(peer)


def served(peer: Peer) -> set[tuple[str, int]]:
    """Every (API, version) that a broker states."""
    told = peer.ask("ApiVersions", 4, client_software_name="compare", client_software_version="1")
    return {
        (APIS[one["api_key"]], version)
        for one in told["api_keys"]
        for version in range(one["min_version"], one["max_version"] + 1)
    }


def short(value: Any) -> str:
    """A value on part of a line."""
    text = repr(value)
    return text if len(text) <= WIDE else text[: WIDE - 3] + "..."


def compare(kafka: Peer, mqlog: Peer, verbose: bool) -> int:
    """Print what differs; how many faults there are."""
    rules = (Rules(kafka), Rules(mqlog))
    unknown: list[str] = []
    same = fields = 0
    for one, other in zip(kafka.steps, mqlog.steps, strict=True):
        assert (one.label, one.api, one.version) == (other.label, other.api, other.version)
        found = differences(rules[0].apply(one), rules[1].apply(other))
        same += not found
        for path, theirs, ours in found:
            fields += 1
            reason = next((r for r in REASONS if r.covers(one, path)), None)
            text = f"{one.api} v{one.version} ({one.label}) {path}"
            if reason is None:
                text += f"\n      kafka {short(theirs)}\n      mqlog {short(ours)}"
                unknown.append(text)
            else:
                reason.count += 1
                if verbose:
                    print(f"known: {text}: kafka {short(theirs)}, mqlog {short(ours)}")
    report(kafka.steps, rules, same, fields)
    for text in unknown:
        print("UNKNOWN", text)
    unused = [reason for reason in REASONS if not reason.count]
    for reason in unused:
        print(f"UNUSED reason: {reason.api} ({reason.label}) {reason.path}: {reason.why}")
    asked = {(step.api, step.version) for step in kafka.steps}
    missed = sorted(served(mqlog) - asked)
    for api, version in missed:
        print(f"NOT ASKED {api} v{version}")
    return len(unknown) + len(unused) + len(missed)


def report(steps: list[Step], rules: tuple[Rules, Rules], same: int, fields: int) -> None:
    """The counts."""
    asked = Counter((step.api, step.version) for step in steps)
    apis = len({api for api, _ in asked})
    print(f"{len(steps)} steps for {len(asked)} (API, version) of {apis} APIs")
    print(f"{same} answers are the same in every field, {len(steps) - same} are not")
    print("\nmade equal before comparing, values of Kafka and of mqlog:")
    for name, what in NAMES.items():
        print(f"  {name:<12} {rules[0].used[name]:>6} {rules[1].used[name]:>6}  {what}")
    known = sum(reason.count for reason in REASONS)
    print(f"\n{fields} fields differ, {known} of them with a reason:")
    for reason in REASONS:
        about = reason.api if len(reason.api) < 30 else "several APIs"
        label = "" if reason.label == ".*" else f" ({reason.label})"
        print(f"  {reason.count:>4}  {about}{label}: {reason.why}")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT")
    parser.add_argument("--mqlog", required=True, metavar="HOST:PORT")
    parser.add_argument("--verbose", action="store_true", help="print the known differences too")
    options = parser.parse_args()
    token = f"cmp{int(time.time())}"
    peers = [Peer(name, getattr(options, name), token) for name in ("kafka", "mqlog")]
    begin = time.monotonic()
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(run, peer) for peer in peers]:
            done.result()
    print(f"asked in {time.monotonic() - begin:.0f} s")
    faults = compare(*peers, options.verbose)
    for peer in peers:
        peer.close()
    print(f"compare: {'FAILED, ' if faults else ''}{faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
