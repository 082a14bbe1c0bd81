"""Other people's measurements as diagnostic contexts.

The files lie outside the repository (licences of their own): in MCP_DEVOPS_DATA, or beside it in
`../shared/data`. Tests and the benchmark skip what is not there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from mcp_devops.decision import Policy, decide
from mcp_devops.model.change import Change, ChangeArea, Revision, TemplateDifference
from mcp_devops.model.evidence import Arm, Bucket, DiagnosticContext, Neighbour, RequestSeries
from mcp_devops.model.target import Workload
from mcp_devops.model.verdict import Verdict
from mcp_devops.model.window import Window, WindowRule, Windows, windows_around

FILES = ("petshop", "petshop_normal", "nezha", "rootcausebench", "kayenta")

ONE_BUCKET = Policy(name="one-bucket", windows=WindowRule(min_baseline_buckets=1))
"""PetShop's faults come with one bucket before them."""

FOUR_BUCKETS = Policy(name="four-buckets", windows=WindowRule(min_baseline_buckets=3))
"""Nezha's faults come with about four minutes before them."""

Case = dict[str, Any]


def directory() -> Path | None:
    """Where the files lie, or None."""
    named = os.environ.get("MCP_DEVOPS_DATA")
    root = Path(named) if named else Path(__file__).parents[2].parent / "shared" / "data"
    for candidate in (root / "decision", root):
        if (candidate / "petshop.jsonl").exists():
            return candidate
    return None


@cache
def cases(name: str) -> tuple[Case, ...]:
    """All cases of one file."""
    folder = directory()
    if folder is None:
        raise FileNotFoundError("set MCP_DEVOPS_DATA to the folder that holds decision/*.jsonl")
    with (folder / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return tuple(json.loads(line) for line in lines)


def points(case: Case, signal: str, service: str | None = None) -> dict[int, float | None]:
    """One series by time; empty where there is none."""
    for one in case["series"]:
        if one["signal"] == signal and one.get("service") == (service or case["service"]):
            return {int(t): v for t, v in one["points"]}
    return {}


def moment(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, tz=UTC)


def request_series(
    case: Case, service: str, times: Sequence[int], arm: Arm, step_s: int
) -> RequestSeries:
    """PetShop's columns of one service as a series."""
    columns = {
        field: points(case, signal, service)
        for field, signal in (
            ("requests", "requests"),
            ("errors", "errors"),
            ("p99_ms", "latency_p99"),
            ("mean_ms", "latency_avg"),
        )
    }
    return RequestSeries(
        source="prometheus",
        service=service,
        arm=arm,
        step_s=step_s,
        buckets=tuple(
            Bucket(start=moment(t), **{name: column.get(t) for name, column in columns.items()})
            for t in times
        ),
    )


def petshop_times(case: Case, *, baseline_buckets: int) -> tuple[list[int], list[int]]:
    """Whole buckets before and after the fault; of the former the newest, or those of the rule."""
    at = case["fault_time"]
    times = sorted(points(case, "requests"))
    before = [t for t in times if t + 300 <= at]
    if baseline_buckets > 1:
        before = [t for t in before if at - 2400 <= t and t + 300 <= at - 600]
    return before[-baseline_buckets:], [t for t in times if t >= at]


def deployment(at: datetime, service: str) -> Change:
    def revision(number: int) -> Revision:
        return Revision(number=number, name=f"r{number}", template_hash=f"t{number}", created_at=at)

    return Change(
        workload=Workload(namespace="data", name=service.lower()[:40]),
        uid="uid",
        started_at=at,
        revision=revision(2),
        previous=revision(1),
        differences=(
            TemplateDifference(area=ChangeArea.IMAGE, path="image", before="1", after="2"),
        ),
    )


def petshop_context(
    case: Case, *, baseline_buckets: int, neighbours: bool = True
) -> tuple[DiagnosticContext, datetime]:
    """A PetShop window as if a deployment lay at its time."""
    before, after = petshop_times(case, baseline_buckets=baseline_buckets)
    deployed, service = moment(case["fault_time"]), case["service"]
    end = moment(after[-1] + 300)
    return (
        _context(
            service,
            deployed,
            Window(start=moment(before[0]), end=moment(before[-1] + 300)),
            end,
            (
                request_series(case, service, before, Arm.BASELINE, 300),
                request_series(case, service, after, Arm.AFTER, 300),
            ),
            tuple(_neighbours(case, before, after)) if neighbours else (),
        ),
        end,
    )


def _neighbours(case: Case, before: list[int], after: list[int]) -> list[Neighbour]:
    found = []
    for service in sorted({s["service"] for s in case["series"]} - {case["service"]}):
        rates = []
        requests = 0.0
        for times in (before, after):
            n = sum(points(case, "requests", service).get(t) or 0 for t in times)
            k = sum(points(case, "errors", service).get(t) or 0 for t in times)
            rates.append(k / n if n else None)
            requests = n
        first, last = rates
        sick = first is not None and last is not None and last - first >= 0.005
        found.append(
            Neighbour(
                service=service,
                deployed_recently=False,
                baseline_error_rate=first,
                after_error_rate=last,
                requests=requests,
                sick=sick,
            )
        )
    return found


def nezha_context(case: Case, per_minute: float = 540) -> tuple[DiagnosticContext, datetime]:
    """A Nezha window: the entry's success rate as counts of its about nine requests a second."""
    at = case["fault_time"]
    success, p99 = points(case, "success_rate"), points(case, "latency_p99")

    def found(arm: Arm, first: float, last: float) -> RequestSeries:
        return RequestSeries(
            source="prometheus",
            service="entry",
            arm=arm,
            step_s=60,
            buckets=tuple(
                Bucket(
                    start=moment(t),
                    requests=per_minute,
                    errors=None if (s := success.get(t)) is None else (100 - s) / 100 * per_minute,
                    p99_ms=p99.get(t),
                )
                for t in sorted(success)
                if first <= t < last
            ),
        )

    before, after = found(Arm.BASELINE, at - 240, at), found(Arm.AFTER, at + 30, at + 201)
    baseline = tuple(b for b in before.buckets if b.start.timestamp() + 60 <= at)
    end = moment(at + 330)
    return (
        _context(
            "entry",
            moment(at),
            Window(start=moment(at - 300), end=moment(at)),
            end,
            (before.model_copy(update={"buckets": baseline}), after),
            (),
        ),
        end,
    )


def _context(
    service: str,
    deployed: datetime,
    baseline: Window,
    end: datetime,
    requests: tuple[RequestSeries, ...],
    neighbours: tuple[Neighbour, ...],
) -> DiagnosticContext:
    change = deployment(deployed, service)
    return DiagnosticContext(
        target=change.workload,
        collected_at=end,
        change=change,
        windows=Windows(
            deployed_at=deployed,
            baseline=baseline,
            after=Window(start=deployed, end=max(end, deployed + timedelta(seconds=1))),
        ),
        requests=requests,
        neighbours=neighbours,
    )


@dataclass(frozen=True)
class Judged:
    """One deploy event of an incident, judged when the alert fired."""

    case: str
    service: str
    culprit: bool
    verdict: Verdict


_ERROR_RATIOS = (
    "http_401_unauthorized_ratio",
    "error_rate_5xx_ratio",
    "outbound_call_error_ratio",
    "upstream_call_error_ratio",
    "deserialize_error_ratio",
    "search_page_error_ratio",
)
_P99 = ("http_server_duration_p99_ms", "db_query_latency_p99_ms")
_RATES = ("request_rate_rps", "requests_per_sec")


def rootcause_verdicts() -> list[Judged]:
    """Every deploy before every alert of RootCauseBench, judged five minutes after the alert."""
    found = []
    for case in cases("rootcausebench"):
        now = moment(case["fault_time"] + 300)
        for deploy in case["context"]["deploys"]:
            deployed = datetime.fromisoformat(deploy["timestamp"])
            if deployed >= moment(case["fault_time"]):
                continue
            context = _rootcause_context(case, deploy["service"], deployed, now)
            culprit = deploy["commit_sha"] == case["label"]["root_cause_commit"]
            verdict = decide(context, Policy(), now)
            found.append(Judged(case["id"], deploy["service"], culprit, verdict))
    return found


def _rootcause_context(
    case: Case, service: str, deployed: datetime, now: datetime
) -> DiagnosticContext:
    windows = windows_around(deployed, now, WindowRule())
    assert windows is not None
    services = sorted({s["service"] for s in case["series"]} - {service})
    neighbours = [n for s in services if (n := _rootcause_neighbour(case, s, windows, now))]
    return DiagnosticContext(
        target=deployment(deployed, service).workload,
        collected_at=now,
        change=deployment(deployed, service),
        windows=windows,
        requests=(
            _rootcause_series(case, service, Arm.BASELINE, windows.baseline.start, deployed),
            _rootcause_series(case, service, Arm.AFTER, deployed, now),
        ),
        neighbours=tuple(neighbours),
    )


def _rootcause_series(
    case: Case, service: str, arm: Arm, start: datetime, end: datetime
) -> RequestSeries:
    """Ratios times traffic; without a traffic series six hundred requests a minute."""

    def first(names: Sequence[str]) -> dict[int, float | None]:
        return next((p for name in names if (p := points(case, name, service))), {})

    ratios, p99, rates = first(_ERROR_RATIOS), first(_P99), first(_RATES)
    buckets = []
    for t in sorted(ratios.keys() | p99.keys()):
        requests = (rates.get(t) or 10.0) * 60
        ratio = ratios.get(t)
        if start <= moment(t) < end:
            buckets.append(
                Bucket(
                    start=moment(t),
                    requests=requests,
                    errors=None if ratio is None else ratio * requests,
                    p99_ms=p99.get(t),
                )
            )
    return RequestSeries(
        source="prometheus", service=service, arm=arm, step_s=60, buckets=tuple(buckets)
    )


def _rootcause_neighbour(
    case: Case, service: str, windows: Windows, now: datetime
) -> Neighbour | None:
    deployed = [
        d
        for d in case["context"]["deploys"]
        if d["service"] == service
        and windows.baseline.start <= datetime.fromisoformat(d["timestamp"]) <= now
    ]
    rates = []
    for arm, span in ((Arm.BASELINE, windows.baseline), (Arm.AFTER, windows.after)):
        found = _rootcause_series(case, service, arm, span.start, span.end).buckets[-5:]
        errors = [b.errors for b in found if b.errors is not None]
        requests = sum(b.requests or 0 for b in found)
        rates.append(sum(errors) / requests if errors and requests else None)
    before, after = rates
    if before is None or after is None:
        return None
    return Neighbour(
        service=service,
        deployed_recently=bool(deployed),
        baseline_error_rate=before,
        after_error_rate=after,
        requests=3000,
        sick=after - before >= 0.005,
    )
