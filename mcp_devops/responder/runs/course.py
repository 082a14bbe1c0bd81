"""The course of one run: observe, respond, close. What each step does is in `run`.

It decides by the results of steps only, never by a clock or a store of its own, so that a run that
is replayed after a crash takes the same way to where it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Protocol, TypeVar

from mcp_devops.model.record import Record
from mcp_devops.model.verdict import Action
from mcp_devops.responder.response import Kind, Response
from mcp_devops.responder.runs.steps import JUDGED_ANEW, Acted, Asked, Look, Steps
from mcp_devops.responder.watching.rollouts import Rollout
from mcp_devops.response_policy.policy import Observe

T = TypeVar("T", bound=Record)

CALM_LOOKS = 3
"""Looks in a row that find nothing wrong before a run may end early."""
MOST_QUESTIONS = 3
"""Questions of one run: each is asked because the one before was overtaken."""
TROUBLED_STEP_S = 10.0
"""Seconds between two looks at the most while something is wrong: what must last for a minute is
then acted on soon after that minute."""
LEAST_REST_S = 5.0
"""Seconds between two looks at the least."""

Observing = Callable[[Rollout], Observe]
"""How long and how often a rollout is looked at."""


class DoStep(Protocol):
    """Does a step, or gives the result that it had before a crash."""

    async def __call__(self, name: str, kind: type[T], work: Callable[[], Awaitable[T]]) -> T:
        """The step's result."""
        ...


class Began(Record):
    """When a run began."""

    at: float
    """Epoch seconds."""


class Said(Record):
    """A word as the result of a step."""

    word: str = ""
    """The word."""


class Now(Record):
    """A moment, taken once."""

    at: str
    """RFC 3339."""


class Course:
    """The way of one run through its steps."""

    def __init__(self, steps: Steps, step: DoStep, observing: Observing, replica: str) -> None:
        self._steps = steps
        self._step = step
        self._observing = observing
        self._replica = replica

    async def respond(self, rollout: Rollout) -> str:
        """Take a rollout from its first look to its end. Returns how it ended."""

        async def begin() -> Began:
            return Began(at=await self._steps.begin(rollout, self._replica))

        began = (await self._step("begin", Began, begin)).at
        times: dict[str, Any] = {"began": began}
        seen = await self._observed(rollout, began, times)
        if seen.over is not None:
            status = seen.over
        else:
            times["decided_at"] = seen.at.isoformat()
            status = await self._responded(rollout, seen, times)
        times["ended_at"] = await self._now()

        async def finish() -> Said:
            await self._steps.finish(rollout, status, seen.incident_id, seen.response, times)
            return Said(word=status)

        await self._step("finish", Said, finish)
        return status

    async def _observed(self, rollout: Rollout, began: float, times: dict[str, Any]) -> Look:
        """Look until there is something to do, or nothing any more.

        What is found well is watched until some minutes after its last old pod is gone: a slow or
        paused rollout may reach most users long after it began.
        """
        calm, rolled = 0, began
        unsure_since: datetime | None = None
        while True:
            seen = await self._step("look", Look, lambda: self._steps.look(rollout))
            # As the look has it: a policy that changed since then must not change the way to here.
            observe = seen.observe or self._observing(rollout)
            age = seen.at.timestamp() - began
            if seen.troubled:
                times.setdefault("detected_at", seen.at.isoformat())
                unsure_since, calm = unsure_since or seen.at, 0
            else:
                unsure_since = None
                calm = calm + 1 if seen.action is Action.NONE or seen.passed else 0
            if seen.rolling:
                rolled = seen.at.timestamp()
            enough_s = min(observe.calm_s, observe.for_s)
            is_calm = seen.at.timestamp() - rolled >= enough_s or age >= observe.rolling_s
            unsure_s = (seen.at - unsure_since).total_seconds() if unsure_since else 0.0
            settled = calm >= CALM_LOOKS and is_calm
            sure = seen.action in (Action.ROLL_BACK, Action.FIX_FORWARD)
            late = (age >= observe.for_s and (is_calm or not calm)) or unsure_s >= observe.unsure_s
            if seen.over is not None or sure or settled or late:
                return seen
            step_s = min(observe.step_s, TROUBLED_STEP_S) if seen.troubled else observe.step_s
            left_s = observe.for_s - age
            if left_s <= 0:
                left_s = enough_s - (seen.at.timestamp() - rolled)
            seconds = min(step_s, max(LEAST_REST_S, left_s))

            async def rest(seconds: float = seconds) -> Said:
                woken = await self._steps.rest(rollout, seconds)
                return Said(word="woken" if woken else "")

            await self._step("rest", Said, rest)

    async def _responded(self, rollout: Rollout, seen: Look, times: dict[str, Any]) -> str:
        """Do what the policy says. Returns the run's status."""
        incident, response = seen.incident_id, seen.response
        if response is None or incident is None:
            return "nothing collected"
        why = response.reasons[-1]
        if response.kind is Kind.ACT:
            acting = response
            acted = await self._step(
                "act", Acted, lambda: self._steps.act(rollout, incident, acting)
            )
            if acted.status != "stopped":
                return await self._checked(incident, response, acted, times)
            response, why = acted.response or response, acted.says
        if response.kind is Kind.RECORD:
            return "healthy" if seen.action is Action.NONE else "recorded"
        if response.kind is Kind.PAGE:
            await self._tell(incident, response, why, times)
            return "paged"
        return await self._asked(rollout, incident, response, why, times)

    async def _asked(
        self,
        rollout: Rollout,
        incident: str,
        response: Response,
        why: str,
        times: dict[str, Any],
    ) -> str:
        """Ask people, wait, and do what they say. No answer is a no, and the page stays open.

        An approval is of one plan. Where somebody had the deployment judged anew in the meantime,
        the approved plan is gone, and the new one is asked about.
        """
        questions = 1
        while True:
            acted = await self._asked_once(rollout, incident, response, why, times)
            if isinstance(acted, str):
                return acted
            if acted.status != JUDGED_ANEW or questions == MOST_QUESTIONS:
                return await self._checked(incident, response, acted, times)
            why, questions = acted.says, questions + 1

    async def _asked_once(
        self,
        rollout: Rollout,
        incident: str,
        response: Response,
        why: str,
        times: dict[str, Any],
    ) -> Acted | str:
        """One question. Returns what became of the approved action, or how the run ended."""
        asked = await self._step(
            "ask", Asked, lambda: self._steps.ask(rollout, incident, response, why)
        )
        times["paged_at"] = await self._now()
        approval = asked.approval_id
        if approval is None or asked.until is None:
            return "paged"

        async def answer() -> Said:
            return Said(word=await self._steps.answer(approval))

        status = (await self._step("answer", Said, answer)).word
        while status == "pending" and datetime.fromisoformat(await self._now()) < asked.until:
            status = (await self._step("answer", Said, answer)).word
        if status not in ("approved", "used"):
            return f"not approved ({'no answer' if status == 'pending' else status})"
        return await self._step(
            "approved", Acted, lambda: self._steps.approved(rollout, incident, approval)
        )

    async def _checked(
        self, incident: str, response: Response, acted: Acted, times: dict[str, Any]
    ) -> str:
        """A rollback that did not help, or was not done, wakes a person."""
        times["acted_at"] = await self._now()
        if not acted.recovered:
            await self._tell(incident, response, f"{acted.status}: {acted.says}", times)
        return acted.status

    async def _tell(
        self, incident: str, response: Response, why: str, times: dict[str, Any]
    ) -> None:
        async def tell() -> Said:
            await self._steps.tell(incident, response, why)
            return Said()

        await self._step("tell", Said, tell)
        times["paged_at"] = await self._now()

    async def _now(self) -> str:
        async def now() -> Now:
            return Now(at=self._steps.now().isoformat())

        return (await self._step("now", Now, now)).at
