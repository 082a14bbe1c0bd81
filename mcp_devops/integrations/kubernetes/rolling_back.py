"""Returns a workload to an earlier pod template: planned, rehearsed, sent once, read back.

What is sent equals what `kubectl rollout undo` sends (kubernetes.md 5): the whole template and the
annotations of that revision. Before it stands what kubectl lacks: the uid, the template that was
judged and the resourceVersion must still be the live ones.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from contextlib import aclosing
from typing import Any

import anyio

from mcp_devops.errors import DevOpsError, OutcomeUnknown, PreconditionFailed
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.diff import differences
from mcp_devops.integrations.kubernetes.patching import (
    TRIES,
    is_conflict,
    object_path,
    rehearse,
    send,
)
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.progress import rollout_status
from mcp_devops.integrations.kubernetes.revisions import (
    POD_TEMPLATE_HASH,
    REVISION,
    REVISION_HISTORY,
    Json,
    annotations_of,
    images_of,
    metadata_of,
    number_of,
    rollback_target,
    template_hash,
    template_of,
)
from mcp_devops.integrations.kubernetes.rollouts import AUTOSCALERS, find_revision, undone_by
from mcp_devops.integrations.kubernetes.settling import (
    Settled,
    wait_until_settled,
)
from mcp_devops.integrations.kubernetes.sight import Sight, expect, moved, refuse_paused, see
from mcp_devops.integrations.kubernetes.snapshot import holders_of
from mcp_devops.integrations.kubernetes.together import together
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.record import Moment, Record
from mcp_devops.model.target import Workload, WorkloadKind
from mcp_devops.text.clean import clean
from mcp_devops.text.people import plural
from mcp_devops.toolkit.risk import Rbac

NUMBER_S = 3.0
"""Seconds to wait for the controller to give the restored template its new number."""
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

OWN_ANNOTATIONS = frozenset(
    {
        LAST_APPLIED,
        REVISION,
        REVISION_HISTORY,
        "deployment.kubernetes.io/desired-replicas",
        "deployment.kubernetes.io/max-replicas",
        "deprecated.deployment.rollback.to",
    }
)
"""Annotations that stay the Deployment's own; all others come from the revision."""

ROLL_BACK_NEEDS = (
    *(Rbac("get", kind.resource, "apps") for kind in WorkloadKind),
    *(Rbac("patch", kind.resource, "apps") for kind in WorkloadKind),
    Rbac("list", "replicasets", "apps"),
    Rbac("list", "controllerrevisions", "apps"),
    *(Rbac("list", kind.resource, "apps", optional=True) for kind in WorkloadKind),
    *(Rbac("watch", kind.resource, "apps", optional=True) for kind in WorkloadKind),
    Rbac("list", "pods", optional=True),
    Rbac("watch", "pods", optional=True),
    AUTOSCALERS,
)
"""What a rollback asks for: its reads, its one patch, and the watch that follows."""


def roll_back_needs_of(kind: WorkloadKind) -> tuple[Rbac, ...]:
    """The part of ROLL_BACK_NEEDS for one kind."""
    wanted = (kind.resource, holders_of(kind), "pods", AUTOSCALERS.resource)
    return tuple(n for n in ROLL_BACK_NEEDS if n.resource in wanted)


class RollBackOutcome(Record):
    """What a rollback did, as read back."""

    headline: str
    """One sentence."""
    workload: Workload
    """What was rolled back."""
    changed: bool
    """Whether anything was sent; false: the template was back already."""
    from_revision: int | None
    """The revision that was undone."""
    to_revision: int | None
    """The revision whose template was wanted, by its number then."""
    live_revision: int | None
    """Number of the live revision now; null: its controller was not yet done with it."""
    live_template_hash: str
    """The live template, read back."""
    template_restored: bool
    """Whether that is the template that was wanted."""
    answer_lost: bool = False
    """Whether the API server's answer never came and only the reading back tells of success."""
    attempts: int = 1
    """How often it was prepared: more than once where something else about the object moved."""
    applied_at: Moment
    """When."""
    warnings: tuple[str, ...] = ()
    """What to know or to do next."""


async def plan_roll_back(
    cluster: Cluster,
    workload: Workload,
    *,
    tool: str,
    to_revision: int | None = None,
    expect_uid: str | None = None,
    expect_revision: int | None = None,
    expect_template_hash: str | None = None,
    bad_templates: Collection[str] = (),
    verdict_id: str | None = None,
    incident_id: str | None = None,
    summary: str = "",
    reason: str = "",
) -> ActionPlan:
    """Work out a rollback; changes nothing.

    Args:
        cluster: Where.
        workload: Which.
        tool: Name of the tool that will apply it.
        to_revision: Revision to return to; None: the newest whose template is neither live nor in
            `bad_templates`.
        expect_uid: Uid of the object that was judged.
        expect_revision: Number of the live revision that was judged.
        expect_template_hash: Template that was judged.
        bad_templates: Hashes of templates that were judged bad before.
        verdict_id: The verdict it follows from.
        incident_id: The incident it belongs to.
        summary: What will happen, for the person who approves; made up where empty.
        reason: Why, likewise.

    Raises:
        NotFound: No such workload or revision.
        PreconditionFailed: It moved since it was judged, is paused, has nothing to return to, or
            has that template already (`details["already"]`).
        PermissionDenied: It or its revisions may not be read.
    """
    sight = await see(cluster, workload)
    expect(sight, expect_uid, expect_revision, expect_template_hash)
    refuse_paused(sight)
    back = _choose(sight, to_revision, bad_templates)
    found = differences(sight.workload, back)
    number = number_of(back)
    images = ", ".join(clean(i) for i in images_of(back))
    return ActionPlan(
        tool=tool,
        target=workload,
        uid=sight.uid,
        from_revision=sight.number,
        from_template_hash=template_hash(sight.workload),
        to_revision=number,
        to_template_hash=template_hash(back),
        verdict_id=verdict_id,
        incident_id=incident_id,
        summary=summary
        or f"Return {workload} from revision {sight.number} to the pod template of revision"
        f" {number} ({images}): {plural(len(found), 'field')} of the template differ.",
        reason=reason,
        differences=found,
        warnings=(*sight.warnings(), *_about_target(sight, back, bad_templates)),
    )


def _choose(sight: Sight, to_revision: int | None, bad: Collection[str]) -> Json:
    if to_revision is not None:
        named = find_revision(sight.holders, to_revision)
        if template_hash(named) == template_hash(sight.workload) or named is sight.live:
            raise PreconditionFailed(
                f"{sight.target} has the template of revision {to_revision} already.",
                fix="Nothing to do. kubernetes_get_rollout shows whether its pods are healthy.",
                source="kubernetes",
                already=True,
                live_revision=sight.number,
            )
        return named
    back = rollback_target(sight.workload, sight.holders, bad)
    if back is None:
        limit = (sight.workload.get("spec") or {}).get("revisionHistoryLimit", 10)
        judged = f" that is not judged bad ({len(bad)} are)" if bad else ""
        raise PreconditionFailed(
            f"{sight.target} has no other revision{judged} to return to: its history holds"
            f" {plural(len(sight.holders), 'revision')}, limit {limit}.",
            fix="Deploy a good version (fix forward).",
            source="kubernetes",
            nothing_to_return_to=True,
        )
    return back


def _about_target(sight: Sight, back: Json, bad: Collection[str]) -> list[str]:
    found = []
    if template_hash(back) in bad:
        found.append(f"Revision {number_of(back)} was judged bad before.")
    if flip := undone_by(sight.live, back):
        found.append(flip)
    if LAST_APPLIED in annotations_of(sight.workload):
        found.append("Made with kubectl apply: applying the same manifest again undoes the undo.")
    if _reads_configuration(back):
        found.append("ConfigMaps and Secrets that it reads keep their present content.")
    return found


def _reads_configuration(holder: Json) -> bool:
    text = str(template_of(holder))
    return any(
        mark in text
        for mark in ("configMapKeyRef", "secretKeyRef", "configMapRef", "secretRef", "'configMap'",
                     "'secret'")
    )  # fmt: skip


def undo_patch(sight: Sight, back: Json) -> tuple[str, Any]:
    """The content type and body that return a workload to a revision, as kubectl sends them.

    The resourceVersion in it makes the API server refuse (409) if anything moved since it was
    read; by a JSON Patch `test` the same would be an opaque 422.
    """
    meta = metadata_of(sight.workload)
    if "data" in back:
        body = copy.deepcopy(dict(back["data"]))
        body["metadata"] = {"resourceVersion": meta["resourceVersion"]}
        return "application/strategic-merge-patch+json", body
    template = copy.deepcopy(back["spec"]["template"])
    (template.get("metadata", {}).get("labels") or {}).pop(POD_TEMPLATE_HASH, None)
    theirs, ours = annotations_of(back), annotations_of(sight.workload)
    annotations = {k: v for k, v in theirs.items() if k not in OWN_ANNOTATIONS}
    annotations.update({k: v for k, v in ours.items() if k in OWN_ANNOTATIONS})
    return "application/json-patch+json", [
        _operation("replace", "/metadata/resourceVersion", meta["resourceVersion"]),
        _operation("replace", "/spec/template", template),
        _operation("add", "/metadata/annotations", annotations),
    ]


def _operation(name: str, path: str, value: Any) -> dict[str, Any]:
    return {"op": name, "path": path, "value": value}


async def apply_roll_back(cluster: Cluster, plan: ActionPlan) -> RollBackOutcome:
    """Carry out a planned rollback: fresh look, dry run, patch, read back.

    Does nothing where the planned template is live already, so it may be repeated.

    Raises:
        PreconditionFailed: The object is not as planned any more (`details["moved"]`), is paused,
            lost the revision, keeps moving, or the API server would store something else.
        PermissionDenied: Reading or patching is not permitted.
        OutcomeUnknown: Sent without an answer, and the wanted template is not seen live;
            `details["live"]` is before, other or unread.
    """
    for attempt in range(1, TRIES + 1):
        sight = await see(cluster, plan.target, around=False)
        if sight.uid != plan.uid:
            raise moved(sight, "it was deleted and made anew")
        if template_hash(sight.workload) == plan.to_template_hash:
            return await _outcome(
                cluster, plan, sight.workload, plan.to_template_hash, changed=False
            )
        expect(sight, None, None, plan.from_template_hash)
        refuse_paused(sight)
        back = _planned(sight, plan)
        try:
            expected, notes = await _rehearse(cluster, plan, sight, back)
            answer = await _send(cluster, plan, sight, back, expected)
        except PreconditionFailed as refused:
            if not is_conflict(refused) or attempt == TRIES:
                raise
            continue
        return await _outcome(
            cluster, plan, answer, expected,
            attempts=attempt, answer_lost=answer is None, notes=notes,
        )  # fmt: skip
    raise AssertionError("unreachable: the last try raises")


def _planned(sight: Sight, plan: ActionPlan) -> Json:
    """The planned revision, by its template: its number may have changed meanwhile."""
    found = [h for h in sight.holders if template_hash(h) == plan.to_template_hash]
    if not found:
        raise PreconditionFailed(
            f"Revision {plan.to_revision} of {sight.target} is gone from its history.",
            fix="Call kubernetes_get_rollout to see which revisions are left, and decide anew.",
            source="kubernetes",
        )
    return next((h for h in found if number_of(h) == plan.to_revision), found[0])


async def _rehearse(
    cluster: Cluster, plan: ActionPlan, sight: Sight, back: Json
) -> tuple[str, list[str]]:
    """Let the API server say what it would store: proves admission, permission and result."""
    stored = await rehearse(cluster, plan.target, *undo_patch(sight, back))
    found = template_hash(stored)
    if found == plan.to_template_hash:
        return found, []
    # A newer server fills in defaults that it did not know when it recorded the revision. That
    # adds fields; anything that changes or drops one is not what was approved.
    changes = differences(back, stored)
    paths = ", ".join(d.path for d in changes[:5])
    if any(d.before is not None for d in changes):
        raise PreconditionFailed(
            f"Dry run: the API server would not store the template of revision {plan.to_revision}"
            f" as it was, but change {paths}. Nothing was changed.",
            fix="An admission webhook rewrites it; ask who runs that webhook.",
            source="kubernetes",
            fields=[d.path for d in changes],
        )
    return found, [f"The API server adds {plural(len(changes), 'field')} to the template: {paths}."]


async def _send(
    cluster: Cluster, plan: ActionPlan, sight: Sight, back: Json, expected: str
) -> Json | None:
    """Send the patch; None where no answer came and the wanted template was then seen live."""
    try:
        return await send(cluster, plan.target, *undo_patch(sight, back))
    except OutcomeUnknown as silence:
        seen = (await together([cluster.get(object_path(plan.target))]))[0]
        if isinstance(seen, DevOpsError):
            silence.details["live"] = "unread"
            raise
        found = template_hash(seen)
        same = metadata_of(seen).get("uid") == plan.uid
        if found == expected and same:
            return None
        before = found == plan.from_template_hash and same
        raise OutcomeUnknown(
            f"The rollback of {plan.target} was sent and no answer came. Read afterwards: "
            + (
                f"revision {plan.from_revision} is still live; the change may yet arrive."
                if before
                else "another template is live, neither the old nor the wanted one."
            ),
            fix="Call kubernetes_get_rollout in a few seconds, before anything else is sent.",
            source="kubernetes",
            live="before" if before else "other",
            live_template_hash=found,
        ) from silence


async def _outcome(
    cluster: Cluster,
    plan: ActionPlan,
    answer: Json | None,
    expected: str | None,
    *,
    changed: bool = True,
    attempts: int = 1,
    answer_lost: bool = False,
    notes: Sequence[str] = (),
) -> RollBackOutcome:
    """Read back what is live now."""
    applied_at = cluster.clock.now()
    number: int | None = None
    warnings = list(notes)
    live = answer or {}
    try:
        await _observed(cluster, plan.target)
        sight = await see(cluster, plan.target)
        live, number = sight.workload, sight.number
        warnings += sight.warnings()
        if not rollout_status(live, plan.target.kind).observed:
            number = None
    except DevOpsError as problem:
        if answer is None:
            raise
        # The patch was answered with the stored object: that is what is told then.
        warnings.append(f"Could not be read back ({problem.code}); told is the patch's own answer.")
    restored = template_hash(live) == expected
    if not restored:
        headline = (
            f"{plan.target}: sent, but another template is live now: someone else changed it."
        )
    elif changed:
        headline = (
            f"{plan.target} has the whole pod template of revision {plan.to_revision} again"
            + (f", now numbered {number}." if number not in (None, plan.to_revision) else ".")
        )
    else:
        headline = f"{plan.target} had that template already; nothing was sent."
    if answer_lost:
        headline += " The answer never came; this was read afterwards."
    return RollBackOutcome(
        headline=headline,
        workload=plan.target,
        changed=changed,
        from_revision=plan.from_revision,
        to_revision=plan.to_revision,
        live_revision=number,
        live_template_hash=template_hash(live),
        template_restored=restored,
        answer_lost=answer_lost,
        attempts=attempts,
        applied_at=applied_at,
        warnings=tuple(dict.fromkeys(warnings)),
    )


async def _observed(cluster: Cluster, target: Workload) -> None:
    """Wait a moment for the controller to number the restored revision."""
    path = path_of(target.kind.resource, "apps", namespace=target.namespace)
    params = {"fieldSelector": f"metadata.name={target.name}"}
    with anyio.move_on_after(NUMBER_S):
        try:
            async with aclosing(cluster.watch(path, params)) as events:
                async for kind, thing in events:
                    for one in thing if kind == "SYNC" else [thing]:
                        if rollout_status(one, target.kind).observed:
                            return
        except DevOpsError:
            # The number is a courtesy; whether the template is back is read in any case.
            return


__all__ = [
    "ROLL_BACK_NEEDS",
    "RollBackOutcome",
    "Settled",
    "apply_roll_back",
    "plan_roll_back",
    "roll_back_needs_of",
    "undo_patch",
    "wait_until_settled",
]
