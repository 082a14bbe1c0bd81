"""What the deployment changed, held against what fails."""

from __future__ import annotations

from mcp_devops.decision.facts import Facts
from mcp_devops.decision.pod_reading import cause_of
from mcp_devops.decision.policy import Policy
from mcp_devops.decision.vocabulary import CHANGE, CHANGE_RULE
from mcp_devops.model.change import Change, ChangeArea
from mcp_devops.model.evidence import PodCause
from mcp_devops.model.verdict import Finding

_PROCESS = frozenset(
    {ChangeArea.IMAGE, ChangeArea.ENVIRONMENT, ChangeArea.ARGUMENTS, ChangeArea.VOLUMES}
)
TOUCHES: dict[PodCause, frozenset[ChangeArea]] = {
    PodCause.CRASH_LOOP: _PROCESS,
    PodCause.EXITS_BY_ITSELF: _PROCESS,
    PodCause.INIT_CONTAINER: _PROCESS | {ChangeArea.CONTAINERS},
    PodCause.OOM_KILLED: frozenset({ChangeArea.IMAGE, ChangeArea.RESOURCES}),
    PodCause.IMAGE_PULL: frozenset({ChangeArea.IMAGE}),
    PodCause.CONFIG_MISSING: frozenset({ChangeArea.ENVIRONMENT, ChangeArea.VOLUMES}),
    PodCause.CANNOT_START: _PROCESS | {ChangeArea.SECURITY},
    PodCause.PROBE: frozenset({ChangeArea.PROBES, ChangeArea.IMAGE}),
}
"""Parts of the template whose change explains a failure of the pods."""


def change(facts: Facts, policy: Policy) -> list[Finding]:
    """+0.5 if the template changed in what fails, -1.5 if nothing but metadata changed.

    That it is the newest deployment has no weight: it was the culprit in 1 of 24 incidents.
    """
    it = facts.context.change
    if it is None:
        return []
    if is_restart(it):
        return [
            _finding(
                "Nothing but metadata changed: a restart, an undo would run the same template",
                policy.weights.nothing_changed,
            )
        ]
    rollout = facts.context.rollout
    if rollout is None or not facts.pods.proven:
        return []
    cause = cause_of(rollout)
    hits = [d for d in it.differences if d.area in TOUCHES.get(cause, frozenset())]
    if not hits:
        return []
    paths = ", ".join(sorted(d.path for d in hits)[:3])
    return [
        _finding(
            f"The change touches what fails ({cause.value.replace('_', ' ')}): {paths}",
            policy.weights.change_touches,
        )
    ]


def is_restart(it: Change) -> bool:
    """Whether the live template differs from the previous one in metadata only, or not at all."""
    if it.previous is not None and it.previous.template_hash == it.revision.template_hash:
        return True
    return bool(it.differences) and all(d.area is ChangeArea.METADATA for d in it.differences)


def _finding(says: str, weight: float) -> Finding:
    return Finding(rule=CHANGE_RULE, group=CHANGE, says=says, weight=weight)
