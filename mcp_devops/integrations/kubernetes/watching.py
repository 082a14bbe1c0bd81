"""Tells whenever a workload's rollout moves, from the API's watch."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.progress import RolloutStatus, rollout_status
from mcp_devops.integrations.kubernetes.revisions import Json, is_paused, metadata_of, template_hash
from mcp_devops.model.target import Workload, WorkloadKind


@dataclass(frozen=True)
class _Picture:
    """What counts as the rollout; anything else about the object may change unnoticed."""

    uid: str
    template: str
    paused: bool
    status: RolloutStatus
    conditions: tuple[tuple[str, str, str], ...]


def _picture(workload: Json, kind: WorkloadKind) -> _Picture:
    conditions = (workload.get("status") or {}).get("conditions") or ()
    return _Picture(
        uid=str(metadata_of(workload).get("uid", "")),
        template=template_hash(workload),
        paused=is_paused(workload),
        status=rollout_status(workload, kind),
        conditions=tuple(
            (str(c.get("type", "")), str(c.get("status", "")), str(c.get("reason", "")))
            for c in conditions
        ),
    )


async def watch_rollout(cluster: Cluster, workload: Workload) -> AsyncGenerator[str]:
    """One line whenever the rollout moved: a new template, other pod counts, other conditions.

    What is there when the watch begins is not told. Dropped and expired watches are renewed; a
    change in the gap is told once. Ends only by an error; close it with `aclosing`.

    Raises:
        PermissionDenied: Listing or watching is not permitted.
    """
    kind = workload.kind
    path = path_of(kind.resource, "apps", namespace=workload.namespace)
    params: dict[str, str | int] = {"fieldSelector": f"metadata.name={workload.name}"}
    held: _Picture | None = None
    begun = False
    async with aclosing(cluster.watch(path, params)) as events:
        async for event, thing in events:
            now = _after(event, thing, kind)
            if begun and now != held:
                yield f"{workload}: {_what_moved(held, now)}"
            held, begun = now, True


def _after(event: str, thing: Any, kind: WorkloadKind) -> _Picture | None:
    if event == "SYNC":
        return _picture(thing[0], kind) if thing else None
    return None if event == "DELETED" else _picture(thing, kind)


def _what_moved(before: _Picture | None, now: _Picture | None) -> str:
    if now is None:
        return "it was deleted."
    if before is None or before.uid != now.uid:
        return f"it was created. {now.status.says}"
    if before.template != now.template:
        return f"a new pod template rolls out. {now.status.says}"
    if before.paused != now.paused:
        return f"{'paused' if now.paused else 'resumed'}. {now.status.says}"
    return f"{now.status.state.value}. {now.status.says}"
