"""Hears of new rollouts, and of pods in trouble, from the API's watches: one a kind.

What was seen is kept in the state, so that a rollout that began while nobody watched is found when
the watch begins again. An expired watch lists anew, which finds what happened in the gap.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from mcp_devops.errors import DevOpsError, UpstreamError
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.progress import RolloutState, rollout_status
from mcp_devops.integrations.kubernetes.revisions import (
    is_paused,
    metadata_of,
    moment,
    template_hash,
)
from mcp_devops.journal.database import Database
from mcp_devops.model.record import Record
from mcp_devops.model.target import Workload, WorkloadKind
from mcp_devops.responder.bookmarks import Seen, seen_in, take_note_in
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.retrying import Pause, wait_s

log = logging.getLogger(__name__)

Json = Mapping[str, Any]
YOUNG = timedelta(minutes=15)
"""A workload that is first seen is watched if its rollout began so lately: the age within which a
deployment is suspected at all (users' rule A4)."""
LEAST_PAUSE_S = 3.0
"""Seconds before a failing pod may wake its run again: it tells of itself at each restart."""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 15.0
TRIES = 10
"""Times that a rollout is taken note of while the state is away: for about a minute."""
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
    number: int = 0
    """How many rollouts of the workload were taken note of, this one included; 0: unknown."""

    @property
    def run_id(self) -> str:
        """Name of the run that answers it: the same rollout has the same name everywhere."""
        which = f"-{self.number}" if self.number else ""
        return f"run-{self.uid}-{self.template_hash[:16]}{which}"


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
        pause: Pause = asyncio.sleep,
    ) -> None:
        """Remember whom to tell.

        Args:
            cluster: What is watched.
            database: Where is kept what was seen.
            clock: Tells ages.
            scope: Namespaces and kinds.
            on_rollout: Awaited for each new rollout. What waiting may cure is tried again;
                anything else ends the watch, and the rollout is told again by the next one.
            pause: Waits between two tries.
        """
        self._cluster = cluster
        self._database = database
        self._clock = clock
        self._scope = scope
        self._on_rollout = on_rollout
        self._pause = pause
        self._attended: dict[tuple[str, str], _Attention] = {}
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

    @property
    def uids(self) -> Collection[str]:
        """Uids of the workloads that are there, as far as they were taken note of."""
        return self._templates.keys()

    @contextmanager
    def attending(self, target: Workload) -> Iterator[None]:
        """Take note of a workload's trouble for as long as the block, which is its run, goes on."""
        key = (target.namespace, target.name)
        mine = self._attended.setdefault(key, _Attention())
        mine.runs += 1
        try:
            yield
        finally:
            mine.runs -= 1
            if not mine.runs:
                del self._attended[key]

    def in_trouble(self, target: Workload) -> bool:
        """Whether a workload, whose run goes on, was found in trouble, or a pod failed since."""
        mine = self._attended.get((target.namespace, target.name))
        return mine is not None and (mine.found or mine.woken or mine.trouble.is_set())

    def found(self, target: Workload, *, troubled: bool) -> None:
        """Take note of what the last look at a workload found."""
        mine = self._attended.get((target.namespace, target.name))
        if mine is not None:
            mine.found = troubled

    async def wake(self, target: Workload, seconds: float) -> bool:
        """Wait until a pod of the workload gets into trouble, at most so many seconds.

        Returns:
            Whether one did.
        """
        mine = self._attended.get((target.namespace, target.name), _Attention())
        mine.woken = False
        pause = min(LEAST_PAUSE_S, seconds)
        await asyncio.sleep(pause)
        try:
            async with asyncio.timeout(seconds - pause):
                await mine.trouble.wait()
        except TimeoutError:
            return False
        mine.trouble.clear()
        mine.woken = True
        return True

    def rouse(self, service: str) -> int:
        """Wake the runs of workloads of this name. Returns how many there are."""
        mine = [one for (_, name), one in self._attended.items() if name == service]
        for one in mine:
            one.trouble.set()
        return len(mine)

    async def _all_listed(self, waiting: Sequence[asyncio.Event]) -> None:
        await asyncio.gather(*(event.wait() for event in waiting))
        self.listed.set()

    async def _workloads(
        self, kind: WorkloadKind, place: str | None, listed: asyncio.Event
    ) -> None:
        path = path_of(kind.resource, "apps", namespace=place)
        there: set[str] = set()
        async with aclosing(self._cluster.watch(path)) as events:
            async for event, thing in events:
                self.heard_at = self._clock.now()
                before, uids = there, {_uid(w) for w in (thing if event == "SYNC" else [thing])}
                if event == "SYNC":
                    there = uids
                else:
                    there = there - uids if event == "DELETED" else there | uids
                for uid in before - there:
                    self._templates.pop(uid, None)
                if event != "DELETED":
                    for workload in thing if event == "SYNC" else [thing]:
                        await self._surely_seen(kind, workload)
                listed.set()

    async def _surely_seen(self, kind: WorkloadKind, workload: Json) -> None:
        """Take note of a workload; a state that is away for a while costs no event.

        Raises:
            DevOpsError: What waiting does not cure, or did not in `TRIES`.
        """
        for attempt in range(1, TRIES + 1):
            try:
                await self._seen(kind, workload)
                return
            except UpstreamError as problem:
                # Also where the outcome is unknown: taking note twice starts one run.
                if attempt == TRIES:
                    raise
                name = metadata_of(workload).get("name", "")
                log.warning("%s %s is looked at again: %s", kind.value, name, problem)
                await self._pause(_wait_s(attempt))

    async def _seen(self, kind: WorkloadKind, workload: Json) -> None:
        """Tell a template that was not there before; then remember it."""
        meta = metadata_of(workload)
        namespace, uid = str(meta.get("namespace", "")), _uid(workload)
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
        before = await self._database.read(lambda c: seen_in(c, uid))
        if before.template == found:
            self._templates[uid] = found
            return
        generation = int(meta.get("generation") or 0)
        if generation < before.generation or is_paused(workload):
            # Another replica heard of it before us, and of what came after it. And of what is
            # paused nothing rolls out: it is new when it is resumed.
            return
        now = self._clock.now()
        is_new = before.template is not None or self._is_young(kind, workload, now)
        if is_new and before.restored != found:
            await self._on_rollout(_rollout(target, uid, found, before))
        await self._database.run(lambda c: take_note_in(c, uid, found, before, now, generation))
        self._templates[uid] = found

    async def live(self, target: Workload, workload: Json) -> Rollout | None:
        """The rollout that a workload is in, under the name that the watch gives it.

        None: a rollback of ours is bringing its template back, or it is paused before it began.
        """
        uid, found = _uid(workload), template_hash(workload)
        before = await self._database.read(lambda c: seen_in(c, uid))
        waits = is_paused(workload) and before.template != found
        return None if waits or before.restored == found else _rollout(target, uid, found, before)

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
        # A pod is named after its workload and what its controller adds: "-hash-suffix" or "-0".
        parts = name.split("-")
        for end in range(len(parts) - 1, 0, -1):
            found = self._attended.get((namespace, "-".join(parts[:end])))
            if found is not None:
                found.trouble.set()


@dataclass
class _Attention:
    """What the watch knows of a workload whose run goes on."""

    runs: int = 0
    trouble: asyncio.Event = field(default_factory=asyncio.Event)
    woken: bool = False
    """Whether trouble ended the last rest: what the look after it is about."""
    found: bool = False
    """Whether the last look found trouble."""


def _wait_s(attempt: int) -> float:
    # Randomness spreads retries; it guards nothing.
    return wait_s(attempt, FIRST_WAIT_S, LONGEST_WAIT_S, random.random)  # noqa: S311


def _uid(workload: Json) -> str:
    return str(metadata_of(workload).get("uid", ""))


def _rollout(target: Workload, uid: str, template: str, before: Seen) -> Rollout:
    number = before.rollouts + (before.template != template)
    return Rollout(target=target, uid=uid, template_hash=template, number=number)


def is_failing(pod: Json) -> bool:
    """Whether a container of a pod waits for a reason that does not pass, or was restarted."""
    status = pod.get("status") or {}
    kept = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    return any(
        ((c.get("state") or {}).get("waiting") or {}).get("reason") in FAILING
        or (c.get("restartCount") or 0) > 0
        for c in kept
    )
