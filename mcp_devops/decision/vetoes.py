"""What stops an action, whatever the probability.

Most vetoes turn a rollback into a hold. Three only take the decision away from the machine and
leave the recommendation to a person: a late onset where new and old were compared at the same
time (against the past, the onset is all that ties the trouble to the deployment), a failed
record of right decisions, and a missing source where the pods alone prove the failure (a crash
loop needs no metric).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mcp_devops.decision import statistics as st
from mcp_devops.decision.causes import is_degraded, sees_enough
from mcp_devops.decision.facts import Facts
from mcp_devops.decision.policy import ChangeHistory, Policy
from mcp_devops.decision.rules.change import is_restart
from mcp_devops.decision.rules.outbound import dependency_fails
from mcp_devops.decision.rules.scaling import latency_alone
from mcp_devops.decision.vocabulary import ERRORS, PODS, SAME_TIME_RULES
from mcp_devops.decision.weighing import Weighed
from mcp_devops.model.verdict import Finding, Veto

NO_PREVIOUS = "no_previous_revision"
"""Nothing to return to: the only veto that leads to fix-forward."""

NOT_ENOUGH_DATA = "not_enough_data"
"""Too few requests for an all-clear."""


NEW_VULNERABILITY = "new_vulnerability"
"""The image has a new critical or high vulnerability: hold it where it is."""


@dataclass(frozen=True)
class Stop:
    """A veto, and whether it also stops a person's rollback from being recommended."""

    veto: Veto
    blocks: bool = True


def vetoes(
    facts: Facts, weighed: Weighed, policy: Policy, history: ChangeHistory
) -> tuple[Stop, ...]:
    """All vetoes on these facts, in the order of the checks."""
    return (
        *_about_the_target(facts, weighed),
        *_about_the_sources(facts, weighed, policy),
        *_about_others(facts, policy),
        *_about_the_image(facts, weighed),
        *_about_time(facts, weighed, policy),
        *_about_the_record(history, policy),
    )


def pods_suffice(facts: Facts, policy: Policy) -> bool:
    """Whether pods prove the failure, at once if users are hurt, else after 60 s (A5, A8)."""
    pods = facts.pods
    return pods.proven and (pods.immediate or pods.lasted_s >= policy.time.sustained_s)


def _stop(code: str, says: str, *, blocks: bool = True) -> Stop:
    return Stop(Veto(code=code, says=says), blocks)


def _about_the_target(facts: Facts, weighed: Weighed) -> Iterator[Stop]:
    context, change = facts.context, facts.context.change
    if change is None:
        yield _stop(
            "no_deployment", "No rollout of this workload was found, so none can be undone."
        )
        return
    running = context.rollout.new.revision if context.rollout is not None else 0
    if running and running != change.revision.number:
        yield _stop(
            "revision_moved",
            f"Revision {change.revision.number} was judged, revision {running} is running.",
        )
    if context.rolled_back_before:
        yield _stop("rolled_back_before", "This incident was already rolled back once.")
    if weighed.blaming and change.previous is None:
        yield _stop(NO_PREVIOUS, "There is no earlier revision to return to.")
    elif weighed.blaming and is_restart(change):
        yield _stop(
            "nothing_to_undo", "The revision differs in metadata only; an undo cures nothing."
        )
    if facts.pods.configuration_gone and not facts.worse_than_control:
        yield _stop(
            "configuration_gone",
            "A ConfigMap, Secret or key is missing that the change did not introduce; "
            "restore it, an undo does not.",
        )


def _about_the_sources(facts: Facts, weighed: Weighed, policy: Policy) -> Iterator[Stop]:
    blocks = not pods_suffice(facts, policy)
    for missing in sorted(facts.context.missing, key=lambda m: (m.source, m.what, m.why)):
        if missing.needed:
            yield _stop(
                "source_missing",
                f"{missing.source}: {missing.what} could not be had ({missing.why}).",
                blocks=blocks,
            )
    if not weighed.blaming and not sees_enough(facts) and not is_degraded(facts):
        best = [c for c in facts.judged if c.exposure_known]
        seen = (
            f"Not enough data yet to see {best[0].smallest_visible}."
            if best
            else "Not enough data: no error counts could be compared."
        )
        yield _stop(NOT_ENOUGH_DATA, seen)


def _about_others(facts: Facts, policy: Policy) -> Iterator[Stop]:
    if facts.several_sick and facts.has_symptoms:
        names = ", ".join(facts.sick_neighbours[:5])
        yield _stop("several_services", f"Several other services are sick at once: {names}.")
    if facts.both_sick or facts.pods.shared:
        yield _stop("both_revisions_sick", "The old revision fails as well as the new one.")
    failing = dependency_fails(facts, policy) if facts.has_symptoms else []
    if failing:
        names = ", ".join(c.dependency for c in failing[:3])
        yield _stop("dependency_fails", f"Calls to a dependency fail: {names}.")
    if facts.pods.placed_badly and not facts.worse_than_control:
        yield _stop(
            "infrastructure", "Pods fail for want of a node or capacity, not for their code."
        )
    if latency_alone(facts):
        yield _stop("latency_alone", "Only latency rose; look at capacity first (A4).")


def _about_the_image(facts: Facts, weighed: Weighed) -> Iterator[Stop]:
    """A new vulnerability holds what would go on (A10); it keeps no one from going back."""
    risk = facts.context.image_risk
    if risk is not None and risk.hold and not weighed.blaming:
        first = risk.reasons[0] if risk.reasons else risk.summary
        yield _stop(NEW_VULNERABILITY, f"{risk.image} must not go on to the next stage: {first}.")


def _about_time(facts: Facts, weighed: Weighed, policy: Policy) -> Iterator[Stop]:
    if pods_suffice(facts, policy):
        return
    early = [c for c in facts.judged if c.began_before]
    blaming = [f for f in weighed.blaming if f.group in (ERRORS, PODS)]
    if early and not blaming:
        yield _stop(
            "onset_before_deployment", f"It began before the deployment: {early[0].numbers}."
        )
    lasting = [f for f in blaming if (f.sustained_s or 0.0) >= policy.time.sustained_s]
    if blaming and not lasting:
        yield _stop(
            "not_sustained", f"It has not lasted {policy.time.sustained_s:g} seconds yet (A5)."
        )
    live = [c for c in facts.judged if not c.began_before and c.run is not None]
    if live and all(c.ended for c in live) and not facts.silent:
        yield _stop("recovered", "The newest minutes are back to normal by themselves.")
    late = _late_onset(facts, lasting, policy)
    if late is not None:
        yield _stop(
            "onset_late",
            f"It began {late / 60:.0f} minutes after the deployment, limit "
            f"{policy.time.age_s / 60:g}; a person decides.",
            blocks=not any(f.rule in SAME_TIME_RULES for f in lasting),
        )


def _late_onset(facts: Facts, lasting: list[Finding], policy: Policy) -> float | None:
    onsets = [f.first_seen_at for f in lasting if f.first_seen_at is not None]
    if not onsets or facts.deployed_at is None:
        return None
    seconds = (min(onsets) - facts.deployed_at).total_seconds()
    return seconds if seconds > policy.time.age_s else None


def _about_the_record(history: ChangeHistory, policy: Policy) -> Iterator[Stop]:
    limits = policy.limits
    if history.judged < limits.judged_outcomes:
        return
    bound = st.cp_lower(min(history.right, history.judged), history.judged)
    if bound < limits.right_share:
        yield _stop(
            "record_too_poor",
            f"{history.right} of {history.judged} automatic decisions were right; the share is "
            f"surely above {bound:.2f} only, limit {limits.right_share:.2f}.",
            blocks=False,
        )
