"""The tools that change a workload: roll back, restart, pause. Planned, rehearsed, read back."""

from __future__ import annotations

from pydantic import Field

from mcp_devops.errors import DevOpsError, PreconditionFailed
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.diff import differences
from mcp_devops.integrations.kubernetes.names import ObjectName, Place, WorkloadPlace, workload_at
from mcp_devops.integrations.kubernetes.patching import apply_pause, apply_restart
from mcp_devops.integrations.kubernetes.revisions import is_paused, metadata_of, template_hash
from mcp_devops.integrations.kubernetes.rolling_back import (
    ROLL_BACK_NEEDS,
    apply_roll_back,
    plan_roll_back,
    roll_back_needs_of,
    wait_until_settled,
)
from mcp_devops.integrations.kubernetes.rollouts import get_rollout
from mcp_devops.integrations.kubernetes.sight import expect, refuse_paused, see
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.target import Workload, WorkloadKind
from mcp_devops.text.people import plural
from mcp_devops.toolkit.answer import Answer
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.risk import Rbac, Risk
from mcp_devops.toolkit.spec import tool

GET_ROLLOUT = "kubernetes_get_rollout"


class ChangeAnswer(Answer):
    """What was changed, and how the workload stands after it."""

    target: str
    """The workload."""
    context: str
    """The cluster."""
    from_revision: int | None = None
    """Revision that was live before."""
    to_revision: int | None = None
    """Revision whose template was restored, by its number then."""
    live_revision: int | None = None
    """Number of the live revision now: an undo gives the old template a new one."""
    template_restored: bool | None = None
    """Of a rollback: whether the live template, read back, is the one that was wanted."""
    paused: bool | None = None
    """Of a pause: the state now."""
    settled: bool | None = None
    """Whether all pods were ready without a restart for ten seconds; null: not waited for."""
    pods: str | None = None
    """How the rollout stood at the end, with numbers."""
    approved_by: str = ""
    """Who said yes."""
    warnings: tuple[str, ...] = ()
    """What may undo this, and what is left to do."""
    next: str
    """The next move."""


class RollBackInput(WorkloadPlace):
    """What to roll back, and what it is bound to."""

    from_revision: int = Field(ge=1)
    """The live revision that was judged, from kubernetes_get_rollout; refused if it moved."""
    to_revision: int | None = Field(None, ge=1)
    """Revision to restore; default: the newest one with another template."""
    uid: str | None = Field(None, max_length=64)
    """Uid of the object that was judged; refused if it was made anew."""
    wait_s: int = Field(30, ge=0, le=300)
    """Seconds to watch it settle afterwards."""


class RestartInput(WorkloadPlace):
    """What to restart, and what it is bound to."""

    from_revision: int = Field(ge=1)
    """The live revision, from kubernetes_get_rollout: a repeated call restarts nothing twice."""
    uid: str | None = Field(None, max_length=64)
    """Uid of the object; refused if it was made anew."""
    wait_s: int = Field(30, ge=0, le=300)
    """Seconds to watch it settle afterwards."""


class PauseInput(Place):
    """Which Deployment to pause or resume."""

    workload: ObjectName
    """Name of the Deployment."""
    paused: bool = True
    """true: pause; false: resume."""


async def _cluster_of(
    args: WorkloadPlace, context: ToolContext[KubernetesClient]
) -> tuple[Cluster, Workload]:
    cluster = await context.client.cluster(args.context)
    namespace = args.namespace or cluster.namespace
    return cluster, workload_at(cluster.context, namespace, args.kind, args.workload)


async def _planned(context: ToolContext[KubernetesClient]) -> tuple[Cluster, ActionPlan]:
    return await context.client.cluster(context.plan.target.cluster or None), context.plan


async def plan_back(args: RollBackInput, context: ToolContext[KubernetesClient]) -> ActionPlan:
    """Work out the rollback; see `plan_roll_back` for what it raises."""
    cluster, target = await _cluster_of(args, context)
    return await plan_roll_back(
        cluster,
        target,
        tool="kubernetes_roll_back",
        to_revision=args.to_revision,
        expect_uid=args.uid,
        expect_revision=args.from_revision,
    )


def _needs(args: WorkloadPlace) -> tuple[Rbac, ...]:
    return roll_back_needs_of(args.kind)


def _deployment_needs(args: PauseInput) -> tuple[Rbac, ...]:
    return roll_back_needs_of(WorkloadKind.DEPLOYMENT)


@tool(
    name="kubernetes_roll_back",
    title="Roll back a workload",
    risk=Risk.CHANGE,
    needs=ROLL_BACK_NEEDS,
    needs_for=_needs,
    plan=plan_back,
)
async def roll_back(args: RollBackInput, context: ToolContext[KubernetesClient]) -> ChangeAnswer:
    """Restore the whole pod template of an earlier revision, after approval.

    Works as kubectl rollout undo for Deployment, StatefulSet and DaemonSet, but bound to
    from_revision: refused if another one is live by then. Dry run first, read back after, then
    watched. For a judged incident use incident_roll_back. Next: kubernetes_get_rollout.
    """
    cluster, plan = await _planned(context)
    await context.progress(1, 4, "dry run, then the patch")
    outcome = await apply_roll_back(cluster, plan)
    settled, pods = await _settle(cluster, plan.target, context, args.wait_s)
    number = outcome.live_revision
    if number is None and settled is not None:
        number = (await see(cluster, plan.target, around=False)).number
    return ChangeAnswer(
        headline=f"{outcome.headline} {pods or ''}".strip(),
        target=str(plan.target),
        context=cluster.name,
        from_revision=outcome.from_revision,
        to_revision=outcome.to_revision,
        live_revision=number,
        template_restored=outcome.template_restored,
        settled=settled,
        pods=pods,
        approved_by=context.approved_by,
        warnings=tuple(dict.fromkeys((*plan.warnings, *outcome.warnings))),
        next=_next(outcome.template_restored, settled),
    )


async def plan_restart(args: RestartInput, context: ToolContext[KubernetesClient]) -> ActionPlan:
    """Work out a restart.

    Raises:
        NotFound: No such workload.
        PreconditionFailed: It moved, or is paused.
    """
    cluster, target = await _cluster_of(args, context)
    sight = await see(cluster, target)
    expect(sight, args.uid, args.from_revision, None)
    refuse_paused(sight)
    return ActionPlan(
        tool="kubernetes_restart_rollout",
        target=target,
        uid=sight.uid,
        from_revision=sight.number,
        from_template_hash=template_hash(sight.workload),
        summary=f"Restart all pods of {target}, revision {sight.number}, by its update strategy.",
        warnings=tuple(sight.warnings()),
    )


@tool(
    name="kubernetes_restart_rollout",
    title="Restart a workload's pods",
    risk=Risk.CHANGE,
    needs=ROLL_BACK_NEEDS,
    needs_for=_needs,
    plan=plan_restart,
)
async def restart(args: RestartInput, context: ToolContext[KubernetesClient]) -> ChangeAnswer:
    """Replace all pods of a workload by its update strategy, after approval.

    Works as kubectl rollout restart: the template stays, apart from a timestamp. It cures what a
    fresh process cures (a leak, a stale connection), not a bad version. Next:
    kubernetes_get_rollout.
    """
    cluster, plan = await _planned(context)
    await context.progress(1, 4, "dry run, then the patch")
    at = await apply_restart(cluster, plan, context.clock.now())
    settled, pods = await _settle(cluster, plan.target, context, args.wait_s)
    sight = await see(cluster, plan.target, around=False)
    return ChangeAnswer(
        headline=f"{plan.target}: restart asked for at {at}. {pods or ''}".strip(),
        target=str(plan.target),
        context=cluster.name,
        from_revision=plan.from_revision,
        live_revision=sight.number,
        settled=settled,
        pods=pods,
        approved_by=context.approved_by,
        warnings=plan.warnings,
        next=_next(True, settled),
    )


async def plan_pause(args: PauseInput, context: ToolContext[KubernetesClient]) -> ActionPlan:
    """Work out a pause or a resume.

    Raises:
        NotFound: No such Deployment.
        PreconditionFailed: It is so already (`details["already"]`).
    """
    cluster = await context.client.cluster(args.context)
    namespace = args.namespace or cluster.namespace
    target = workload_at(cluster.context, namespace, WorkloadKind.DEPLOYMENT, args.workload)
    sight = await see(cluster, target)
    word = "paused" if args.paused else "running"
    if is_paused(sight.workload) == args.paused:
        raise PreconditionFailed(
            f"{target} is {word} already.",
            fix=f"Nothing to do. {GET_ROLLOUT} shows how it stands.",
            source="kubernetes",
            already=True,
        )
    waiting = differences(sight.holders[0], sight.workload) if sight.holders else ()
    held = plural(len(waiting), "waiting change") if waiting else "no waiting change"
    return ActionPlan(
        tool="kubernetes_pause_rollout",
        target=target,
        uid=sight.uid,
        from_revision=sight.number,
        from_template_hash=template_hash(sight.workload),
        parameters={
            "paused": str(args.paused).lower(),
            "generation": str(metadata_of(sight.workload).get("generation", "")),
        },
        summary=f"Pause {target}: its rollout stops where it is, pods stay as they are."
        if args.paused
        else f"Resume {target}: its controller goes on, with {held} to the template.",
        differences=() if args.paused else waiting,
        warnings=tuple(sight.warnings()),
    )


@tool(
    name="kubernetes_pause_rollout",
    title="Pause or resume a Deployment's rollout",
    risk=Risk.CHANGE,
    needs=ROLL_BACK_NEEDS,
    needs_for=_deployment_needs,
    plan=plan_pause,
)
async def pause(args: PauseInput, context: ToolContext[KubernetesClient]) -> ChangeAnswer:
    """Stop a Deployment's rollout where it is, or let it go on (paused=false), after approval.

    Old pods keep serving beside the new ones while you look. A paused Deployment cannot be rolled
    back or restarted, and its progress deadline stands still. Next: kubernetes_get_rollout.
    """
    cluster, plan = await _planned(context)
    await context.progress(1, 2, "dry run, then the patch")
    await apply_pause(cluster, plan)
    paused = plan.parameters["paused"] == "true"
    return ChangeAnswer(
        headline=f"{plan.target} is {'paused' if paused else 'running'} now.",
        target=str(plan.target),
        context=cluster.name,
        from_revision=plan.from_revision,
        paused=paused,
        approved_by=context.approved_by,
        warnings=plan.warnings,
        next="Judge, then kubernetes_pause_rollout with paused=false: nothing moves until then."
        if paused
        else f"{GET_ROLLOUT} shows how far it is.",
    )


async def _settle(
    cluster: Cluster, target: Workload, context: ToolContext[KubernetesClient], wait_s: int
) -> tuple[bool | None, str | None]:
    """Watch it settle; a failure to look is told, and never hides that the change was made."""
    if wait_s == 0:
        return None, None
    told = 0

    async def tell(what: str) -> None:
        nonlocal told
        told += 1
        await context.progress(2 + told / (told + 1), 4, what)

    try:
        end = await wait_until_settled(
            cluster, target, deadline_s=wait_s, clock=context.clock, on_progress=tell
        )
    except DevOpsError as problem:
        return None, f"It could not be watched: {problem.what}"
    return end.settled, end.says


def _next(restored: bool, settled: bool | None) -> str:
    if not restored:
        return f"{GET_ROLLOUT} to see what is live, and who changed it."
    if settled:
        return "Nothing urgent: watch the error rate for some minutes."
    return f"{GET_ROLLOUT} and kubernetes_describe_pods: it has not settled yet."


ROLLOUT_TOOLS = (get_rollout, roll_back, restart, pause)
"""What this half of the integration adds."""
