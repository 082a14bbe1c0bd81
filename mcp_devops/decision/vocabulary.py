"""Names that rules, causes, vetoes and actions share."""

from __future__ import annotations

from mcp_devops.model.evidence import PodCause, RolloutClass

ERRORS, LATENCY, PODS = "errors", "latency", "pods"
ENVIRONMENT, CHANGE = "environment", "change"
GROUPS = (ERRORS, LATENCY, PODS, ENVIRONMENT, CHANGE)
"""Groups of correlated evidence; only the strongest finding of each counts."""

INFRASTRUCTURE_CAUSES = frozenset({PodCause.UNSCHEDULABLE, PodCause.QUOTA})
"""Pods that could not be placed: scaling, not code."""

NEVER_STARTED = frozenset({PodCause.IMAGE_PULL, PodCause.CONFIG_MISSING, PodCause.CANNOT_START})
"""Containers that never ran: they fail without a restart, and will not recover by themselves."""

CRASHES = frozenset(
    {
        PodCause.CRASH_LOOP,
        PodCause.OOM_KILLED,
        PodCause.INIT_CONTAINER,
        PodCause.PROBE,
        PodCause.EXITS_BY_ITSELF,
    }
)
"""Containers that ran and ended: proven by restarts."""

OUTAGES = frozenset(
    {RolloutClass.FULL_OUTAGE, RolloutClass.PARTIAL_OUTAGE, RolloutClass.CREEPING_OUTAGE}
)
"""Users are hurt now."""

TROUBLED = OUTAGES | {
    RolloutClass.SURGE_ONLY_CRASH,
    RolloutClass.STALLED_ROLLOUT,
    RolloutClass.NEVER_READY,
}
"""The new revision fails and the old one does not."""

NOT_OURS = frozenset({RolloutClass.SAME_CRASH_ON_BOTH, RolloutClass.NODE})
"""Pods fail, and not because of this deployment."""

CONCURRENT = "errors_concurrent"
BEFORE_AFTER = "errors_before_after"
NO_EXPOSURE = "errors_without_requests"
REGRESSION = "regression"
SILENCE = "silence"
SERVES_NOTHING = "serves_nothing"
LATENCY_CONCURRENT = "latency_concurrent"
LATENCY_RULE = "latency_before_after"
PODS_RULE = "pods"
CONTROL = "control"
NEIGHBOURS = "neighbours"
SCALING = "scaling"
OUTBOUND = "outbound"
DRIFT = "drift"
ISSUES = "issues"
CHANGE_RULE = "change"
"""Names of the rules: each is a file under rules/."""

SAME_TIME_RULES = frozenset({CONCURRENT, SILENCE, SERVES_NOTHING, PODS_RULE, LATENCY_CONCURRENT})
"""Rules whose positive findings compare the revisions at the same time."""

DEPLOYMENT_INDUCED_REGRESSION = "deployment_induced_regression"
"""Errors and p99 up together soon after the deployment (requirement A4)."""
