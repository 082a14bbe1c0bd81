"""The verdict in sentences: for somebody who was woken at three."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mcp_devops.decision.causes import is_quiet, sees_enough
from mcp_devops.decision.facts import Facts
from mcp_devops.decision.pod_reading import cause_of
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.rules.outbound import dependency_fails
from mcp_devops.decision.rules.scaling import events_near_onset
from mcp_devops.decision.vetoes import NEW_VULNERABILITY, NOT_ENOUGH_DATA, Stop
from mcp_devops.decision.vocabulary import ENVIRONMENT, NEVER_STARTED
from mcp_devops.decision.weighing import Weighed
from mcp_devops.model.evidence import PodCause
from mcp_devops.model.verdict import Action, Cause, CauseProbability

OTHER_EXPLANATIONS = {
    Cause.NEW_CODE: "The new revision, its code or the configuration shipped with it",
    Cause.INFRASTRUCTURE: "Infrastructure: nodes, capacity, scaling, configuration elsewhere",
    Cause.UPSTREAM: "A dependency that other services or the old revision feel too",
    Cause.NONE: "Nothing: ordinary noise, or trouble that is already over",
}
"""Each cause as a sentence."""


def headline(
    action: Action, weighed: Weighed, facts: Facts, stops: Sequence[Stop], cause: Cause
) -> str:
    """One sentence: what to do, and why."""
    change = facts.context.change
    name = str(facts.context.target)
    number = f"revision {change.revision.number}" if change is not None else "the newest revision"
    why = _strongest(weighed, facts)
    if action is Action.ROLL_BACK:
        back = (
            change.previous.number if change is not None and change.previous else "the previous one"
        )
        return (
            f"Roll {name} back from {number} to {back}: {why} ({sure(weighed.probability)} sure)."
        )
    if action is Action.FIX_FORWARD:
        return f"Repair {name} {number}, there is nothing to return to: {why}."
    if action is Action.NONE:
        return f"Leave {name} {number} alone: it serves as well as before."
    blocking = [s.veto.says for s in stops if s.blocks]
    if weighed.blaming:
        reason = blocking[0] if blocking else f"{sure(weighed.probability)} sure is not enough."
        return f"Look at {name} {number} before touching it: {why}. {reason}"
    if [s.veto.code for s in stops if s.blocks] == [NOT_ENOUGH_DATA]:
        return f"Nothing points at {name} {number}, and nothing clears it. {blocking[0]}"
    if [s.veto.code for s in stops if s.blocks] == [NEW_VULNERABILITY] and is_quiet(facts):
        return f"Hold {name} {number} where it is; it serves as well as before. {blocking[0]}"
    if blocking:
        return f"Do not roll {name} back for this. {blocking[0]}"
    return f"Look at {name} {number}: something is wrong, probably {_plain(cause)}."


def _plain(cause: Cause) -> str:
    return cause.value.replace("_", " ") if cause is not Cause.UNKNOWN else "of unknown cause"


def sure(probability: float) -> str:
    """A probability in whole percent, never rounded to the certainty that it is not."""
    return f"{min(99, max(1, round(probability * 100)))}%"


def _strongest(weighed: Weighed, facts: Facts) -> str:
    counted = [f for f in weighed.blaming if f.counted and f.group != ENVIRONMENT]
    rollout = facts.context.rollout
    if rollout is not None and facts.pods.proven:
        cause = cause_of(rollout)
        said = (
            "never turn ready"
            if cause is PodCause.NONE
            else f"fail ({cause.value.replace('_', ' ')})"
        )
        return f"its new pods {said}, {rollout.available} of {rollout.desired} pods are available"
    errors = [c for c in facts.judged if c.exposure_known and not c.began_before and c.run]
    if not errors:
        return counted[0].says if counted else "the evidence is thin"
    worst = max(errors, key=lambda c: (c.concurrent, c.rise, c.source, c.service))
    latency = _latency(facts)
    if worst.concurrent:
        return (
            f"{worst.rate1:.1%} of the new revision's requests fail, "
            f"{worst.rate0:.1%} of the old one's{latency}"
        )
    return f"{worst.rate1:.1%} of its requests fail, {worst.rate0:.1%} did before{latency}"


def _latency(facts: Facts) -> str:
    """How much slower, as a factor only where durations were compared."""
    hot = [c for c in facts.latency_judged if c.hot]
    ratios = [c.ratio for c in hot if not c.of_shares and math.isfinite(c.ratio)]
    if ratios:
        return f", and latency is {max(ratios):.1f} times as high"
    return ", and many more of them are slow" if hot else ""


def runner_up(ranked: Sequence[CauseProbability]) -> str:
    """The best other explanation, with its share."""
    second = ranked[1]
    return f"{OTHER_EXPLANATIONS[second.cause]} ({sure(second.probability)})."


def ask_next(facts: Facts, stops: Sequence[Stop], policy: Policy) -> str:
    """The one check that parts the two best explanations."""
    codes = {s.veto.code for s in stops}
    lost = [m for m in facts.context.missing if m.needed]
    namespace, name = facts.context.target.namespace, facts.context.target.name
    if lost:
        first = min(lost, key=lambda m: (m.source, m.what, m.why))
        return f"Get {first.what} from {first.source} again ({first.why}), then judge anew."
    shared = _ask_about_dependencies(facts, policy)
    if shared:
        return shared
    if facts.pods.shared or facts.pods.configuration_gone:
        return (
            f"kubernetes_tail_logs on an old and a new pod of {namespace}/{name}: what do both "
            "miss, and when was that Secret, ConfigMap or dependency changed?"
        )
    if facts.pods.placed_badly:
        return (
            f"Events of {namespace}/{name}: which node, quota or resource request keeps pods out?"
        )
    if facts.pods.proven and cause_of_pods(facts) in NEVER_STARTED:
        return f"Events of a new pod of {namespace}/{name}: does the image, key or mount exist?"
    if facts.pods.troubled:
        return (
            f"kubernetes_tail_logs on a new pod of {namespace}/{name} with previous=true, and on "
            "an old pod: does only the new one fail?"
        )
    near = events_near_onset(facts, policy)
    if "latency_alone" in codes and near:
        return f"Give {namespace}/{name} its capacity back ({near[0].what}): does p99 follow?"
    if "latency_alone" in codes:
        return (
            f"Scaling events of {namespace}/{name} (HPA, nodes) at the onset, then p99 by version: "
            "is only the new version slow?"
        )
    risk = facts.context.image_risk
    if NEW_VULNERABILITY in codes and risk is not None:
        return f"Is what {risk.image} brought reachable here, and is a fixed version out?"
    if sees_enough(facts) and not weighed_anything(facts):
        return "Nothing; look again if an alert fires."
    if any(c.concurrent for c in facts.judged):
        return f"Errors by endpoint for the new version of {name}: which code path fails?"
    return f"Compare the error rate by version: {_by_version(facts)}"


def _ask_about_dependencies(facts: Facts, policy: Policy) -> str | None:
    name = facts.context.target.name
    failing = dependency_fails(facts, policy) if facts.has_symptoms else []
    if failing:
        first = failing[0]
        return f"Is {first.dependency} up, for its other callers too? Calls to it: {first.query}"
    if facts.several_sick:
        sick = ", ".join((name, *facts.sick_neighbours[:3]))
        return f"Which dependency do {sick} share, and is it up?"
    if facts.both_sick:
        return f"Errors of {name} by outbound call: which dependency do both revisions miss?"
    return None


def cause_of_pods(facts: Facts) -> PodCause:
    """Why pods fail; NONE where they were not read."""
    rollout = facts.context.rollout
    return PodCause.NONE if rollout is None else cause_of(rollout)


def weighed_anything(facts: Facts) -> bool:
    """Whether errors or latency rose."""
    return facts.errors_up or facts.latency_up


def _by_version(facts: Facts) -> str:
    queries = sorted(q for s in facts.context.requests for q in s.queries)
    if queries:
        return f"this query, grouped by version or pod-template-hash: {queries[0]}"
    name = facts.context.target.name
    return (
        f'sum by (version) (rate(http_requests_total{{app="{name}",code=~"5.."}}[2m])) '
        f'/ sum by (version) (rate(http_requests_total{{app="{name}"}}[2m]))'
    )


def would_change(
    action: Action, weighed: Weighed, facts: Facts, stops: Sequence[Stop], policy: Policy
) -> tuple[str, ...]:
    """What evidence would change the verdict."""
    lines = [f"Without this veto: {s.veto.says}" for s in stops if s.blocks and weighed.blaming]
    if weighed.cap is not None:
        lines.append(
            f"The probability is capped at {weighed.cap:.2f}; new against old in the same minutes "
            "would lift the cap."
        )
    if action in (Action.ROLL_BACK, Action.FIX_FORWARD):
        lines.append("The old revision failing alike, or other services sick at the same time.")
    elif action is Action.HOLD:
        lines.append(
            f"{policy.limits.automatic_confidence:.0%} or more with a lasting rise on the new "
            "revision alone: roll back. Enough requests without a rise: no action."
        )
    else:
        seen = [c.smallest_visible for c in facts.judged if c.sees_enough]
        lines.append(
            f"A rise of errors; with these requests {seen[0]} would not show." if seen else ""
        )
    return tuple(line for line in lines if line)
