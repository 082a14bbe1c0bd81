"""What holds for any evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as some

from mcp_devops.decision import ChangeHistory, Policy, decide
from mcp_devops.model.evidence import (
    Arm,
    DiagnosticContext,
    PodCause,
    RequestSeries,
    RevisionPods,
    RolloutClass,
)
from mcp_devops.model.verdict import Action, Verdict
from tests.support import evidence as ev

POLICY = Policy()
SEVERITY = {Action.NONE: 0, Action.HOLD: 1, Action.FIX_FORWARD: 2, Action.ROLL_BACK: 2}
MORE = settings(max_examples=50, deadline=None)


def judge(context: DiagnosticContext, prior: ChangeHistory | None = None) -> Verdict:
    return decide(context, POLICY, ev.seconds(600), prior=prior)


LEVELS = some.sampled_from([0.0, 1.0, 2.5, 8.0, 30.0, 120.0, 600.0])
"""Errors a minute of about a thousand requests: from quiet to broken, not always whole."""


def minutes(count: int) -> some.SearchStrategy[list[float]]:
    level = some.lists(LEVELS, min_size=count, max_size=count)
    return level | LEVELS.map(lambda errors: [errors] * count)


REQUESTS = some.sampled_from([1000.0, 1000.0, 300.0, 30.0, None])
P99 = some.sampled_from([None, [400.0] * 10, [400.0] * 4 + [470.0] * 6, [400.0] * 3 + [900.0] * 7])


@some.composite
def series(draw: some.DrawFn) -> tuple[RequestSeries, ...]:
    requests = draw(REQUESTS)
    level = draw(some.sampled_from([0.0, 1.0, 20.0]))
    tail = draw(some.sampled_from([[], [], [level] * 10, [level] * 8 + [120.0] * 2]))
    found = [
        ev.series(
            Arm.BASELINE,
            ev.buckets(-2400, 60, requests, [level] * 30 + tail, p99_ms=[400.0] * (30 + len(tail))),
        )
    ]
    arms = draw(some.sets(some.sampled_from([Arm.AFTER, Arm.CONTROL, Arm.NEW])))
    found += [ev.after(arm, draw(minutes(10)), requests, p99_ms=draw(P99)) for arm in arms]
    return tuple(sorted(found, key=lambda s: s.arm))


@some.composite
def new_pods(draw: some.DrawFn) -> RevisionPods:
    failing = draw(some.integers(0, 4))
    return ev.pods(
        draw(some.integers(0, 4)),
        failing,
        restarts=draw(some.integers(0, 5)),
        cause=draw(some.sampled_from(PodCause)) if failing else PodCause.NONE,
        exit_codes=draw(some.sampled_from([(), (1,), (137,)])),
    )


@some.composite
def contexts(draw: some.DrawFn) -> DiagnosticContext:
    old = draw(
        some.none() | some.builds(lambda ready: ev.pods(ready, number=41), some.integers(0, 4))
    )
    rollout = draw(
        some.none()
        | some.builds(
            ev.rollout,
            some.just(RolloutClass.HEALTHY) | some.sampled_from(RolloutClass),
            new_pods(),
            some.just(old),
            at_s=some.sampled_from([240, 90, 20]),
            deadline_exceeded=some.booleans(),
        )
    )
    return ev.context(
        *draw(series()),
        rollout=rollout,
        judged=draw(some.sampled_from([ev.NEW_IMAGE] * 6 + [ev.change(previous=None), None])),
        neighbours=draw(
            some.lists(
                some.builds(
                    ev.neighbour,
                    some.sampled_from("abcd"),
                    sick=some.sampled_from([False] * 4 + [True]),
                ),
                max_size=4,
                unique_by=lambda n: n.service,
            )
        ),
        scaling=draw(some.lists(some.builds(ev.scaling, some.integers(-600, 600)), max_size=2)),
        missing=draw(
            some.lists(
                some.builds(
                    ev.missing, some.just("x"), needed=some.sampled_from([False, False, True])
                ),
                max_size=1,
            )
        ),
        drift=draw(
            some.lists(
                some.builds(
                    ev.drifted,
                    some.sampled_from([0.3, 0.8]),
                    names_service=some.booleans(),
                    address=some.sampled_from("ab"),
                ),
                max_size=2,
            )
        ),
        outbound=draw(
            some.lists(
                some.builds(
                    ev.calls,
                    some.sampled_from([0.0, 0.01, 0.4]),
                    before=some.sampled_from([None, 0.001]),
                    old=some.sampled_from([None, 0.0, 0.4]),
                    new=some.sampled_from([None, 0.0, 0.4]),
                    dependency=some.sampled_from("xy"),
                ),
                max_size=2,
            )
        ),
        image_risk=draw(some.none() | some.builds(ev.risky, hold=some.booleans())),
        issues=draw(some.none() | some.builds(ev.issues, some.integers(0, 3))),
        rolled_back_before=draw(some.sampled_from([False] * 5 + [True])),
    )


def shuffled(context: DiagnosticContext, order: Any) -> DiagnosticContext:
    def mixed(values: Sequence[Any]) -> tuple[Any, ...]:
        copy = list(values)
        order.shuffle(copy)
        return tuple(copy)

    return context.model_copy(
        update={
            "requests": mixed(
                [s.model_copy(update={"buckets": mixed(s.buckets)}) for s in context.requests]
            ),
            "neighbours": mixed(context.neighbours),
            "scaling": mixed(context.scaling),
            "drift": mixed(context.drift),
            "outbound": mixed(context.outbound),
            "missing": mixed(context.missing),
        }
    )


@MORE
@given(contexts(), some.randoms(use_true_random=False))
def test_the_order_of_the_evidence_does_not_matter(context: DiagnosticContext, order: Any) -> None:
    assert judge(shuffled(context, order)) == judge(context)


@MORE
@given(contexts())
def test_the_same_facts_have_the_same_verdict_and_id(context: DiagnosticContext) -> None:
    slower = context.model_copy(update={"took_s": 99.0})
    assert judge(slower) == judge(context)


@MORE
@given(contexts(), some.text(max_size=40))
def test_log_text_has_no_weight(context: DiagnosticContext, text: str) -> None:
    if context.rollout is None:
        return
    new = context.rollout.new.model_copy(update={"log_line": text})
    said = context.model_copy(update={"rollout": context.rollout.model_copy(update={"new": new})})
    assert judge(said) == judge(context)


def is_no_milder(worse: Verdict, verdict: Verdict) -> bool:
    return (
        worse.confidence >= verdict.confidence - 1e-12
        and SEVERITY[worse.action] >= SEVERITY[verdict.action]
    )


def with_errors(series: RequestSeries, where: set[int], factor: float) -> RequestSeries:
    return series.model_copy(
        update={
            "buckets": tuple(
                b.model_copy(update={"errors": b.errors + factor})
                if i in where and b.errors is not None
                else b
                for i, b in enumerate(series.buckets)
            )
        }
    )


@settings(max_examples=120, deadline=None)
@given(
    contexts(),
    some.sets(some.integers(0, 9), min_size=1),
    some.sampled_from([1.0, 4.0, 25.0, 120.0, 900.0]),
)
def test_more_errors_after_the_deployment_never_make_the_verdict_milder(
    context: DiagnosticContext, where: set[int], factor: float
) -> None:
    worse = context.model_copy(
        update={
            "requests": tuple(
                with_errors(s, where, factor) if s.arm in (Arm.NEW, Arm.AFTER) else s
                for s in context.requests
            )
        }
    )
    assert is_no_milder(judge(worse), judge(context))


@settings(max_examples=120, deadline=None)
@given(contexts(), some.integers(0, 3), some.integers(0, 3))
def test_more_failing_pods_never_make_the_verdict_milder(
    context: DiagnosticContext, failing: int, restarts: int
) -> None:
    if context.rollout is None:
        return
    old = context.rollout.new
    new = old.model_copy(
        update={
            "failing": old.failing + failing,
            "ready": max(0, old.ready - failing),
            "restarts": old.restarts + restarts,
        }
    )
    worse = context.model_copy(update={"rollout": context.rollout.model_copy(update={"new": new})})
    assert is_no_milder(judge(worse), judge(context))


@settings(max_examples=120, deadline=None)
@given(contexts(), some.sampled_from([None, ChangeHistory(deployments=20, failed=15)]))
def test_acting_alone_takes_a_rollback_evidence_and_no_veto(
    context: DiagnosticContext, prior: ChangeHistory | None
) -> None:
    verdict = judge(context, prior)
    if verdict.automatic:
        assert verdict.action is Action.ROLL_BACK
        assert verdict.confidence >= 0.8
        assert verdict.evidence_complete
        assert not verdict.vetoes
    if any(m.needed for m in context.missing) or context.rolled_back_before:
        assert not verdict.automatic
    if context.change is None or context.change.previous is None:
        assert verdict.action is not Action.ROLL_BACK
    if not context.requests and context.rollout is None:
        assert verdict.action is Action.HOLD


@MORE
@given(contexts())
def test_every_verdict_can_be_read(context: DiagnosticContext) -> None:
    verdict = judge(context)
    assert verdict.headline.endswith((".", "!"))
    assert verdict.ask_next
    assert verdict.runner_up
    assert verdict.would_change
    assert abs(sum(c.probability for c in verdict.causes) - 1) < 1e-9
    counted = [f.group for f in verdict.findings if f.counted]
    assert len(counted) == len(set(counted))
