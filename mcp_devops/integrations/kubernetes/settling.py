"""Waits until a rollout has settled: done, all pods ready, and no restart for a while.

A rollout that is done proves little: pods that crash after turning ready complete it too
(kubernetes.md 6). So their restarts have to stand still as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from mcp_devops.errors import DevOpsError, NotFound, PermissionDenied
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.progress import RolloutState, RolloutStatus, rollout_status
from mcp_devops.integrations.kubernetes.revisions import (
    Json,
    controlled_by,
    is_ready,
    metadata_of,
    template_hash,
)
from mcp_devops.integrations.kubernetes.snapshot import selector_of
from mcp_devops.model.record import Record
from mcp_devops.model.target import Workload, WorkloadKind
from mcp_devops.text.people import duration, plural
from mcp_devops.toolkit.clock import Clock

STEADY_S = 10.0
"""Seconds without a restart before a rollout counts as settled. The first back-off of a crash is
over by then (kubernetes.md 7); a pod that lives longer between crashes needs a longer look."""
POLL_S = 2.0
"""Seconds between two reads where the identity may read but not watch."""

Tell = Callable[[str], Awaitable[None]]


class Settled(Record):
    """How a wait ended."""

    settled: bool
    """Whether the rollout is done, all pods are ready and restarts stood still."""
    says: str
    """One sentence with the numbers."""
    took_s: float
    """Seconds waited."""
    status: RolloutStatus
    """How far the rollout was at the end."""
    template_hash: str
    """The live template at the end: another one means somebody rolled out again meanwhile."""
    pods: int = 0
    """Pods that exist and are not being deleted."""
    ready: int = 0
    """Pods of those that are ready."""
    restarts: int = 0
    """Container restarts of those pods, added up."""
    pods_seen: bool = True
    """Whether pods could be read; if not, only the rollout's own counters were watched."""


class _View:
    """What the watches have told so far."""

    def __init__(self, target: Workload, workload: Json) -> None:
        self.target = target
        self.workload = workload
        self.pods: dict[str, Json] = {}
        self.pods_seen: bool | None = None
        self.failure: BaseException | None = None
        self.changed = asyncio.Event()
        self.sets: dict[str, bool] = {}
        """ReplicaSets by uid: whether they are this workload's."""

    def take_workload(self, kind: str, thing: Any) -> None:
        if kind == "SYNC":
            kind, thing = ("MODIFIED", thing[0]) if thing else ("DELETED", None)
        if kind == "DELETED":
            self.failure = NotFound(
                f"{self.target} was deleted while its rollout was watched.",
                fix="Find out who deletes it; there is nothing left to verify.",
                source="kubernetes",
            )
        else:
            self.workload = thing

    def take_pods(self, kind: str, thing: Any) -> None:
        self.pods_seen = True
        if kind == "SYNC":
            self.pods = {_uid(p): p for p in thing}
        elif kind == "DELETED":
            self.pods.pop(_uid(thing), None)
        else:
            self.pods[_uid(thing)] = thing

    def own_pods(self) -> list[Json]:
        return [p for p in self.pods.values() if self._counts(p) and self._is_own(p)]

    def _counts(self, pod: Json) -> bool:
        ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        return not metadata_of(pod).get("deletionTimestamp") and not ended

    def _is_own(self, pod: Json) -> bool:
        if self.target.kind is not WorkloadKind.DEPLOYMENT:
            return controlled_by(pod, self.workload)
        return self.sets.get(_controller(pod), False)

    async def learn_sets(self, cluster: Cluster) -> None:
        """Learn which ReplicaSets are ours, as soon as a pod names one not seen before."""
        if self.target.kind is not WorkloadKind.DEPLOYMENT:
            return
        new = {_controller(p) for p in self.pods.values()} - self.sets.keys()
        if not new:
            return
        path = path_of("replicasets", "apps", namespace=self.target.namespace)
        try:
            found = await cluster.list_all(path, {"labelSelector": selector_of(self.workload)})
        except PermissionDenied:
            # Without that right every pod that the selector finds counts: too strict, never lax.
            self.sets.update(dict.fromkeys(new, True))
            return
        self.sets.update(dict.fromkeys(new, False))
        self.sets.update({_uid(s): controlled_by(s, self.workload) for s in found})


async def wait_until_settled(
    cluster: Cluster,
    workload: Workload,
    *,
    deadline_s: float,
    steady_s: float = STEADY_S,
    clock: Clock,
    on_progress: Tell | None = None,
) -> Settled:
    """Watch a workload until its rollout has settled, or the deadline.

    A passed progress deadline does not end the wait: right after an undo the condition may still
    be the undone rollout's, and it flaps (kubernetes.md 6).

    Args:
        cluster: Where.
        workload: Which.
        deadline_s: Seconds to wait at most.
        steady_s: Seconds for which all pods must be ready without any restart.
        clock: Measures both.
        on_progress: Told one sentence whenever the picture changes.

    Raises:
        NotFound: It is not there, or was deleted meanwhile.
        PermissionDenied: It may not be read at all.
    """
    begun = clock.monotonic()
    first = await cluster.find(workload.kind.resource, "apps", workload.namespace, workload.name)
    view = _View(workload, first)
    async with _followed(cluster, view):
        steady_from: float | None = None
        held: Mapping[str, int] = {}
        told = ""
        while True:
            view.changed.clear()
            if view.failure is not None:
                raise view.failure
            await view.learn_sets(cluster)
            calm, says, restarts = _look(view)
            now = clock.monotonic()
            if not calm:
                steady_from = None
            elif steady_from is None or restarts != held:
                steady_from, held = now, restarts
            left = deadline_s - (now - begun)
            steady_left = steady_s - (now - steady_from) if steady_from is not None else left
            if steady_from is not None and steady_left <= 0:
                return _settled(view, True, says, now - begun, steady_s)
            if left <= 0:
                return _settled(view, False, says, now - begun, steady_s)
            if on_progress is not None and says != told:
                told = says
                await on_progress(says)
            try:
                async with asyncio.timeout(min(left, steady_left)):
                    await view.changed.wait()
            except TimeoutError:
                continue


def _look(view: _View) -> tuple[bool, str, dict[str, int]]:
    """Whether all is well this very moment, one sentence, and the restarts by pod."""
    status = rollout_status(view.workload, view.target.kind)
    pods = view.own_pods()
    restarts = {_uid(p): _restarts(p) for p in pods}
    ready = sum(is_ready(p) for p in pods)
    if status.state is not RolloutState.DONE:
        return False, status.says, restarts
    if view.pods_seen is None:
        return False, "The pods were not read yet.", restarts
    if not view.pods_seen or status.desired == 0:
        return True, status.says, restarts
    if len(pods) != status.desired or ready != status.desired:
        return False, f"{ready} of {status.desired} pods are ready.", restarts
    return True, f"All {plural(ready, 'pod')} are ready.", restarts


def _settled(view: _View, settled: bool, says: str, took_s: float, steady_s: float) -> Settled:
    status = rollout_status(view.workload, view.target.kind)
    pods = view.own_pods()
    restarts = sum(map(_restarts, pods))
    notes = [says]
    if settled:
        quiet = f"no restart for {duration(steady_s)}" if view.pods_seen else "pods were not seen"
        notes = [f"{says.rstrip('.')}, {quiet}."]
    else:
        notes.append(f"Not settled after {duration(took_s)}.")
        if restarts:
            notes.append(f"{plural(restarts, 'restart')} so far.")
        if blocked := blocking_pod(view.target.kind, view.workload, pods):
            notes.append(blocked)
    return Settled(
        settled=settled,
        says=" ".join(notes),
        took_s=round(took_s, 1),
        status=status,
        template_hash=template_hash(view.workload),
        pods=len(pods),
        ready=sum(is_ready(p) for p in pods),
        restarts=restarts,
        pods_seen=bool(view.pods_seen),
    )


def blocking_pod(kind: WorkloadKind, workload: Json, pods: list[Json]) -> str | None:
    """What keeps an ordered StatefulSet from getting its template back, and the way out.

    Its controller waits for a broken pod to become ready before it replaces it; a new template
    alone does not free it (kubernetes.md 5).
    """
    spec = workload.get("spec") or {}
    if kind is not WorkloadKind.STATEFUL_SET or spec.get("podManagementPolicy") == "Parallel":
        return None
    meta = metadata_of(workload)
    broken = sorted(
        str(metadata_of(p).get("name", ""))
        for p in pods
        if controlled_by(p, workload)
        and not is_ready(p)
        and not metadata_of(p).get("deletionTimestamp")
    )
    if not broken:
        return None
    return (
        f"Pod {broken[0]} is not ready, and an ordered StatefulSet waits for it: once the template"
        f" is restored, delete it: kubectl -n {meta.get('namespace')} delete pod {broken[0]}"
    )


@asynccontextmanager
async def _followed(cluster: Cluster, view: _View) -> AsyncIterator[None]:
    """Both watches, for as long as the block runs."""
    target, kind = view.target, view.target.kind
    one = path_of(kind.resource, "apps", namespace=target.namespace)
    object_path = path_of(kind.resource, "apps", namespace=target.namespace, name=target.name)
    pods = path_of("pods", namespace=target.namespace)
    selector: dict[str, str | int] = {"labelSelector": selector_of(view.workload)}

    async def read_one() -> list[Any]:
        return [await cluster.get(object_path)]

    async def read_pods() -> list[Any]:
        return list(await cluster.list_all(pods, selector))

    async def follow(
        path: str,
        params: dict[str, str | int],
        read: Callable[[], Awaitable[list[Any]]],
        take: Callable[[str, Any], None],
    ) -> None:
        try:
            async for event, thing in _changes(cluster, path, params, read):
                take(event, thing)
                view.changed.set()
        except DevOpsError as problem:
            if path == pods:
                view.pods_seen = False
            else:
                view.failure = problem
            view.changed.set()

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (crash := task.exception()) is not None:
            view.failure = crash
            view.changed.set()

    by_name: dict[str, str | int] = {"fieldSelector": f"metadata.name={target.name}"}
    tasks = [
        asyncio.create_task(follow(one, by_name, read_one, view.take_workload)),
        asyncio.create_task(follow(pods, selector, read_pods, view.take_pods)),
    ]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _changes(
    cluster: Cluster,
    path: str,
    params: dict[str, str | int],
    read: Callable[[], Awaitable[list[Any]]],
) -> AsyncIterator[tuple[str, Any]]:
    """A watch; where only reading is permitted, reads with a pause between."""
    try:
        async with aclosing(cluster.watch(path, params)) as events:
            async for event in events:
                yield event
    except PermissionDenied:
        while True:
            yield "SYNC", await read()
            await asyncio.sleep(POLL_S)


def _uid(thing: Json) -> str:
    return str(metadata_of(thing).get("uid", ""))


def _controller(pod: Json) -> str:
    references = metadata_of(pod).get("ownerReferences") or ()
    return next((str(r.get("uid")) for r in references if r.get("controller")), "")


def _restarts(pod: Json) -> int:
    status = pod.get("status") or {}
    entries = [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]
    return sum(int(e.get("restartCount") or 0) for e in entries)
