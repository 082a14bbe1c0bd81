"""The judgement on other people's measurements; skipped where the files are not at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean, median

import pytest

from mcp_devops.decision import Policy, decide
from mcp_devops.decision import statistics as st
from mcp_devops.model.verdict import Action, Cause, Verdict
from tests.support import decision_data as data

pytestmark = pytest.mark.skipif(
    data.directory() is None, reason="set MCP_DEVOPS_DATA to the folder with decision/*.jsonl"
)

Reading = Callable[[data.Case, Sequence[int], Sequence[int]], bool]


def column(case: data.Case, signal: str, times: Sequence[int]) -> list[float]:
    values = data.points(case, signal)
    return [v for t in times if (v := values.get(t)) is not None]


def counts(case: data.Case, times: Sequence[int]) -> tuple[float, float]:
    return sum(column(case, "errors", times)), sum(column(case, "requests", times))


def errors_rise(rho: float) -> Reading:
    def reading(case: data.Case, before: Sequence[int], after: Sequence[int]) -> bool:
        k0, n0 = counts(case, before)
        k1, n1 = counts(case, after)
        rates = [counts(case, [t]) for t in after]
        hot = [n > 0 and k / n - k0 / n0 >= 0.005 for k, n in rates]
        return st.p_above(k1, n1, k0, n0, rho) >= 0.95 and st.sustained(hot, 300) is not None

    return reading


def latency_rises(signal: str) -> Reading:
    def reading(case: data.Case, before: Sequence[int], after: Sequence[int]) -> bool:
        usual = median(column(case, signal, before))
        hot = [v >= 1.25 * usual for v in column(case, signal, after)]
        return st.sustained(hot, 300) is not None

    return reading


def relative(case: data.Case, before: Sequence[int], after: Sequence[int]) -> bool:
    k0, n0 = counts(case, before)
    k1, n1 = counts(case, after)
    return k1 / n1 > 1.05 * k0 / n0


def both_relative(case: data.Case, before: Sequence[int], after: Sequence[int]) -> bool:
    p99 = fmean(column(case, "latency_p99", after)) / median(column(case, "latency_p99", before))
    return relative(case, before, after) and p99 > 1.10


@pytest.mark.parametrize(
    ("reading", "availability", "latency", "normal_1", "normal_5"),
    [
        (errors_rise(1.0), 10, 0, 0, 1),
        (errors_rise(1.5), 10, 0, 0, 1),
        (latency_rises("latency_avg"), 0, 6, 0, 0),
        (latency_rises("latency_p99"), 2, 8, 8, 5),
        (both_relative, 2, 5, 16, 9),
        (relative, 10, 5, 72, 60),
    ],
    ids=["errors", "errors 1.5", "average", "p99", "users' rule, bare", "errors > 5 %, bare"],
)
def test_readings_of_the_shop_are_those_of_its_table(
    reading: Reading, availability: int, latency: int, normal_1: int, normal_5: int
) -> None:
    found: Counter[str] = Counter()
    for case in data.cases("petshop"):
        found[case["label"]["symptom"]] += reading(
            case, *data.petshop_times(case, baseline_buckets=1)
        )
    for buckets in (1, 5):
        found[f"normal {buckets}"] = sum(
            reading(case, *data.petshop_times(case, baseline_buckets=buckets))
            for case in data.cases("petshop_normal")
        )
    assert found == Counter(
        {
            "availability": availability,
            "latency": latency,
            "normal 1": normal_1,
            "normal 5": normal_5,
        }
    )


def petshop(name: str, *, buckets: int, neighbours: bool = True) -> list[tuple[data.Case, Verdict]]:
    policy = data.ONE_BUCKET if buckets == 1 else Policy()
    return [
        (case, decide(context, policy, now))
        for case in data.cases(name)
        for context, now in [
            data.petshop_context(case, baseline_buckets=buckets, neighbours=neighbours)
        ]
    ]


@pytest.mark.parametrize("neighbours", [True, False])
@pytest.mark.parametrize("buckets", [1, 5])
def test_no_normal_window_is_rolled_back(buckets: int, neighbours: bool) -> None:
    actions = Counter(
        v.action for _, v in petshop("petshop_normal", buckets=buckets, neighbours=neighbours)
    )
    assert actions[Action.ROLL_BACK] == 0
    assert actions[Action.NONE] >= 133


def test_every_lost_availability_blames_the_change_and_no_latency_fault_does() -> None:
    for case, verdict in petshop("petshop", buckets=1):
        if case["label"]["symptom"] == "availability":
            assert verdict.action in (Action.HOLD, Action.ROLL_BACK)
            assert verdict.confidence >= 0.69
        else:
            assert verdict.action in (Action.HOLD, Action.NONE)
            assert verdict.confidence < 0.2


def nezha() -> list[tuple[data.Case, Verdict]]:
    return [
        (case, decide(context, data.FOUR_BUCKETS, now))
        for case in data.cases("nezha")
        for context, now in [data.nezha_context(case)]
    ]


def test_no_infrastructure_fault_is_rolled_back_and_visible_code_faults_are_blamed() -> None:
    blamed = 0
    for case, verdict in nezha():
        if case["label"]["cause"] == "infrastructure_change":
            assert verdict.action is not Action.ROLL_BACK
            assert verdict.cause is not Cause.NEW_CODE
        else:
            blamed += verdict.cause is Cause.NEW_CODE and verdict.confidence >= 0.69
    assert blamed == 12


@pytest.mark.parametrize("number", [36, 37, 38])
def test_the_cases_that_fooled_another_judge_are_seen(number: int) -> None:
    case = data.cases("kayenta")[number]
    arms = {s["arm"]: [v for _, v in s["points"] if v is not None] for s in case["series"]}
    new, old = arms["new"], arms["old"]
    assert st.p_above(sum(new), len(new), sum(old), max(len(old), 1), 1.5) >= 0.95


def test_no_decoy_deployment_is_rolled_back() -> None:
    judged = data.rootcause_verdicts()
    assert len(judged) >= 15
    decoys = [found.verdict.action for found in judged if not found.culprit]
    assert Action.ROLL_BACK not in decoys
