"""One guarded patch: fresh look, dry run, the same body for real, and again if something moved."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from mcp_devops.errors import DevOpsError, OutcomeUnknown, PreconditionFailed
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.diff import RESTARTED_AT
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.revisions import (
    Json,
    annotations_of,
    is_paused,
    metadata_of,
    template_of,
)
from mcp_devops.integrations.kubernetes.sight import Sight, expect, moved, refuse_paused, see
from mcp_devops.integrations.kubernetes.together import together
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.target import Workload

FIELD_MANAGER = "mcp-devops"
"""Who the API server writes down as the author of our changes."""
TRIES = 3
"""Times a change is prepared anew because something else about the object moved."""
MERGE_PATCH = "application/merge-patch+json"


def object_path(target: Workload) -> str:
    """The workload's API path."""
    return path_of(target.kind.resource, "apps", namespace=target.namespace, name=target.name)


def is_conflict(refused: PreconditionFailed) -> bool:
    """Whether the object's resourceVersion moved: worth another look, unlike a 422."""
    return refused.details.get("status") == 409


async def rehearse(cluster: Cluster, target: Workload, content_type: str, body: Any) -> Json:
    """Dry run: what the API server would store. Proves admission and permission."""
    params = {"fieldManager": FIELD_MANAGER, "dryRun": "All"}
    return await cluster.patch(object_path(target), body, content_type, params)


async def send(cluster: Cluster, target: Workload, content_type: str, body: Any) -> Json:
    """The real patch."""
    return await cluster.patch(
        object_path(target), body, content_type, {"fieldManager": FIELD_MANAGER}
    )


async def apply_restart(cluster: Cluster, plan: ActionPlan, now: datetime) -> str:
    """Carry out a planned restart.

    Returns:
        The timestamp that the template carries now, RFC 3339.

    Raises:
        PreconditionFailed: The template is not the planned one any more, or it is paused.
        OutcomeUnknown: Sent without an answer, and not seen live.
    """
    at = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def check(sight: Sight) -> None:
        expect(sight, plan.uid, None, plan.from_template_hash)
        refuse_paused(sight)

    template = {"metadata": {"annotations": {RESTARTED_AT: at}}}
    await _guarded(
        cluster, plan.target, check, {"spec": {"template": template}},
        lambda seen: annotations_of(template_of(seen)).get(RESTARTED_AT) == at,
    )  # fmt: skip
    return at


async def apply_pause(cluster: Cluster, plan: ActionPlan) -> None:
    """Carry out a planned pause or resume.

    Raises:
        PreconditionFailed: The spec is not the planned one any more.
        OutcomeUnknown: Sent without an answer, and not seen live.
    """
    wanted = plan.parameters["paused"] == "true"

    def check(sight: Sight) -> None:
        expect(sight, plan.uid, None, plan.from_template_hash)
        generation = str(metadata_of(sight.workload).get("generation", ""))
        if generation != plan.parameters["generation"]:
            raise moved(sight, "its spec changed")

    await _guarded(
        cluster, plan.target, check, {"spec": {"paused": wanted or None}},
        lambda seen: is_paused(seen) == wanted,
    )  # fmt: skip


async def _guarded(
    cluster: Cluster,
    target: Workload,
    check: Callable[[Sight], None],
    change: dict[str, Any],
    done: Callable[[Json], bool],
) -> None:
    for attempt in range(1, TRIES + 1):
        sight = await see(cluster, target, around=False)
        check(sight)
        version = metadata_of(sight.workload)["resourceVersion"]
        body = {**change, "metadata": {"resourceVersion": version}}
        try:
            await rehearse(cluster, target, MERGE_PATCH, body)
            await send(cluster, target, MERGE_PATCH, body)
        except OutcomeUnknown as silence:
            seen = (await together([cluster.get(object_path(target))]))[0]
            if isinstance(seen, DevOpsError) or not done(seen):
                silence.details["live"] = "unread" if isinstance(seen, DevOpsError) else "before"
                raise
        except PreconditionFailed as refused:
            if not is_conflict(refused) or attempt == TRIES:
                raise
            continue
        return
