"""The figures as Markdown tables: medians, ratios to the floor and to Kafka's best, the bars."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from workloads import BARS, PAIRS, PROCESS, WORKLOADS, Bar

# A run beside which other programs took more of the cores counts only when there is no better one.
DISTURBED = 0.5


class Results:
    """All runs of a session, by contender and workload."""

    def __init__(self, runs: list[dict[str, Any]]) -> None:
        self._runs: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for run in runs:
            self._runs[run["contender"], run["w"]].append(run)
        for key, found in self._runs.items():
            quiet = [run for run in found if run.get("other_cores", 0) < DISTURBED]
            self._runs[key] = quiet or found

    def values(self, who: str, what: str, field: str) -> list[float]:
        """The figures of every repetition."""
        return [run[field] for run in self._runs.get((who, what), []) if field in run]

    def median(self, who: str, what: str, field: str) -> float | None:
        """Their median."""
        values = self.values(who, what, field)
        return statistics.median(values) if values else None

    def best(self, who: str, what: str, field: str) -> float | None:
        """The least of them."""
        return min(self.values(who, what, field), default=None)

    def spread(self, who: str, what: str, field: str) -> float | None:
        """(largest - least) / median."""
        values = self.values(who, what, field)
        if len(values) < 2 or not statistics.median(values):
            return None
        return (max(values) - min(values)) / statistics.median(values)

    def failures(self) -> Iterator[str]:
        """What did not run, and why."""
        for (who, what), runs in self._runs.items():
            for run in runs:
                if "error" in run:
                    yield f"{what} {who}: {run['error']}"


def number(value: float | None, unit: str = "") -> str:
    """Three digits that say something."""
    if value is None:
        return "-"
    text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return text + unit


def verdict(ours: float | None, limit: float | None) -> str:
    """Whether a figure holds its bar."""
    if ours is None or limit is None:
        return "-"
    return "holds" if ours <= limit else f"over by {ours / limit - 1:.0%}"


def floor_of(results: Results, bar: Bar) -> float | None:
    """The floor of a figure; for those that loopfloor does not replay, made of the machine's."""

    def fact(field: str) -> float | None:
        return results.median("floor", "machine", field)

    per_kb, trip = fact("sendfile_ns_kb"), fact("pingpong_us")
    if WORKLOADS[bar.workload].kind == "fetch":
        size = results.median("mqlog", bar.workload, "bytes_rec")
        return None if per_kb is None or size is None else per_kb * size / 1024
    if (bar.workload, bar.field) == ("W7", "p50_us") or bar.workload == "W8s":
        return fact("pingpong_p50_us")
    if bar.workload == "W8":  # one produce as in W7, and the consumer's request and response
        produce = results.median("floor", "W7", "broker_us_req")
        return None if produce is None or trip is None else (produce + trip) * 1e3
    return results.median("floor", bar.workload, bar.field)


def workload_rows(results: Results) -> Iterator[str]:
    """One row for every bar."""
    yield (
        "| workload | figure | mqlog (spread) | Kafka median / best | floor "
        "| to floor | to Kafka | bar | |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for bar in BARS:
        ours = results.median("mqlog", bar.workload, bar.field)
        if ours is None:
            continue
        kafka = results.median("kafka", bar.workload, bar.field)
        best = results.best("kafka", bar.workload, bar.field)
        floor = floor_of(results, bar)
        limits = [
            times * base
            for times, base in ((bar.floor, floor), (bar.kafka, best))
            if times and base
        ]
        limits += [bar.absolute] if bar.absolute else []
        limit = max(limits, default=None)
        spread = results.spread("mqlog", bar.workload, bar.field)
        cells = [
            f"{bar.workload} {WORKLOADS[bar.workload].title}",
            bar.unit,
            number(ours * bar.scale) + (f" ({spread:.0%})" if spread is not None else ""),
            f"{number(kafka and kafka * bar.scale)} / {number(best and best * bar.scale)}",
            number(floor and floor * bar.scale),
            number(floor and ours / floor, "x"),
            number(best and ours / best, "x"),
            number(limit and limit * bar.scale),
            verdict(ours, limit),
        ]
        yield "| " + " | ".join(cells) + " |"


def fsync_rows(results: Results) -> Iterator[str]:
    """Throughput and tail with fsync, beside `os` and a bare write-and-flush loop."""
    names = [n for n in ("F1", "F100") if results.values("mqlog-fsync", n, "rec_s")]
    if not names:
        return
    yield (
        "\n| fsync | fsync rec/s | os rec/s | loop rec/s | at least | "
        "| p99 µs | loop p99 | at most | |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name in names:
        ours = results.median("mqlog-fsync", name, "rec_s") or 0
        volatile = results.median("mqlog", name, "rec_s")
        loop = results.median("floor", name, "rec_s")
        tail = results.median("mqlog-fsync", name, "p99_us")
        loop_tail = results.median("floor", name, "p99_us")
        wants = [share * x for share, x in ((0.7, volatile), (0.8, loop)) if x]
        least = min(wants, default=None)
        cells = [
            WORKLOADS[name].title,
            number(ours),
            number(volatile),
            number(loop),
            number(least),
            "-" if least is None else "holds" if ours >= least else f"short {1 - ours / least:.0%}",
            number(tail),
            number(loop_tail),
            number(loop_tail and 3 * loop_tail),
            verdict(tail, loop_tail and 3 * loop_tail),
        ]
        yield "| " + " | ".join(cells) + " |"


def other_rows(results: Results) -> Iterator[str]:
    """Ratios between two runs of ours, and the process itself."""
    yield "\n| | mqlog | Kafka | at most | |"
    yield "|---|---|---|---|---|"
    for over, under, field, title, limit in PAIRS:
        ratios: dict[str, float | None] = {}
        for who in ("mqlog", "kafka"):
            one, other = results.median(who, over, field), results.median(who, under, field)
            ratios[who] = one / other if one and other else None
        if ratios["mqlog"]:
            cells = [title, number(ratios["mqlog"], "x"), number(ratios["kafka"], "x")]
            cells += [number(limit, "x"), verdict(ratios["mqlog"], limit)]
            yield "| " + " | ".join(cells) + " |"
    for field, unit, title, limit in PROCESS:
        ours, kafka = (results.median(who, "process", field) for who in ("mqlog", "kafka"))
        cells = [title, number(ours, f" {unit}"), number(kafka, f" {unit}")]
        cells += [number(limit, f" {unit}"), verdict(ours, limit)]
        yield "| " + " | ".join(cells) + " |"


def table(runs: list[dict[str, Any]]) -> str:
    """The whole report."""
    results = Results(runs)
    lines = [*workload_rows(results), *fsync_rows(results), *other_rows(results)]
    failures = list(results.failures())
    if failures:
        lines += ["\nFailed:", *(f"- {failure}" for failure in failures)]
    return "\n".join(lines)
