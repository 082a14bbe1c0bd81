"""Hears of new rollouts, and of pods in trouble, from the API's watches: one a kind.

What was seen is kept in the state, so that a rollout that began while nobody watched is found when
the watch begins again. An expired watch lists anew, which finds what happened in the gap.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.progress import RolloutState, rollout_status
from mcp_devops.integrations.kubernetes.revisions import metadata_of, moment, template_hash
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.model.record import Record
from mcp_devops.model.target import Workload, WorkloadKind
from mcp_devops.toolkit.clock import Clock

log = logging.getLogger(__name__)

Json = Mapping[str, Any]
YOUNG = timedelta(minutes=15)
"""A workload that is first seen is watched if its rollout began so lately: the age within which a
deployment is suspected at all (users' rule A4)."""
LEAST_PAUSE_S = 3.0
"""Seconds before a failing pod may wake its run again: it tells of itself at each restart."""
FAILING = frozenset(
    {
        *("CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "InvalidImageName"),
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    }
)
"""Waiting reasons of a container that will not run by itself."""


class Rollout(Record):
    """One new pod template of one workload."""

    target: Workload
    """What was rolled out."""
    uid: str
    """Uid of the object."""
    template_hash: str
    """The new template."""

    @property
    def run_id(self) -> str:
        """Name of the run that answers it: the same rollout has the same name everywhere."""
        return f"run-{self.uid}-{self.template_hash[:16]}"


@dataclass(frozen=True)
class Scope:
    """What is watched.

    Attributes:
        namespaces: Patterns of namespaces; those without a wildcard are watched one by one, so
            that a Role of one namespace suffices.
        kinds: Kinds of workloads.
    """

    namespaces: tuple[str, ...]
    kinds: tuple[WorkloadKind, ...] = tuple(WorkloadKind)

    @property
    def places(self) -> tuple[str | None, ...]:
        """Namespaces to open watches in; (None,): all of them, in one watch a kind."""
        if any(set(pattern) & set("*?[") for pattern in self.namespaces):
            return (None,)
        return tuple(dict.fromkeys(self.namespaces))

    def holds(self, namespace: str) -> bool:
        """Whether a namespace is watched."""
        return any(fnmatchcase(namespace, pattern) for pattern in self.namespaces)


class RolloutWatch:
    """Watches workloads and their pods, and hands over what is new."""

    def __init__(
        self,
        cluster: Cluster,
        database: Database,
        clock: Clock,
        scope: Scope,
        on_rollout: Callable[[Rollout], Any],
    ) -> None:
        """Remember whom to tell.

        Args:
            cluster: What is watched.
            database: Where is kept what was seen.
            clock: Tells ages.
            scope: Namespaces and kinds.
            on_rollout: Awaited for each new rollout; what it raises ends the watch, and the
                rollout is told again by the next one.
        """
        self._cluster = cluster
        self._database = database
        self._clock = clock
        self._scope = scope
        self._on_rollout = on_rollout
        self._waking: dict[tuple[str, str], asyncio.Event] = {}
        self._templates: dict[str, str] = {}
        """Templates by uid, as the state has them: most events of a rollout bring no new one."""
        self.listed = asyncio.Event()
        """Set once every kind was listed for the first time."""
        self.heard_at: datetime | None = None
        """When an event came last."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch for as long as the block runs.

        Raises:
            PermissionDenied: Listing or watching is not permitted.
        """
        watches = [(kind, place) for kind in self._scope.kinds for place in self._scope.places]
        waiting = {index: asyncio.Event() for index in range(len(watches))}
        async with asyncio.TaskGroup() as tasks:
            mine = [
                tasks.create_task(self._workloads(kind, place, waiting[index]))
                for index, (kind, place) in enumerate(watches)
            ]
            mine += [tasks.create_task(self._pods(place)) for place in self._scope.places]
            mine.append(tasks.create_task(self._all_listed(list(waiting.values()))))
            try:
                yield
            finally:
                for task in mine:
                    task.cancel()

    async def wake(self, target: Workload, seconds: float) -> bool:
        """Wait until a pod of the workload gets into trouble, at most so many seconds.

        Returns:
            Whether one did.
        """
        event = self._waking.setdefault((target.namespace, target.name), asyncio.Event())
        pause = min(LEAST_PAUSE_S, seconds)
        await asyncio.sleep(pause)
        try:
            async with asyncio.timeout(seconds - pause):
                await event.wait()
        except TimeoutError:
            return False
        event.clear()
        return True

    def rouse(self, service: str) -> int:
        """Wake the runs of workloads of this name. Returns how many there are."""
        mine = [event for (_, name), event in self._waking.items() if name == service]
        for event in mine:
            event.set()
        return len(mine)

    async def _all_listed(self, waiting: Sequence[asyncio.Event]) -> None:
        await asyncio.gather(*(event.wait() for event in waiting))
        self.listed.set()

    async def _workloads(
        self, kind: WorkloadKind, place: str | None, listed: asyncio.Event
    ) -> None:
        path = path_of(kind.resource, "apps", namespace=place)
        async with aclosing(self._cluster.watch(path)) as events:
            async for event, thing in events:
                self.heard_at = self._clock.now()
                for workload in thing if event == "SYNC" else [thing]:
                    if event != "DELETED":
                        await self._seen(kind, workload)
                listed.set()

    async def _seen(self, kind: WorkloadKind, workload: Json) -> None:
        """Tell a template that was not there before; then remember it."""
        meta = metadata_of(workload)
        namespace, uid = str(meta.get("namespace", "")), str(meta.get("uid", ""))
        if not self._scope.holds(namespace):
            return
        target = Workload(
            cluster=self._cluster.context,
            namespace=namespace,
            kind=kind,
            name=str(meta.get("name", "")),
        )
        found = template_hash(workload)
        if self._templates.get(uid) == found:
            return
        known = await self._database.read(lambda c: bookmark_in(c, f"template:{uid}"))
        if known == found:
            self._templates[uid] = found
            return
        now = self._clock.now()
        restored = await self._database.read(lambda c: bookmark_in(c, f"restored:{uid}"))
        if restored != found and (known is not None or self._is_young(kind, workload, now)):
            await self._on_rollout(Rollout(target=target, uid=uid, template_hash=found))
        await self._database.run(lambda c: set_bookmark_in(c, f"template:{uid}", found, now))
        self._templates[uid] = found

    def _is_young(self, kind: WorkloadKind, workload: Json, now: datetime) -> bool:
        """Whether a workload that was never seen rolled out lately, or still does."""
        if rollout_status(workload, kind).state is RolloutState.PROGRESSING:
            return True
        times = [
            moment(c.get("lastUpdateTime") or c.get("lastTransitionTime"))
            for c in (workload.get("status") or {}).get("conditions") or ()
            if c.get("type") == "Progressing"
        ]
        made = moment(metadata_of(workload).get("creationTimestamp"))
        newest = max((t for t in [*times, made] if t is not None), default=None)
        return newest is not None and now - newest <= YOUNG

    async def _pods(self, place: str | None) -> None:
        """Wake the runs of workloads whose pods fail; without the permission they look by time."""
        try:
            async with aclosing(self._cluster.watch(path_of("pods", namespace=place))) as events:
                async for event, thing in events:
                    if event in ("ADDED", "MODIFIED") and is_failing(thing):
                        self._wake_owner(thing)
        except DevOpsError as problem:
            log.warning("pods are not watched, their trouble is seen later: %s", problem)

    def _wake_owner(self, pod: Json) -> None:
        meta = metadata_of(pod)
        namespace, name = str(meta.get("namespace", "")), str(meta.get("name", ""))
        for (place, workload), event in self._waking.items():
            if place == namespace and name.startswith(f"{workload}-"):
                event.set()


def is_failing(pod: Json) -> bool:
    """Whether a container of a pod waits for a reason that does not pass, or was restarted."""
    status = pod.get("status") or {}
    kept = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    return any(
        ((c.get("state") or {}).get("waiting") or {}).get("reason") in FAILING
        or (c.get("restartCount") or 0) > 0
        for c in kept
    )


def bookmark_in(connection: Connection, name: str) -> str | None:
    """A remembered value; None: nothing was."""
    row = connection.execute("SELECT value FROM bookmarks WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row["value"])


def set_bookmark_in(connection: Connection, name: str, value: str, now: datetime) -> None:
    """Remember a value."""
    connection.execute(
        "INSERT INTO bookmarks (name, value, at) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value, at = excluded.at",
        (name, value, now.isoformat()),
    )
