"""Decisions a second on a whole context, and the cost of the first one of a process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from mcp_devops.decision import Policy, decide
from mcp_devops.model.change import ChangeArea
from mcp_devops.model.evidence import Arm, DiagnosticContext, RequestSeries
from tests.benchmarks.measure import Result, Row, interleaved, medians, scratch, timed
from tests.support import evidence as e

REPETITIONS = 9
LOOPS = 20
NEIGHBOURS = 12

COLD = """
import json, time
from pathlib import Path
from mcp_devops.decision import Policy, decide
from mcp_devops.model.evidence import DiagnosticContext
text = Path({path!r}).read_text(encoding="utf-8")
context = DiagnosticContext.model_validate_json(text)
begun = time.perf_counter()
{work}
print(time.perf_counter() - begun)
"""
DECIDES = "decide(context, Policy(), context.collected_at)"
PARSES = "json.loads(json.dumps(context.model_dump(mode='json')))"


def whole_context() -> DiagnosticContext:
    """An error regression with all arms, half an hour of baseline, and healthy neighbours."""
    arms: list[RequestSeries] = [
        e.baseline([2.0] * 30, 4000, p99_ms=[180.0 + n % 7 for n in range(30)]),
        e.after(Arm.AFTER, [220.0] * 15, 4000, p99_ms=[420.0 + n for n in range(15)]),
        e.after(Arm.NEW, [200.0] * 15, 2000, p99_ms=[640.0 + n for n in range(15)]),
        e.after(Arm.CONTROL, [1.0] * 15, 2000, p99_ms=[185.0] * 15),
    ]
    neighbours = [e.neighbour(f"service-{n}", sick=False) for n in range(NEIGHBOURS)]
    return e.context(*arms, now_s=900, judged=e.change(ChangeArea.IMAGE), neighbours=neighbours)


def run() -> Iterator[Result]:
    context = whole_context()
    policy, now = Policy(), context.collected_at
    plain = context.model_dump(mode="json")

    def judge() -> None:
        for _ in range(LOOPS):
            decide(context, policy, now)

    def parse() -> None:
        for _ in range(LOOPS):
            json.loads(json.dumps(plain))

    found = medians(interleaved({"ours": timed(judge), "json": timed(parse)}, REPETITIONS))
    ours, other = found["ours"] / LOOPS * 1e3, found["json"] / LOOPS * 1e3
    size = len(json.dumps(plain))
    verdict = decide(context, policy, now)
    yield Row(
        "decide",
        "one decision, warm",
        ours,
        other,
        "json.dumps + loads of the same context",
        "ms",
        note=f"{1e3 / ours:,.0f} decisions/s on {size:,} bytes: {verdict.action.value},"
        f" {verdict.confidence:.2f}",
    )
    with scratch() as folder:
        path = folder / "context.json"
        path.write_text(context.model_dump_json(), encoding="utf-8")

        def cold(work: str) -> float:
            code = COLD.format(path=str(path), work=work)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            return float(done.stdout)

        ways = {"ours": lambda: cold(DECIDES), "json": lambda: cold(PARSES)}
        found = medians(interleaved(ways, 3))
    yield Row(
        "decide",
        "first decision of a process",
        found["ours"] * 1e3,
        found["json"] * 1e3,
        "first json round trip of a process",
        "ms",
        note="with the import of the engine",
    )
