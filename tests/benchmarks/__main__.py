"""Runs the benchmarks: `python -m tests.benchmarks [name…]`, all of them by default.

Prints a table and writes .bench/results.json. Each line is a ratio against a named other that ran
in the same minutes; a ratio over its budget does not fail the run: it is there to be read.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import Result, Row, Skipped

NAMES = (
    "start",
    "schema_bytes",
    "memory",
    "text",
    "decide",
    "investigate",
    "sources",
    "decision_quality",
    "rolling",
)
RESULTS = Path(__file__).parents[2] / ".bench" / "results.json"


def number(value: float, unit: str) -> str:
    return f"{value:,.0f}" if unit in ("bytes", "tokens") else f"{value:,.4g}"


def show(console: Console, results: Sequence[Result]) -> None:
    table = Table("benchmark", "what", "ours", "other", "other is", "ratio", "budget", box=None)
    for r in results:
        if isinstance(r, Skipped):
            table.add_row(r.benchmark, f"skipped: {r.why}")
            continue
        colour = {"PASS": "green", "over": "red"}.get(r.verdict, "default")
        judged = f"[{colour}]{r.verdict} {r.budget:g}x[/]" if r.budget is not None else ""
        what = f"{r.what}\n[dim]{r.note}[/]" if r.note else r.what
        table.add_row(
            r.benchmark,
            what,
            f"{number(r.ours, r.unit)} {r.unit}",
            f"{number(r.other, r.unit)} {r.unit}",
            r.other_name,
            f"{r.ratio:.2f}x",
            judged,
        )
    console.print(table)


def save(results: Sequence[Result]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    kept = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "rows": [r.data() for r in results if isinstance(r, Row)],
        "skipped": [
            {"benchmark": r.benchmark, "why": r.why} for r in results if not isinstance(r, Row)
        ],
    }
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    unknown = set(arguments) - set(NAMES)
    if unknown:
        console.print(
            f"There is no benchmark {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}."
        )
        return 2
    warnings.simplefilter("ignore")
    results: list[Result] = []
    for name in arguments or NAMES:
        console.print(f"[dim]{name} ...[/]")
        results += importlib.import_module(f"tests.benchmarks.{name}").run()
    show(console, results)
    save(results)
    console.print(f"Written to {RESULTS.relative_to(RESULTS.parents[1])}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
