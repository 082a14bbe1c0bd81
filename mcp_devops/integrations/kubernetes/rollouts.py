"""The tool that says how far a rollout is, which revisions there are, and what each changed.

It reads once: a read tool never waits for a rollout to end.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from mcp_devops.errors import NotFound
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.diff import differences
from mcp_devops.integrations.kubernetes.facts import change_of, describe_change
from mcp_devops.integrations.kubernetes.names import WorkloadPlace, workload_at
from mcp_devops.integrations.kubernetes.podstate import words
from mcp_devops.integrations.kubernetes.progress import (
    RolloutState,
    RolloutStatus,
    rollout_began,
    rollout_status,
)
from mcp_devops.integrations.kubernetes.revisions import (
    REVISION_HISTORY,
    Json,
    annotations_of,
    history,
    holder_of_pod,
    live_holder,
    metadata_of,
    number_of,
    revision_of,
    rollback_target,
)
from mcp_devops.integrations.kubernetes.snapshot import Snapshot, look, needs_of
from mcp_devops.integrations.kubernetes.trouble import Scene
from mcp_devops.model.change import TemplateDifference
from mcp_devops.model.evidence import Missing
from mcp_devops.model.record import Moment, Record
from mcp_devops.model.target import WorkloadKind
from mcp_devops.text.clean import clean
from mcp_devops.text.people import ago
from mcp_devops.toolkit.answer import Answer, ResponseFormat
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.risk import Rbac, Risk
from mcp_devops.toolkit.spec import tool

SHOWN_DIFFERENCES = 25
"""Template differences in a concise answer; most telling first, so the rest is metadata mostly."""
AUTOSCALERS = Rbac("list", "horizontalpodautoscalers", "autoscaling", optional=True)
ROLLOUT_NEEDS = (
    *(Rbac("get", kind.resource, "apps") for kind in WorkloadKind),
    Rbac("list", "replicasets", "apps"),
    Rbac("list", "controllerrevisions", "apps"),
    Rbac("list", "pods"),
    Rbac("list", "events", optional=True),
    AUTOSCALERS,
)
"""What reading a rollout asks for; `rollout_needs_of` picks the part that one kind needs."""


def rollout_needs_of(kind: WorkloadKind) -> tuple[Rbac, ...]:
    """The part of ROLLOUT_NEEDS for one kind; its revisions are not optional here."""
    needed = {(n.verb, n.resource) for n in (*needs_of(kind), AUTOSCALERS)}
    return tuple(n for n in ROLLOUT_NEEDS if (n.verb, n.resource) in needed)


def find_revision(holders: Sequence[Json], number: int) -> Json:
    """The holder of a revision number.

    Raises:
        NotFound: None has it; `details["known"]` lists those that exist. After an undo a revision
            has a new number, which is told.
    """
    known = [number_of(h) for h in holders]
    for holder in holders:
        if number_of(holder) == number:
            return holder
    moved = next(
        (
            number_of(h)
            for h in holders
            if str(number) in annotations_of(h).get(REVISION_HISTORY, "").split(",")
        ),
        None,
    )
    hint = f"It was brought back and is revision {moved} now. " if moved else ""
    raise NotFound(
        f"There is no revision {number} in the history.",
        fix=f"{hint}Known: {', '.join(map(str, known)) or 'none'}.",
        source="kubernetes",
        known=known,
    )


def warnings_of(workload: Json, kind: WorkloadKind, manager: str | None) -> list[str]:
    """What a person should know before a template is changed by hand."""
    found = []
    if manager:
        found.append(f"Managed by {manager}, which may re-apply what it holds.")
    strategy = (workload.get("spec") or {}).get("updateStrategy") or {}
    if kind is not WorkloadKind.DEPLOYMENT and strategy.get("type") == "OnDelete":
        found.append("Strategy OnDelete: no pod changes until somebody deletes it.")
    if partition := int((strategy.get("rollingUpdate") or {}).get("partition") or 0):
        found.append(f"Partition {partition}: pods below that ordinal keep what they have.")
    return found


def undone_by(live: Json | None, back: Json | None) -> str | None:
    """A warning where the revision to return to is the one that an earlier undo replaced.

    It is younger than the live one then: undoing twice brings the bad version back
    (kubernetes.md 5).
    """
    if live is None or back is None:
        return None
    made = [str(metadata_of(h).get("creationTimestamp", "")) for h in (live, back)]
    if made[1] <= made[0]:
        return None
    return (
        f"Revision {number_of(live)} was brought back over revision {number_of(back)}: returning to"
        f" {number_of(back)} undoes that undo. Name another to_revision if it was bad."
    )


class RevisionLine(Record):
    """One revision."""

    number: int
    """Its number now; an undo gives the old template the highest."""
    live: bool = False
    """Whether it is the workload's template."""
    created_at: Moment
    """When its ReplicaSet or ControllerRevision was made; one brought back keeps its first time."""
    images: tuple[str, ...] = ()
    """Images by container."""
    change_cause: str | None = None
    """The change-cause annotation, where somebody set it."""
    replicas: int = 0
    """Pods it owns now."""
    ready: int = 0
    """Pods of it that are ready."""
    name: str | None = None
    """ReplicaSet or ControllerRevision; detailed only."""
    template_hash: str | None = None
    """Identity of the template; detailed only."""


class Rollout(Answer):
    """How far a rollout is, and what its revisions changed."""

    target: str
    """The workload."""
    context: str
    """The cluster."""
    uid: str
    """Its uid; pass it to kubernetes_roll_back to act on this very object."""
    status: RolloutStatus
    """How far the rollout is."""
    live_revision: int | None = None
    """Revision that is live; null: its controller has not recorded it yet."""
    live_since: Moment | None = None
    """When the live revision began to roll out."""
    rollback_revision: int | None = None
    """The newest revision with another template: what kubernetes_roll_back restores by default."""
    revisions: tuple[RevisionLine, ...] = ()
    """Newest number first."""
    more_revisions: int = 0
    """Revisions left out."""
    compared: str | None = None
    """Which two revisions `differences` compares."""
    differences: tuple[TemplateDifference, ...] = ()
    """What the newer of them changed, most telling first."""
    more_differences: int = 0
    """Differences left out."""
    warnings: tuple[str, ...] = ()
    """Who else changes this workload, and other traps."""
    missing: tuple[Missing, ...] = ()
    """What could not be read, and why."""
    next: str
    """The next move."""

    def text(self) -> str:
        """Status, revisions and differences as lines."""
        lines = [self.headline]
        for r in self.revisions:
            cause = f"  ({r.change_cause})" if r.change_cause else ""
            lines.append(
                f"{'*' if r.live else ' '} revision {r.number}  {r.created_at:%Y-%m-%d %H:%M:%S}Z"
                f"  {r.ready}/{r.replicas} ready  {' '.join(r.images)}{cause}"
            )
        if self.more_revisions:
            lines.append(f"  and {self.more_revisions} older")
        if self.compared:
            lines.append(f"{self.compared}:")
            lines += [difference_line(d) for d in self.differences]
        if self.more_differences:
            lines.append(f"  and {self.more_differences} more; response_format detailed has all")
        lines += [f"! {w}" for w in self.warnings]
        lines += [f"not seen: {m.what}: {m.why}" for m in self.missing]
        return "\n".join([*lines, f"Next: {self.next}"])


def difference_line(difference: TemplateDifference) -> str:
    """One difference for people."""
    before = "(none)" if difference.before is None else difference.before
    after = "(none)" if difference.after is None else difference.after
    return f"  {difference.path}: {before} -> {after}"


class RolloutInput(WorkloadPlace):
    """Which workload, and which revisions to compare."""

    from_revision: int | None = Field(None, ge=0)
    """Compare from this revision; default: the one a rollback would restore."""
    to_revision: int | None = Field(None, ge=0)
    """Compare to this revision; default: the live one."""
    limit: int = Field(5, ge=1, le=50)
    """Revisions to list."""
    response_format: ResponseFormat = ResponseFormat.CONCISE
    """detailed: all differences, template hashes."""


def _needs(args: RolloutInput) -> tuple[Rbac, ...]:
    return rollout_needs_of(args.kind)


@tool(
    name="kubernetes_get_rollout",
    title="Rollout status, history and diff",
    risk=Risk.READ,
    needs=ROLLOUT_NEEDS,
    needs_for=_needs,
)
async def get_rollout(args: RolloutInput, context: ToolContext[KubernetesClient]) -> Rollout:
    """Say how far a workload's rollout is, its revisions, and what changed in the pod template.

    Compares the live revision with the one a rollback would restore, or any two: images, env,
    args, resources, probes, volumes and all else, secrets masked. Never waits. Use it when a
    deploy is suspected and after a change. Next: kubernetes_describe_pods, kubernetes_roll_back.
    """
    cluster = await context.client.cluster(args.context)
    target = workload_at(
        cluster.context, args.namespace or cluster.namespace, args.kind, args.workload
    )
    seen = await look(cluster, target, context.clock.now())
    return await _answer(cluster, seen, args)


async def _answer(cluster: Cluster, seen: Snapshot, args: RolloutInput) -> Rollout:
    scene, workload = seen.scene, seen.scene.workload
    holders = history(workload, scene.holders or ())
    live = live_holder(workload, holders)
    change = await change_of(cluster, seen) if live is not None else None
    back = rollback_target(workload, holders)
    old = back if args.from_revision is None else find_revision(holders, args.from_revision)
    new = live if args.to_revision is None else find_revision(holders, args.to_revision)
    found = differences(old, new) if old and new else ()
    detailed = args.response_format is ResponseFormat.DETAILED
    shown = found if detailed else found[:SHOWN_DIFFERENCES]
    status = rollout_status(workload, scene.kind)
    flip = undone_by(live, back)
    began = rollout_began(scene)
    lines = [_line(scene, h, h is live, detailed) for h in holders[: args.limit]]
    number = number_of(live) if live else None
    since = f", rolled out {ago((scene.at - began).total_seconds())}" if began else ""
    return Rollout(
        headline=f"{seen.target}: rollout {status.state.value}. {status.says}"
        + (f" Revision {number} is live{since}." if number is not None else ""),
        target=str(seen.target),
        context=cluster.name,
        uid=str(metadata_of(workload).get("uid", "")),
        status=status,
        live_revision=number,
        live_since=began,
        rollback_revision=number_of(back) if back else None,
        revisions=tuple(lines),
        more_revisions=max(0, len(holders) - args.limit),
        compared=f"What revision {number_of(new)} changed against revision {number_of(old)}"
        if old and new
        else None,
        differences=shown,
        more_differences=len(found) - len(shown),
        warnings=(
            *warnings_of(workload, scene.kind, change.managed_by if change else None),
            *([flip] if flip else []),
        ),
        missing=seen.missing,
        next=_next(status, number, None if flip else back),
    )


def _line(scene: Scene, holder: Json, live: bool, detailed: bool) -> RevisionLine:
    pods = [p for p in scene.pods if holder_of_pod(p, scene.kind, [holder]) is holder]
    made = revision_of(holder, pods)
    return RevisionLine(
        number=made.number,
        live=live,
        created_at=made.created_at,
        images=tuple(clean(i) for i in made.images),
        change_cause=words(made.change_cause) if made.change_cause else None,
        replicas=made.replicas,
        ready=made.ready_replicas,
        name=made.name if detailed else None,
        template_hash=made.template_hash if detailed else None,
    )


def _next(status: RolloutStatus, live: int | None, back: Json | None) -> str:
    if status.state is RolloutState.PAUSED:
        return "kubernetes_pause_rollout with paused=false lets it go on."
    if live is None:
        return "Ask again in a few seconds: the controller has not recorded the newest template."
    if back is None:
        return "kubernetes_describe_pods for its pods; there is no older revision to return to."
    return (
        "kubernetes_describe_pods for its pods; if this revision is to blame,"
        f" kubernetes_roll_back with from_revision={live} restores revision {number_of(back)}."
    )


__all__ = [
    "Rollout",
    "RolloutState",
    "RolloutStatus",
    "describe_change",
    "get_rollout",
    "rollout_began",
    "rollout_status",
]
