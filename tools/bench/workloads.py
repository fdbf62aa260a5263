"""What is run, and what it may cost: the workloads of `kwire` and the bars they are held to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """One run of kwire. A fetch reads what `source`, of the same group, has written just before."""

    name: str
    title: str
    arguments: str
    kind: str = "produce"
    partitions: int = 1
    source: str = ""
    # Request bytes and requests in flight of the floor come from the run of mqlog itself.
    floor: str = "loop"  # loop, loop+files, sync, or nothing
    in_flight: int = 5
    contenders: tuple[str, ...] = ("mqlog", "kafka")


FSYNC = "-s 1024 -R 10 -c 4 -f 16 -n 1e6 -w 5e4"
BOTH = ("mqlog", "mqlog-fsync", "kafka")

# Workloads of a group run one after the other against one contender, then its data is deleted.
GROUPS: tuple[tuple[Workload, ...], ...] = (
    (
        Workload("W1", "produce 100 B, 64 KB batches", "-s 100 -R 600 -n 10e6 -w 1e6"),
        Workload("W4", "fetch of W1", "-s 100 -n 30e6 -w 3e6", "fetch", source="W1", floor=""),
    ),
    (Workload("W1m", "W1, 1 MB batches", "-s 100 -R 9000 -n 12e6 -w 1e6"),),
    (Workload("W1i", "W1 idempotent", "-s 100 -R 600 -n 10e6 -w 1e6 -I"),),
    (Workload("W2", "W1 with lz4", "-s 100 -R 600 -z lz4 -n 10e6 -w 1e6"),),
    (
        Workload("W3", "produce 1 KB, 64 KB batches", "-s 1024 -R 62 -n 2e6 -w 2e5"),
        Workload("W5", "fetch of W3", "-s 1024 -n 4e6 -w 5e5", "fetch", source="W3", floor=""),
    ),
    (
        Workload("W6", "produce 10 records a request", "-s 100 -R 10 -f 5 -n 1e6 -w 1e5"),
        Workload("W6f", "fetch of W6", "-s 100 -n 10e6 -w 1e6", "fetch", source="W6", floor=""),
    ),
    (
        Workload(
            "W7", "1 record a request, 1 in flight", "-s 100 -R 1 -f 1 -n 4e4 -w 5e3", in_flight=1
        ),
    ),
    (Workload("W8s", "end to end, 1,000/s", "-s 100 -r 1000 -n 6e3 -w 1e3", "e2e", floor=""),),
    (Workload("W8", "end to end, 5,000/s", "-s 100 -r 5000 -n 25e3 -w 5e3", "e2e", floor=""),),
    (
        Workload(
            "W9",
            "100 partitions x 10 records in a request",
            "-s 100 -R 10 -m 100 -f 5 -n 4e6 -w 2e5",
            partitions=100,
            floor="loop+files",
        ),
    ),
    (
        Workload(
            "W9r",
            "100 partitions, 1 partition a request",
            "-s 100 -R 10 -m 1 -f 5 -n 1e6 -w 1e5",
            partitions=100,
        ),
    ),
    (Workload("F1", "fsync, 1 partition", FSYNC, floor="sync", in_flight=64, contenders=BOTH),),
    (
        Workload(
            "F100",
            "fsync, 100 partitions",
            FSYNC,
            partitions=100,
            floor="sync",
            in_flight=64,
            contenders=BOTH,
        ),
    ),
    (Workload("P1", "1 partition", "-s 100 -R 600 -n 6e6 -w 1e6", floor=""),),
    (
        Workload(
            "P1000", "1,000 partitions", "-s 100 -R 600 -n 6e6 -w 1e6", partitions=1000, floor=""
        ),
    ),
    (Workload("C10", "10 connections", "-s 100 -R 10 -c 10 -f 1 -r 2e4 -n 8e4 -w 2e4", floor=""),),
    (
        Workload(
            "C1000", "1,000 connections", "-s 100 -R 10 -c 1000 -f 1 -r 2e4 -n 8e4 -w 2e4", floor=""
        ),
    ),
)
WORKLOADS = {workload.name: workload for group in GROUPS for workload in group}


@dataclass(frozen=True)
class Bar:
    """A figure of a workload, and what it may be: times the floor, times Kafka's best, absolute.

    Where several limits are given the loosest counts.
    """

    workload: str
    field: str
    unit: str
    floor: float | None = None
    kafka: float | None = None
    absolute: float | None = None
    scale: float = 1.0  # from the unit of kwire's field to `unit`


NS, US, P50 = "broker_ns_rec", "broker_us_req", "p50_us"
BARS = (
    Bar("W1", NS, "ns/record", 2, 1 / 3),
    Bar("W1m", NS, "ns/record", 2.5, 1 / 4),
    Bar("W1i", NS, "ns/record", 2.2, 1 / 3),
    Bar("W2", NS, "ns/record", 2.2, 1 / 4),
    Bar("W3", NS, "ns/record", 2, 1 / 3),
    Bar("W4", NS, "ns/record", 1.5, 3 / 4),
    Bar("W5", NS, "ns/record", 1.5, 3 / 4),
    Bar("W6", US, "µs/request", 2, 1 / 3),
    Bar("W6f", NS, "ns/record"),
    Bar("W7", US, "µs/request", 2, 1 / 2),
    Bar("W7", P50, "p50 µs", 1.7),
    Bar("W8s", P50, "p50 µs", kafka=1 / 2, absolute=150),
    Bar("W8", NS, "µs/record", 1.6, 1 / 2, scale=1e-3),
    Bar("W9", NS, "ns/record", 1.6, 1 / 3),
    Bar("W9r", US, "µs/request"),
)
# Numerator, denominator, field, title, limit.
PAIRS = (
    ("P1000", "P1", NS, "1,000 partitions to 1, cost per record", 1.3),
    ("C1000", "C10", US, "1,000 connections to 10, cost per request", 1.3),
)
# Figure, unit, title, limit.
PROCESS = (
    ("start_ms", "ms", "start until Metadata answers", 300),
    ("rss_mb", "MB", "memory idle", 40),
    ("hwm_mb", "MB", "memory peak over all runs", 150),
)
