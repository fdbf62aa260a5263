"""Runs the client's behaviour suite against mqlog and Kafkas, plain and secured, as one table.

    python tools/client_matrix.py
    python tools/client_matrix.py --kafka '4.3.1=START COMMAND with {dir} and {port}' \\
        --stop 'STOP COMMAND with {dir}' --kafka '3.9.1=...'

A Kafka's command starts one broker in the background and returns when it serves: plaintext at
{port}, SASL_SSL at {port}+2, SSL at {port}+3, SASL_PLAINTEXT at {port}+4, the files ca.pem,
client.pem and client.key in {dir}, and a SCRAM user (--user, --password). The commands run in a
shell.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUITE = ["tests/client/test_behaviour.py", "tests/client/test_mixed_group.py"]
SECURED = {"plaintext": 0, "ssl": 3, "sasl_plaintext": 4, "sasl_ssl": 2}
COUNT = re.compile(r"(\d+) (passed|failed|skipped|errors?|xfailed)")


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    for first in range(20_000, 60_000, 50):
        try:
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first
    raise SystemExit("no free ports")


def suite(tests: list[str], more: dict[str, str]) -> dict[str, int]:
    """Run the suite with these environment variables; how many tests ended how."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    ended = subprocess.run(
        command, check=False, cwd=ROOT, env={**os.environ, **more}, capture_output=True, text=True
    )
    lines = ended.stdout.strip().splitlines()
    counts = {what: int(number) for number, what in COUNT.findall(lines[-1] if lines else "")}
    if ended.returncode not in (0, 1) or not counts:
        print(ended.stdout[-3000:], ended.stderr[-3000:], file=sys.stderr)
        counts["errors"] = counts.get("errors", 0) + 1
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            print(f"  {line}", file=sys.stderr)
    return counts


def secrets(how: str, folder: Path, options: argparse.Namespace) -> dict[str, str]:
    """What the suite needs to get in."""
    found: dict[str, str] = {}
    if how.endswith("ssl"):
        found["MQLOG_TEST_CAFILE"] = str(folder / "ca.pem")
    if how == "ssl":
        found["MQLOG_TEST_CERTFILE"] = str(folder / "client.pem")
        found["MQLOG_TEST_KEYFILE"] = str(folder / "client.key")
    if how.startswith("sasl"):
        found["MQLOG_TEST_USER"], found["MQLOG_TEST_PASSWORD"] = options.user, options.password
    return found


def against_kafka(command: str, options: argparse.Namespace) -> dict[str, dict[str, int]]:
    """Start one Kafka and run the suite in every way it can be reached."""
    folder = Path(tempfile.mkdtemp(prefix="mqlog-matrix-"))
    port = free_ports(5)
    try:
        subprocess.run(
            command.format(dir=folder, port=port), shell=True, check=True, stdout=sys.stderr
        )
        results = {}
        for how in options.security:
            environment = {
                "MQLOG_TEST_BOOTSTRAP": f"127.0.0.1:{port + SECURED[how]}",
                "MQLOG_TEST_SECURITY": how,
                **secrets(how, folder, options),
            }
            results[how] = suite(options.tests, environment)
        return results
    finally:
        if options.stop:
            subprocess.run(options.stop.format(dir=folder, port=port), shell=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Print the table; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kafka", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--stop", help="a command that stops the Kafka of {dir}")
    parser.add_argument("--user", default="alice")
    parser.add_argument("--password", default="alice-secret")
    parser.add_argument("--security", nargs="+", default=list(SECURED), choices=list(SECURED))
    parser.add_argument("--tests", nargs="+", default=SUITE)
    options = parser.parse_args()
    rows = [("mqlog", "plaintext", suite(options.tests, {}))]
    for text in options.kafka:
        name, _, command = text.partition("=")
        for how, counts in against_kafka(command, options).items():
            rows.append((f"Apache Kafka {name}", how, counts))
    print("| broker | security | passed | failed | skipped |")
    print("|---|---|---|---|---|")
    bad = 0
    for name, how, counts in rows:
        failed = counts.get("failed", 0) + counts.get("errors", 0) + counts.get("error", 0)
        bad += failed
        passed, skipped = counts.get("passed", 0), counts.get("skipped", 0)
        print(f"| {name} | {how} | {passed} | {failed} | {skipped} |")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
