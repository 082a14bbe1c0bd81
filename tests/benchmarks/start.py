"""From process start to the answer of the first tools/list, against the bare server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.measure import (
    ERAS,
    Peer,
    Result,
    Row,
    bare,
    interleaved,
    medians,
    ours,
    scratch,
)

BUDGET = 1.25
REPETITIONS = 11


def run() -> Iterator[Result]:
    used: dict[str, list[float]] = {}
    with scratch() as folder:
        ways = {
            f"{who} {era}": _way(who, era, folder, used) for era in ERAS for who in ("ours", "bare")
        }
        for way in ways.values():
            way()  # byte code and disk cache
        used.clear()
        wall = medians(interleaved(ways, REPETITIONS))
    cpu = medians(used)
    for unit, found in (("s", wall), ("cpu s", cpu)):
        for era in ERAS:
            yield Row(
                "start",
                f"process start to tools/list, {era}",
                found[f"ours {era}"],
                found[f"bare {era}"],
                "bare mcp server",
                unit,
                BUDGET,
            )


def _way(who: str, era: str, folder: Path, used: dict[str, list[float]]) -> Callable[[], float]:
    argv, env = (ours if who == "ours" else bare)(folder)

    def once() -> float:
        peer = Peer(argv, env, era)
        try:
            peer.open()
            peer.ask("tools/list")
            took = time.perf_counter() - peer.begun
            used.setdefault(f"{who} {era}", []).append(peer.cpu_s())
        finally:
            peer.close()
        return took

    return once
