"""Resident memory after the tool list, and after an investigation, against the bare server."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.measure import (
    Result,
    Row,
    bare,
    interleaved,
    medians,
    ours,
    scratch,
    spoken,
)

REPETITIONS = 5
SCENARIO = "crash-loop"
WORKLOAD = {"namespace": "shop", "workload": "cart"}


def run() -> Iterator[Result]:
    with scratch() as folder:

        def listed() -> float:
            with spoken(*ours(folder)) as peer:
                peer.ask("tools/list")
                return peer.resident_mb()

        def investigated() -> float:
            with spoken(*ours(folder, "--scenario", SCENARIO)) as peer:
                peer.ask("tools/list")
                peer.call("incident_investigate", WORKLOAD)
                return peer.resident_mb()

        def floor() -> float:
            with spoken(*bare(folder)) as peer:
                peer.ask("tools/list")
                peer.call("ping", {})
                return peer.resident_mb()

        ways = {"listed": listed, "investigated": investigated, "bare": floor}
        found = medians(interleaved(ways, REPETITIONS))
    yield Row(
        "memory", "RSS after tools/list", found["listed"], found["bare"], "bare mcp server", "MB"
    )
    yield Row(
        "memory",
        "RSS after an investigation",
        found["investigated"],
        found["bare"],
        "bare mcp server",
        "MB",
        note="in one process with the replayed cluster and Prometheus",
    )
