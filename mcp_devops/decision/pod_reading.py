"""What the pods of both revisions prove, seen through the rollout's class.

The class and the cause come from the collector; here it is decided when they are proof enough.
Proof is a state that does not pass by itself:

- containers that ran and ended: restarts of the new revision >= 2 (`PodRules.restarts`), or
  the progress deadline has passed;
- containers that never ran (image, configuration, mount): at once if users are hurt, else after
  60 s (`TimeRules.sustained_s`) or the progress deadline;
- pods that run and never turn ready: after 180 s (`TimeRules.never_ready_s`) or the deadline,
  for a slow start looks the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from mcp_devops.decision.policy import Policy
from mcp_devops.decision.vocabulary import (
    CRASHES,
    INFRASTRUCTURE_CAUSES,
    NEVER_STARTED,
    NOT_OURS,
    OUTAGES,
    TROUBLED,
)
from mcp_devops.model.change import ChangeArea
from mcp_devops.model.evidence import DiagnosticContext, PodCause, RolloutClass, RolloutHealth

CONFIGURATION_AREAS = frozenset({ChangeArea.ENVIRONMENT, ChangeArea.VOLUMES, ChangeArea.CONTAINERS})
"""Parts of a template that can refer to a ConfigMap or Secret."""


@dataclass(frozen=True)
class PodReading:
    """The pods' testimony."""

    known: bool = False
    """Whether pods were read at all."""
    troubled: bool = False
    """Whether any pod state is not fine."""
    proven: bool = False
    """The new revision fails by its own doing, and will not recover by itself."""
    serves_nothing: bool = False
    """Proven, and the new revision serves nothing, or took the capacity down."""
    immediate: bool = False
    """Proven, and users are hurt: sixty seconds of metrics need not be awaited."""
    shared: bool = False
    """The old revision fails alike."""
    placed_badly: bool = False
    """A node, a quota or missing capacity."""
    configuration_gone: bool = False
    """A key or Secret is missing that the old template needs too: an undo does not cure it."""
    lasted_s: float = 0.0
    """Seconds since the change when the pods were read."""


def read_pods(context: DiagnosticContext, age_s: float | None, policy: Policy) -> PodReading:
    """Read the pods; log lines are not looked at."""
    rollout = context.rollout
    if rollout is None:
        return PodReading()
    age = age_s or 0.0
    cause = cause_of(rollout)
    shared = rollout.rollout_class is RolloutClass.SAME_CRASH_ON_BOTH or _fail_alike(rollout)
    placed_badly = (
        rollout.rollout_class is RolloutClass.NODE or cause in INFRASTRUCTURE_CAUSES
    ) and not shared
    troubled = (
        rollout.rollout_class in TROUBLED | NOT_OURS | {RolloutClass.UNKNOWN}
        or placed_badly
        or rollout.new.failing > 0
        or shared
    )
    gone = cause is PodCause.CONFIG_MISSING and not _touches_configuration(context)
    ours = rollout.rollout_class in TROUBLED and not (shared or placed_badly or gone)
    proven = ours and _proof(rollout, cause, age, policy)
    new = rollout.new
    nothing = (
        new.ready == 0
        or new.failing >= policy.pods.failing_share * max(new.pods, 1)
        or rollout.rollout_class in OUTAGES
    )
    return PodReading(
        known=True,
        troubled=troubled,
        proven=proven,
        serves_nothing=proven and nothing,
        immediate=proven and _users_hurt(rollout),
        shared=shared,
        placed_badly=placed_badly,
        configuration_gone=gone and not shared,
        lasted_s=max(age, 0.0),
    )


def cause_of(rollout: RolloutHealth) -> PodCause:
    """The rollout's cause, or the new revision's where the rollout has none."""
    return rollout.cause if rollout.cause is not PodCause.NONE else rollout.new.cause


def _users_hurt(rollout: RolloutHealth) -> bool:
    return rollout.immediate or rollout.rollout_class in OUTAGES


def _proof(rollout: RolloutHealth, cause: PodCause, age_s: float, policy: Policy) -> bool:
    if rollout.deadline_exceeded:
        return True
    if cause in CRASHES and rollout.new.restarts >= policy.pods.restarts:
        return True
    if cause in NEVER_STARTED:
        return _users_hurt(rollout) or age_s >= policy.time.sustained_s
    return rollout.new.ready == 0 and age_s >= policy.time.never_ready_s


def _fail_alike(rollout: RolloutHealth) -> bool:
    """Whether old pods fail for the same reason, with an exit code in common where known."""
    old, new = rollout.old, rollout.new
    if old is None or not old.failing or old.cause is PodCause.NONE or old.cause is not new.cause:
        return False
    return not (old.exit_codes and new.exit_codes) or bool(
        set(old.exit_codes) & set(new.exit_codes)
    )


def _touches_configuration(context: DiagnosticContext) -> bool:
    change = context.change
    return change is not None and any(d.area in CONFIGURATION_AREAS for d in change.differences)
