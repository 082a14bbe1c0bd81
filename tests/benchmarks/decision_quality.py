"""How good the judgement is on other people's measurements: one line a file and label.

Run: `python -m tests.benchmarks.decision_quality`. Data: MCP_DEVOPS_DATA, see tests/support.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator

from mcp_devops.decision import Policy, decide
from mcp_devops.model.verdict import Action, Cause, Verdict
from tests.benchmarks import measure
from tests.benchmarks.measure import Result, Skipped
from tests.support import decision_data as data

Row = list[tuple[bool, Verdict]]


def collect() -> dict[str, Row]:
    """Verdicts by file and label, each with whether undoing the change would have been right."""
    rows: dict[str, Row] = defaultdict(list)
    for name, buckets in (("petshop", 1), ("petshop_normal", 1), ("petshop_normal", 5)):
        policy = data.ONE_BUCKET if buckets == 1 else Policy()
        for case in data.cases(name):
            context, now = data.petshop_context(case, baseline_buckets=buckets)
            label = case["label"].get("symptom", f"{buckets} buckets before")
            verdict = decide(context, policy, now)
            rows[f"{name}: {label}"].append((bool(case["label"]["regression"]), verdict))
    for case in data.cases("nezha"):
        context, now = data.nezha_context(case)
        verdict = decide(context, data.FOUR_BUCKETS, now)
        rows[f"nezha: {case['label']['fault']}"].append((case["label"]["regression"], verdict))
    for found in data.rootcause_verdicts():
        label = "culprit" if found.culprit else "decoy"
        rows[f"rootcausebench: {label}"].append((found.culprit, found.verdict))
    return rows


def line(name: str, row: Row) -> str:
    verdicts = [v for _, v in row]
    count = {a: sum(v.action is a for v in verdicts) for a in Action}
    automatic = sum(v.automatic for v in verdicts)
    code = sum(v.cause is Cause.NEW_CODE for v in verdicts)
    mean = sum(v.confidence for v in verdicts) / len(verdicts)
    return (
        f"{name:34} {len(row):4} {count[Action.ROLL_BACK]:9} {automatic:9} "
        f"{count[Action.HOLD]:5} {count[Action.NONE]:9} {code:7} {mean:7.2f}"
    )


def share(part: int, whole: int) -> str:
    return f"{part}/{whole} ({part / whole:.3f})" if whole else "none"


def run() -> Iterator[Result]:
    """For `python -m tests.benchmarks`: the engine against always rolling back."""
    if data.directory() is None:
        yield Skipped("decision_quality", "no data: set MCP_DEVOPS_DATA")
        return
    files: dict[str, Row] = defaultdict(list)
    for name, row in collect().items():
        files[name.partition(":")[0]] += row
    for name, row in files.items():
        guilty = sum(right for right, _ in row)
        if guilty == len(row):
            continue
        acted = [right for right, v in row if v.action is Action.ROLL_BACK]
        wrong = len(acted) - sum(acted)
        yield measure.Row(
            "decision_quality",
            f"{name}: innocent deployments rolled back",
            wrong,
            len(row) - guilty,
            "always rolling back",
            "cases",
            note=f"of {guilty} guilty ones {sum(acted)} rolled back",
        )


def main() -> int:
    if data.directory() is None:
        print("No data: set MCP_DEVOPS_DATA to the folder with decision/*.jsonl.")
        return 0
    rows = collect()
    print(f"policy {Policy().version}")
    print(
        f"{'file: label':34} {'n':>4} {'roll back':>9} {'automatic':>9} {'hold':>5} "
        f"{'no action':>9} {'code':>7} {'mean p':>7}"
    )
    for name, row in rows.items():
        print(line(name, row))
    for title, found in (
        ("per file", rows),
        ("all", {"all": [x for r in rows.values() for x in r]}),
    ):
        files: dict[str, Row] = defaultdict(list)
        for name, row in found.items():
            files[name.partition(":")[0]] += row
        print(f"\n{title}: precision and recall of a rollback; flagged = p >= .5 or rolled back")
        for name, row in files.items():
            acted = [right for right, v in row if v.action is Action.ROLL_BACK]
            flagged = [
                right for right, v in row if v.action is Action.ROLL_BACK or v.confidence >= 0.5
            ]
            guilty = sum(right for right, _ in row)
            print(
                f"{name:18} rollback precision {share(sum(acted), len(acted))}, recall "
                f"{share(sum(acted), guilty)}; flagged precision "
                f"{share(sum(flagged), len(flagged))}, recall {share(sum(flagged), guilty)}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
