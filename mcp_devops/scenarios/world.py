"""The recorded cluster on the scenario's clock: its objects now, their changes, and the one turn.

The turn is the rollback. Before it nothing moves but time; after it the recorded changes happen
again, each at its distance from the rollback. Recorded times are moved to the scenario's clock,
wherever they stand in an object or a log.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mcp_devops.scenarios.recorded import Scenario
from mcp_devops.scenarios.tape import Tape
from mcp_devops.toolkit.clock import ShiftedClock

Json = dict[str, Any]

_STAMP = re.compile(r"\b\d{4}([-/])\d\d\1\d\d([T ])\d\d:\d\d:\d\d")


@dataclass(frozen=True)
class Change:
    """One recorded change."""

    kind: str
    """ADDED, MODIFIED or DELETED."""
    thing: Json
    version: int


class World:
    """One played scenario.

    Attributes:
        scenario: What was recorded.
        clock: The scenario's clock.
        tape: Its samples.
        turned_at: Second of the rollback on that clock; None: not yet.
    """

    def __init__(self, scenario: Scenario, begun: datetime) -> None:
        self.scenario = scenario
        # Whole seconds, so that times without a fraction stay true.
        self._shift = round(begun.timestamp() - scenario.rolled_back_at)
        start = scenario.rolled_back_at + self._shift
        self.clock = ShiftedClock(datetime.fromtimestamp(start, UTC))
        self.tape = Tape(scenario.samples, scenario.rolled_back_at, scenario.ended_at, start)
        self.turned_at: float | None = None
        self.happened: dict[str, list[Change]] = {}
        self._objects: dict[str, dict[str, Json]] = {}
        self._first_version: dict[str, int] = {}
        self._moved = asyncio.Event()
        self._player: asyncio.Task[None] | None = None
        for collection, things in scenario.cluster["lists"].items():
            placed = [self.placed(t) for t in things]
            self._objects[collection] = {t["metadata"]["uid"]: t for t in placed}
            self.happened[collection] = []
            self._first_version[collection] = max((version_of(t) for t in placed), default=1)

    @property
    def namespace(self) -> str:
        """The only namespace."""
        return self.scenario.about.namespace

    def now(self) -> float:
        """Second on the scenario's clock."""
        return self.clock.now().timestamp()

    def objects(self, collection: str) -> list[Json]:
        """The objects of a collection as they are now, in order of their names."""
        found = self._objects.get(collection, {}).values()
        return sorted(found, key=lambda t: str(t["metadata"]["name"]))

    def find(self, collection: str, name: str) -> Json | None:
        """One object by name."""
        found = self._objects.get(collection, {}).values()
        return next((t for t in found if t["metadata"]["name"] == name), None)

    def version(self, collection: str) -> int:
        """The resourceVersion of a collection."""
        changes = self.happened.get(collection)
        newest = changes[-1].version if changes else 0
        return max(newest, self._first_version.get(collection, 1))

    def placed(self, content: Any) -> Any:
        """Recorded content with its times moved to the scenario's clock."""
        return json.loads(self.placed_text(json.dumps(content)))

    def placed_text(self, text: str) -> str:
        """Recorded text, likewise."""
        split = int(self.scenario.rolled_back_at)
        late = self._shift if self.turned_at is None else self._late_shift()

        def move(match: re.Match[str]) -> str:
            slash, between = match[1], match[2]
            form = f"%Y{slash}%m{slash}%d{between}%H:%M:%S"
            stamp = datetime.strptime(match[0], form).replace(tzinfo=UTC)
            shift = self._shift if stamp.timestamp() < split else late
            return (stamp + timedelta(seconds=shift)).strftime(form)

        return _STAMP.sub(move, text)

    def _late_shift(self) -> int:
        return round((self.turned_at or 0.0) - self.scenario.rolled_back_at)

    # The turn

    def roll_back(self) -> Json:
        """Make the rollback happen now, and let time run at the scenario's pace for a while.

        Returns:
            The Deployment as the API server answered the patch.
        """
        self.turned_at = self.now()
        self.tape.turn(self.turned_at)
        self.clock.run_at(self.scenario.about.speed)
        self._player = asyncio.create_task(self._play())
        answer: Json = self.placed(self.scenario.cluster["answer"])
        self._take("deployments", "MODIFIED", answer)
        return answer

    async def _play(self) -> None:
        about = self.scenario.about
        for after, collection, kind, thing in self.scenario.cluster["changes"]:
            await self._sleep_until(after)
            self._take(collection, kind, self.placed(thing))
        await self._sleep_until(about.hurried_s)
        self.clock.run_at(1.0)

    async def _sleep_until(self, after: float) -> None:
        left = (self.turned_at or 0.0) + after - self.now()
        if left > 0:
            await asyncio.sleep(left / self.clock.speed)

    def _take(self, collection: str, kind: str, thing: Json) -> None:
        """Let one change happen, unless it is older than what is known."""
        uid, version = thing["metadata"]["uid"], version_of(thing)
        known = self._objects[collection].get(uid)
        if known is not None and kind != "DELETED" and version <= version_of(known):
            return
        if kind == "DELETED":
            self._objects[collection].pop(uid, None)
        else:
            self._objects[collection][uid] = thing
        self.happened[collection].append(Change(kind, thing, version))
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def wait(self, seconds: float) -> None:
        """Wait for a change, or for so many seconds of the machine."""
        try:
            async with asyncio.timeout(seconds):
                await self._moved.wait()
        except TimeoutError:
            return

    async def aclose(self) -> None:
        """Stop playing."""
        if self._player is not None:
            self._player.cancel()
            await asyncio.gather(self._player, return_exceptions=True)

    # Logs

    def log(self, pod: str, previous: bool) -> Mapping[str, Any] | None:
        """A container's recorded log: `text`, or the refusal's `code` and `message`."""
        found = self.scenario.cluster["logs"].get(pod)
        if found is None:
            return None
        run: Json = found["previous" if previous else "current"]
        return {**run, "text": self.placed_text(run["text"])} if "text" in run else run


def version_of(thing: Json) -> int:
    """An object's resourceVersion; opaque to clients, a growing number to the server."""
    return int(thing["metadata"]["resourceVersion"])
