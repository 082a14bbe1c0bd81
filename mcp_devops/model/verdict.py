"""What the engine says: an action, a cause, a probability, and every number behind them."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from mcp_devops.model.record import Moment, Record
from mcp_devops.model.target import Workload


class Action(StrEnum):
    """What to do (requirement A7)."""

    ROLL_BACK = "roll_back"
    FIX_FORWARD = "fix_forward"
    HOLD = "hold_for_review"
    NONE = "no_action"


class Cause(StrEnum):
    """Root-cause category (requirement A6)."""

    NEW_CODE = "new_code_regression"
    INFRASTRUCTURE = "infrastructure_change"
    UPSTREAM = "upstream_dependency_failure"
    NONE = "none"
    UNKNOWN = "unknown"


class Finding(Record):
    """One rule's result: what it compared, with what limit, and the weight it carries."""

    rule: str
    """Name of the rule: the file under decision/rules that holds it."""
    group: str
    """Group of correlated evidence; only the strongest finding of a group counts."""
    says: str
    """One sentence with the numbers compared and the limit."""
    weight: float
    """Signed log-odds that the deployment did it; positive blames it."""
    counted: bool = True
    """Whether it is the one of its group that counts."""
    first_seen_at: Moment | None = None
    """Onset of what it found."""
    sustained_s: float | None = None
    """Seconds it has lasted."""


class Veto(Record):
    """A reason not to act by itself, whatever the probability."""

    code: str
    """Stable name."""
    says: str
    """The reason, with its numbers."""


class CauseProbability(Record):
    """One hypothesis about the cause."""

    cause: Cause
    """The category."""
    probability: float = Field(ge=0, le=1)
    """Share among the categories; they add up to 1."""


class Verdict(Record):
    """The engine's answer on one diagnostic context."""

    id: str
    """Digest of the context and the policy: the same facts give the same id."""
    target: Workload
    """What was judged."""
    decided_at: Moment
    """When."""
    revision: int | None
    """The judged revision."""
    action: Action
    """What to do."""
    cause: Cause
    """Most probable category; unknown below one half."""
    confidence: float = Field(ge=0, le=1)
    """Probability that the deployment did it, after caps."""
    calibrated: bool = False
    """Whether at least 30 judged outcomes stand behind the probability."""
    headline: str
    """One sentence a tired person understands."""
    finding_name: str | None = None
    """Named pattern, such as deployment_induced_regression (A4)."""
    prior: float
    """Change-failure rate before looking, as a probability."""
    findings: tuple[Finding, ...]
    """Every rule that had something to say, strongest first."""
    vetoes: tuple[Veto, ...] = ()
    """What stops an automatic action."""
    causes: tuple[CauseProbability, ...]
    """All categories with their shares, most probable first."""
    runner_up: str
    """The best other explanation."""
    ask_next: str
    """The one query or check that would part the two best explanations."""
    would_change: tuple[str, ...] = ()
    """What evidence would change the verdict."""
    evidence_complete: bool
    """Whether no needed source is missing."""
    passed: bool = False
    """Whether requests were worse, and every comparison shows that they no longer are, for as long
    as trouble has to last to count (60 s); pods are well, and nothing is missing."""
    automatic: bool = False
    """Whether the rules for acting without a person hold: probability, evidence, no veto."""
    policy_version: str
    """Version of the policy that was applied."""
