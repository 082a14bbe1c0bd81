"""The response policy: what a team lets an unattended server do, where, and whom it calls.

The first scope of the file whose `match` fits a workload applies to it, over `defaults`, over what
is built in; `explain` says which and why. Without a file nothing is done alone: a person is asked.
"""

from __future__ import annotations

import re
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, StringConstraints

from mcp_devops.decision.policy import Policy
from mcp_devops.model.record import Record
from mcp_devops.model.target import Workload
from mcp_devops.response_policy.hours import Effect, QuietHours
from mcp_devops.response_policy.limits import Limits

R = TypeVar("R", bound=Record)

BUILT_IN = "built in"
"""Version of the policy that holds where no file is configured."""

THRESHOLD_GROUPS = ("errors", "latency", "time", "silence", "pods", "surroundings", "limits")
"""Groups of decision numbers that a scope may set; weights and losses are the server's own."""


class Automatic(StrEnum):
    """What is done when a verdict says roll back."""

    NEVER = "never"
    """A person is paged; no action is prepared."""
    ASK = "ask"
    """A person is paged and asked."""
    VERDICT = "verdict"
    """The server acts alone if the verdict is automatic and nothing else forbids it, else asks."""


_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})*")
"""What the mail client sends to; one address that it refuses would keep the mail from all."""
_UID = re.compile(r"uid [0-9]{1,10}")
"""What a terminal vouches for where the system's user has no name."""


def _email(value: str) -> str:
    if not _ADDRESS.fullmatch(value) or len(value) > 254:
        raise ValueError("write a plain e-mail address, name@host, without a name beside it")
    return value


def _approver(value: str) -> str:
    """A name that some channel can vouch for: with another one nobody could ever answer."""
    if value.startswith(("@", "#", "<")):
        raise ValueError(
            "no channel vouches for a handle, a group or a mention: write the Slack user id"
            " (U012ABCDEF), an e-mail address, a login, or a token's subject"
        )
    if re.search(r"\s", value) and not _UID.fullmatch(value):
        raise ValueError(
            "no channel vouches for a name with spaces: write the Slack user id (U012ABCDEF),"
            " an e-mail address, a login, or a token's subject"
        )
    if value.endswith("@"):
        raise ValueError("write the whole e-mail address")
    return value


def _namespace(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9*?\[\]!-]{1,63}", value):
        raise ValueError(
            "no namespace can have this name: write small letters, digits and -, and the wildcards"
            " * ? [ ]"
        )
    return value


def _service(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9.*?\[\]!-]{1,253}", value):
        raise ValueError(
            "no workload can have this name: write small letters, digits, - and ., and the"
            " wildcards * ? [ ]"
        )
    return value


def _channel(value: str) -> str:
    if not re.fullmatch(r"#[\w.-]{1,80}|[CGD][A-Z0-9]{6,20}", value):
        raise ValueError('write "#name" in quotes, or a channel id such as C0123456789')
    return value


Text = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[^\s\x00]+$")]
Patterns = Annotated[tuple[Pattern, ...], Field(min_length=1, max_length=200)]
Namespaces = Annotated[
    tuple[Annotated[str, AfterValidator(_namespace)], ...], Field(min_length=1, max_length=200)
]
Services = Annotated[
    tuple[Annotated[str, AfterValidator(_service)], ...], Field(min_length=1, max_length=200)
]


class Match(Record):
    """Which workloads a scope is about; what is left out fits every one."""

    namespaces: Namespaces | None = None
    """Namespaces, by pattern (shop, team-*)."""
    services: Services | None = None
    """Workloads by name, by pattern."""
    clusters: Patterns | None = None
    """Kubeconfig contexts, by pattern; the current one, unnamed, fits `*` only."""

    def misses(self, target: Workload) -> str:
        """Why a workload does not fit; empty: it fits."""
        for name, patterns, value in (
            ("namespace", self.namespaces, target.namespace),
            ("service", self.services, target.name),
            ("cluster", self.clusters, target.cluster),
        ):
            if patterns is not None and not any(fnmatchcase(value, p) for p in patterns):
                return f"{name} {value or '(current)'} is not {' or '.join(patterns)}"
        return ""

    def covers(self, other: Match) -> bool:
        """Whether every workload that fits the other surely fits this one."""
        return all(
            mine is None
            or (theirs is not None and all(any(_covers(m, t) for m in mine) for t in theirs))
            for mine, theirs in (
                (self.namespaces, other.namespaces),
                (self.services, other.services),
                (self.clusters, other.clusters),
            )
        )


def _covers(wide: str, narrow: str) -> bool:
    if wide == narrow:
        return True
    # Only with stars does a fit of the pattern's own text mean that all it stands for fits.
    return not set(wide) & set("?[]") and fnmatchcase(narrow, wide)


class Observe(Record):
    """How long and how often a deployment is looked at."""

    for_s: float = Field(900, ge=60, le=7200)
    """Seconds after its start in which a rollout is watched; longer, if it is well and goes on."""
    step_s: float = Field(30, ge=5, le=600)
    """Seconds between two looks; a failing pod brings the next one forward."""
    unsure_s: float = Field(90, ge=10, le=3600)
    """Seconds that trouble must last before people are asked about a verdict that is not a
    rollback: a spike of half a minute, seen in two buckets of a minute, wakes nobody (seed)."""
    calm_s: float = Field(300, ge=60, le=7200)
    """Seconds after the last pod of the old revision is gone, after which a rollout that was found
    well three times in a row is let go: most regressions show within five minutes (seed)."""
    rolling_s: float = Field(7200, ge=60, le=86400)
    """Seconds after its start at which a rollout is let go though old pods still serve: it is slow,
    paused, or a canary that stays (seed)."""
    baseline_minutes: float | None = Field(None, ge=1, le=1440)
    """Length of the baseline; default: the decision policy's, 30."""
    buffer_minutes: float | None = Field(None, ge=0, le=1440)
    """Minutes between baseline and deployment; default: the decision policy's, 10."""


class Approval(Record):
    """Who is asked, and for how long. No answer is a no."""

    wait_minutes: float = Field(10, ge=1, le=60)
    """Minutes until no answer is a no, and the page stays open."""
    approvers: tuple[Annotated[Text, AfterValidator(_approver)], ...] = Field((), max_length=100)
    """Who may answer: Slack user ids, e-mail addresses that Slack has confirmed, logins of the
    operating system, subjects of tokens. Empty: whoever a channel lets answer."""


class Severity(StrEnum):
    """PagerDuty's severities."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Page(Record):
    """Who is told."""

    pagerduty: bool = True
    """Whether a PagerDuty alert is opened when a person is needed."""
    slack_channel: Annotated[str, AfterValidator(_channel)] | None = None
    """Channel that the timeline goes to: "#name" or an id."""
    email: tuple[Annotated[str, AfterValidator(_email)], ...] = Field((), max_length=50)
    """Addresses that get the report."""
    severity: Severity = Severity.CRITICAL
    """Severity of the alert."""


class Resolve(Record):
    """What happens to the page once a rollback is verified."""

    pagerduty: Literal["resolve", "leave_open"] = "leave_open"
    """resolve: the alert is resolved; leave_open: a person closes it."""


class Rules(Record):
    """What applies to a workload."""

    automatic: Automatic = Automatic.ASK
    """never, ask or verdict."""
    without_data: Effect = Effect.ASK
    """What a hold for want of data alone leads to: ask, page_only or record_only."""
    thresholds: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    """Decision numbers that differ here, by group: `errors: {floor: 0.01}`. Of `limits` only
    automatic_confidence, and only upwards."""
    observe: Observe = Observe()
    """How it is watched."""
    approval: Approval = Approval()
    """Who is asked."""
    page: Page = Page()
    """Who is told."""
    resolve: Resolve = Resolve()
    """How a page ends."""

    @property
    def own_numbers(self) -> bool:
        """Whether a verdict must have been made with these thresholds to count here."""
        return any(numbers for group, numbers in self.thresholds.items() if group != "limits")


class Defaults(Rules):
    """What holds in every scope that does not say otherwise."""


class Scope(Rules):
    """What differs for the workloads that match."""

    name: Text | None = None
    """What people call it."""
    match: Match
    """Which workloads it is about; `{}`: all that no scope above matched."""


class Document(Record):
    """The file, as written."""

    version: Literal[1]
    """Version of this format: 1."""
    defaults: Defaults = Defaults()
    """What holds where no scope says otherwise."""
    scopes: tuple[Scope, ...] = Field((), max_length=1000)
    """First match applies."""
    quiet_hours: tuple[QuietHours, ...] = Field((), max_length=100)
    """When less is done; of several at once the strictest applies."""
    limits: Limits = Limits()
    """How often it may act alone."""


class Explanation(Record):
    """Which scope applies to a workload, and why."""

    scope: str
    """Its name, or `scope N`; `defaults` where none matches."""
    line: int | None
    """Line of the file it begins on; null: nothing in a file applies."""
    why: str
    """Why this one."""
    passed: tuple[str, ...] = ()
    """The scopes above it, each with what does not fit."""
    rules: Rules
    """What applies, merged."""
    judging: Policy
    """The decision policy, merged."""


class ResponsePolicy(Record):
    """A valid policy, ready to be asked."""

    version: str = BUILT_IN
    """First 12 hex digits of the SHA-256 of the file's bytes."""
    origin: str = ""
    """The file; empty: no file."""
    document: Document = Document(version=1)
    """What it says."""
    scope_lines: tuple[int, ...] = ()
    """Line each scope begins on."""
    defaults_line: int | None = None
    """Line of `defaults`."""
    base: Policy = Policy()
    """The server's decision policy, under the thresholds."""

    @classmethod
    def built_in(cls, base: Policy | None = None) -> Self:
        """The policy without a file: never alone, a person is asked."""
        return cls(base=base or Policy())

    @property
    def limits(self) -> Limits:
        """How often it may act alone."""
        return self.document.limits

    def explain(self, target: Workload) -> Explanation:
        """Say which scope applies to a workload, and why."""
        passed: list[str] = []
        for number, scope in enumerate(self.document.scopes, 1):
            line = self.scope_lines[number - 1]
            label = scope.name or f"scope {number}"
            missed = scope.match.misses(target)
            if not missed:
                of = f"of {len(self.document.scopes)} is the first that fits"
                return Explanation(
                    scope=label,
                    line=line,
                    why=f"Scope {number} {of}: {_match_text(scope.match)}.",
                    passed=tuple(passed),
                    rules=self._merged[number],
                    judging=self._judging[number],
                )
            passed.append(f"{label} (line {line}): {missed}")
        return Explanation(
            scope="defaults",
            line=self.defaults_line,
            why="No scope matches it." if passed else "There are no scopes.",
            passed=tuple(passed),
            rules=self._merged[0],
            judging=self._judging[0],
        )

    @cached_property
    def _merged(self) -> tuple[Rules, ...]:
        defaults = _over(Rules(), self.document.defaults)
        return (defaults, *(_over(defaults, scope) for scope in self.document.scopes))

    @cached_property
    def _judging(self) -> tuple[Policy, ...]:
        return tuple(judging_policy(self.base, rules) for rules in self._merged)


def _over(below: Rules, above: Rules) -> Rules:
    """What the upper says over what the lower says, value by value; lists as wholes."""
    changes: dict[str, Any] = {}
    for name in above.model_fields_set & set(Rules.model_fields):
        value = getattr(above, name)
        if isinstance(value, Record):
            set_here = {field: getattr(value, field) for field in value.model_fields_set}
            value = getattr(below, name).model_copy(update=set_here)
        elif name == "thresholds":
            groups = sorted({*below.thresholds, *value})
            value = {g: below.thresholds.get(g, {}) | value.get(g, {}) for g in groups}
        changes[name] = value
    return Rules.model_validate(
        {name: getattr(below, name) for name in Rules.model_fields} | changes
    )


def thresholds_over(base: Policy, thresholds: dict[str, dict[str, float | None]]) -> dict[str, Any]:
    """The data of a decision policy with thresholds of known groups over it; not yet checked."""
    data = base.model_dump(mode="json")
    for group, numbers in thresholds.items():
        # The file's numbers are all floats; the fields that count things want whole ones.
        whole = {k: int(v) if v is not None and v == int(v) else v for k, v in numbers.items()}
        data[group] |= whole
    return data


def judging_policy(base: Policy, rules: Rules) -> Policy:
    """The decision policy that holds where rules apply.

    Raises:
        pydantic.ValidationError: A threshold is out of bounds; the parser refuses such files.
    """
    data = thresholds_over(base, rules.thresholds)
    minutes = {
        "baseline_s": rules.observe.baseline_minutes,
        "buffer_s": rules.observe.buffer_minutes,
    }
    given = {name: value * 60 for name, value in minutes.items() if value is not None}
    data["windows"] |= given
    for rule in data["source_windows"].values():
        rule |= given
    return Policy.model_validate(data)


def _match_text(match: Match) -> str:
    parts = [
        f"{name} {' or '.join(patterns)}"
        for name, patterns in (
            ("namespace", match.namespaces),
            ("service", match.services),
            ("cluster", match.clusters),
        )
        if patterns is not None
    ]
    return ", ".join(parts) if parts else "everything"
