"""The tool that looks at everything at once."""

from __future__ import annotations

from pydantic import Field

from mcp_devops.incidents.collect import collect
from mcp_devops.incidents.question import Question
from mcp_devops.incidents.settings import IncidentSettings
from mcp_devops.incidents.store import IncidentStore, Stored
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.names import WorkloadPlace, workload_at
from mcp_devops.model.arms import ArmSummary, headline, summarise
from mcp_devops.model.change import Change, TemplateDifference
from mcp_devops.model.evidence import (
    DiagnosticContext,
    Missing,
    Neighbour,
    RolloutHealth,
    ScalingEvent,
)
from mcp_devops.model.incident import IncidentStatus
from mcp_devops.model.record import Moment, Record
from mcp_devops.model.surroundings import Drift, ImageRisk, OutboundCalls, ReleaseIssues
from mcp_devops.model.target import Workload
from mcp_devops.model.window import Windows
from mcp_devops.text.people import ago, percent
from mcp_devops.toolkit.answer import Answer, ResponseFormat
from mcp_devops.toolkit.comparing import WindowOverrides
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.risk import Rbac, Risk
from mcp_devops.toolkit.spec import tool

SHOWN_DIFFERENCES = 12
"""Template differences in a concise answer; all of them are in the stored evidence."""

READS = (
    Rbac("get", "deployments", "apps"),
    Rbac("get", "statefulsets", "apps"),
    Rbac("get", "daemonsets", "apps"),
    Rbac("list", "replicasets", "apps"),
    Rbac("list", "controllerrevisions", "apps"),
    Rbac("list", "pods"),
    Rbac("get", "pods/log", optional=True),
    Rbac("list", "events", optional=True),
    Rbac("list", "deployments", "apps", optional=True),
    Rbac("list", "horizontalpodautoscalers", "autoscaling", optional=True),
)
"""What an investigation reads in a cluster."""


class Investigate(WorkloadPlace):
    """Which deployment to look at."""

    service: str | None = Field(None, max_length=253)
    """Its name in metric labels, if it is not the workload's."""
    deployed_at: Moment | None = None
    """When the change began, RFC 3339; default: when the live revision began to roll out."""
    baseline_minutes: float | None = Field(None, ge=1, le=1440)
    """Length of the baseline; default 30."""
    buffer_minutes: float | None = Field(None, ge=0, le=1440)
    """Gap between the baseline's end and the change; default 10."""
    step_s: float | None = Field(None, ge=5, le=3600)
    """Bucket length in seconds; default 60."""
    response_format: ResponseFormat = ResponseFormat.CONCISE
    """detailed adds the whole evidence."""


def reads_of(args: Investigate) -> tuple[Rbac, ...]:
    """What one call needs: its kind's own resources."""
    own = args.kind.resource
    history = "replicasets" if own == "deployments" else "controllerrevisions"
    return tuple(n for n in READS if n.optional or n.resource in (own, history, "pods"))


class Surroundings(Record):
    """What else differs or fails."""

    failing_calls: tuple[OutboundCalls, ...] = ()
    """Dependencies whose calls fail more than before."""
    drift: tuple[Drift, ...] = ()
    """Infrastructure that differs from its configuration, the heaviest first."""
    image: str | None = None
    """How the image differs from the one before."""
    image_risk: ImageRisk | None = None
    """Its new vulnerabilities."""
    issues: ReleaseIssues | None = None
    """Issues that the release brought."""

    def lines(self) -> list[str]:
        """For people, a line a fact."""
        lines = [
            f"  calls to {c.dependency}: {percent(c.after_error_rate)} fail,"
            f" {percent(c.baseline_error_rate)} before"
            for c in self.failing_calls
        ]
        lines += [f"  drift {d.address}: {d.what}" for d in self.drift]
        if self.image:
            lines.append(f"  image: {self.image}")
        if self.image_risk:
            lines.append(f"  scans: {self.image_risk.summary}")
        if self.issues:
            lines.append(
                f"  issues in {self.issues.release}: {self.issues.serious} new or regressed"
                f" errors, {self.issues.events} events ({self.issues.source})"
            )
        return lines


class Investigation(Answer):
    """Everything that was seen, in short, and what could not be seen."""

    incident_id: str
    """Pass it to incident_decide."""
    target: Workload
    """The workload."""
    revision: int | None = None
    """The live revision."""
    previous_revision: int | None = None
    """The revision a rollback would restore."""
    deployed_at: Moment | None = None
    """When the live revision began to roll out."""
    differences: tuple[TemplateDifference, ...] = ()
    """What it changed."""
    managed_by: str | None = None
    """What may re-apply the new revision after an undo."""
    rollout: RolloutHealth | None = None
    """Pods of the old and the new revision."""
    requests: str | None = None
    """Error rate and p99 in one sentence."""
    arms: tuple[ArmSummary, ...] = ()
    """Requests before, after, and by revision."""
    windows: Windows | None = None
    """Where the windows lie."""
    scaling: tuple[ScalingEvent, ...] = ()
    """Capacity changes near the deployment."""
    surroundings: Surroundings | None = None
    """Dependencies, infrastructure, image and issues, where something was found."""
    sick_neighbours: tuple[Neighbour, ...] = ()
    """Other services in trouble in the same minutes."""
    neighbours_seen: int = 0
    """Other services that were looked at."""
    missing: tuple[Missing, ...] = ()
    """What could not be had, and why."""
    took_s: float
    """Seconds it took."""
    evidence: DiagnosticContext | None = None
    """All of it, as incident_decide takes it; detailed format only."""
    next: str
    """The next move."""

    def text(self) -> str:
        """What was seen, a line a fact."""
        lines = [self.headline]
        lines.extend(
            f"  changed {d.path}: {d.before or '(none)'} -> {d.after or '(none)'}"
            for d in self.differences
        )
        if self.managed_by:
            lines.append(f"  managed by {self.managed_by}")
        if self.rollout:
            for name, pods in (("new", self.rollout.new), ("old", self.rollout.old)):
                if pods is not None:
                    lines.append(
                        f"  {name} revision {pods.revision}: {pods.ready}/{pods.pods} ready,"
                        f" {pods.failing} failing ({pods.cause.value}), {pods.restarts} restarts"
                    )
                    if pods.log_line:
                        lines.append(f"    last words (data): {pods.log_line}")
        lines.extend(
            f"  {a.source} {a.arm.value}: {a.requests} requests,"
            f" error rate {percent(a.error_rate)}, p99 {a.p99_ms} ms,"
            f" {a.buckets_with_data}/{a.buckets} buckets"
            for a in self.arms
        )
        lines += [f"  scaling {e.at:%H:%M:%S} {e.what}" for e in self.scaling]
        lines += self.surroundings.lines() if self.surroundings else []
        lines += [f"  neighbour in trouble: {n.service}" for n in self.sick_neighbours]
        lines += [f"  MISSING {m.source} {m.what}: {m.why}" for m in self.missing]
        return "\n".join([*lines, f"Next: {self.next}"])


@tool(
    name="incident_investigate",
    title="Investigate a deployment",
    risk=Risk.READ,
    needs=READS,
    needs_for=reads_of,
    deadline_s=55,
    tells_gaps=True,
)
async def investigate(args: Investigate, context: ToolContext[IncidentSettings]) -> Investigation:
    """Collect everything about a workload's newest rollout in one call, and open an incident.

    Asks all sources at once: rollout and revision diff, pods and crash lines, scaling events,
    error rate and p99 before/after and old/new revision, other services in the same minutes.
    Says what is missing and why. Next: incident_decide with the incident_id.
    """
    kubernetes = await context.services.get(KubernetesClient)
    cluster = await kubernetes.cluster(args.context)
    target = workload_at(
        cluster.context, args.namespace or cluster.namespace, args.kind, args.workload
    )
    store = await context.services.get(IncidentStore)
    known = await store.find_open(target)
    bad = await store.judged_bad(target)
    question = question_of(args, target, context, bad)
    found = await collect(context.services, context.clock, question, context.progress)
    who = str(context.caller)
    left = known if known is not None and rolled_out_since(known, found.change) else None
    known = known if left is None else None
    if known is None and found.change is not None:
        known = await store.find_same(target, found.change.revision.template_hash)
    stored = known or await store.open(target, who)
    if left is not None:
        await _leave(store, left, stored.incident.id, who)
    found = found.model_copy(update={"rolled_back_before": stored.plan is not None})
    stored = await _remember(store, stored, found, who)
    await context.progress(5, 5, "evidence stored")
    return present(stored.incident.id, found, args.response_format)


def question_of(
    args: Investigate,
    target: Workload,
    context: ToolContext[IncidentSettings],
    bad: tuple[str, ...],
) -> Question:
    """What to collect: the arguments over each source's settings."""
    return Question(
        target=target,
        service=args.service or target.name,
        windows=WindowOverrides(
            baseline_minutes=args.baseline_minutes,
            buffer_minutes=args.buffer_minutes,
            step_s=args.step_s,
        ),
        deployed_at=args.deployed_at,
        deadline_s=context.client.source_deadline_s,
        bad=bad,
    )


def rolled_out_since(known: Stored, change: Change | None) -> bool:
    """Whether something else was rolled out since an incident's rollback.

    Then it is another deployment, which that rollback says nothing about: it may be judged and
    rolled back by itself.
    """
    plan = known.plan
    if plan is None or change is None:
        return False
    live = change.revision
    if change.uid != plan.uid:
        return True
    is_undone = live.template_hash == plan.to_template_hash
    not_yet = live.template_hash == plan.from_template_hash and live.number == plan.from_revision
    return not (is_undone or not_yet)


async def _leave(store: IncidentStore, left: Stored, to: str, who: str) -> None:
    """Close what nobody can do anything about any more: what it is about does not run."""
    says = f"something else was rolled out since, it goes on in {to}"
    if left.incident.status not in (IncidentStatus.NOT_RECOVERED, IncidentStatus.UNKNOWN):
        await store.note(left.incident.id, says, who)
        return
    closed = left.incident.model_copy(update={"status": IncidentStatus.CLOSED})
    await store.save(left.model_copy(update={"incident": closed}), f"closed: {says}", who)


async def _remember(
    store: IncidentStore, stored: Stored, found: DiagnosticContext, who: str
) -> Stored:
    moves = stored.incident.status in (
        IncidentStatus.INVESTIGATING,
        IncidentStatus.DECIDED,
        IncidentStatus.CLOSED,
    )
    incident = stored.incident.model_copy(
        update={
            "status": IncidentStatus.INVESTIGATING if moves else stored.incident.status,
            "revision": found.change.revision.number if found.change else None,
        }
    )
    return await store.save(
        stored.model_copy(update={"incident": incident, "context": found}),
        f"evidence collected in {found.took_s:.2f} s"
        + (f", {len(found.missing)} things missing" if found.missing else ""),
        who,
        evidence=found.model_dump(mode="json", exclude_defaults=True),
    )


def present(
    incident_id: str, found: DiagnosticContext, response_format: ResponseFormat
) -> Investigation:
    """The context as an answer."""
    change = found.change
    arms = tuple(summarise(s, found.windows) for s in found.requests)
    first = arms[0].source if arms else None
    told = {a.arm: a for a in arms if a.source == first}
    requests = headline(found.target.name, told) if arms else None
    around = Surroundings(
        failing_calls=tuple(c for c in found.outbound if _fails(c))[:5],
        drift=found.drift[:5],
        image=found.image_difference.summary if found.image_difference else None,
        image_risk=found.image_risk,
        issues=found.issues,
    )
    sick = tuple(n for n in found.neighbours if n.sick)
    return Investigation(
        headline=_headline(found, requests),
        incident_id=incident_id,
        target=found.target,
        revision=change.revision.number if change else None,
        previous_revision=change.previous.number if change and change.previous else None,
        deployed_at=change.started_at if change else None,
        differences=change.differences[:SHOWN_DIFFERENCES] if change else (),
        managed_by=change.managed_by if change else None,
        rollout=found.rollout,
        requests=requests,
        arms=arms,
        windows=found.windows,
        scaling=found.scaling[-5:],
        surroundings=around if around != Surroundings() else None,
        sick_neighbours=sick[:8],
        neighbours_seen=len(found.neighbours),
        missing=found.missing,
        took_s=found.took_s,
        evidence=found if response_format is ResponseFormat.DETAILED else None,
        next=f"incident_decide with incident_id {incident_id}.",
    )


def _fails(calls: OutboundCalls) -> bool:
    """Whether more calls fail than before."""
    return calls.failed > 0 and (calls.after_error_rate or 0) > (calls.baseline_error_rate or 0)


def _headline(found: DiagnosticContext, requests: str | None) -> str:
    parts = [str(found.target)]
    if found.change:
        age = (found.collected_at - found.change.started_at).total_seconds()
        parts[0] += f", revision {found.change.revision.number}, rolled out {ago(age)}."
    if found.rollout:
        parts.append(found.rollout.summary)
    if requests:
        parts.append(requests)
    if found.missing:
        parts.append(f"Missing: {', '.join(f'{m.source} {m.what}' for m in found.missing)}.")
    return " ".join(parts)
