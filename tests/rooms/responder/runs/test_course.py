"""The way of a run that is replayed after a crash, under a policy that changed meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

from mcp_devops.model.record import Record
from mcp_devops.model.target import Workload
from mcp_devops.model.verdict import Action
from mcp_devops.responder.runs.course import Began, Course, Now, Said
from mcp_devops.responder.runs.steps import Look, Steps
from mcp_devops.responder.watching.rollouts import Rollout
from mcp_devops.response_policy.policy import Observe

T = TypeVar("T", bound=Record)
START = datetime(2026, 3, 4, 3, 0, tzinfo=UTC)
ROLLOUT = Rollout(
    target=Workload(namespace="shop", name="cart"), uid="uid-1", template_hash="h" * 16
)


class Replay:
    """Gives the results that the steps had before the crash, in their order."""

    def __init__(self, *results: Record) -> None:
        self.results = list(results)
        self.names: list[str] = []

    async def __call__(self, name: str, kind: type[T], work: Callable[[], Awaitable[T]]) -> T:
        self.names.append(name)
        found = self.results.pop(0)
        assert isinstance(found, kind), f"{name} meets the result of another step: {found!r}"
        return found


def look(age_s: float, **more: Any) -> Look:
    """A healthy look."""
    return Look(at=START + timedelta(seconds=age_s), action=Action.NONE, incident_id="i", **more)


async def walked(replay: Replay, observe_now: Observe) -> str:
    """Replay a run while the policy says something else by now."""
    # No step is done anew, so nothing of them is needed.
    course = Course(cast(Steps, None), replay, lambda _: observe_now, "one")
    return await course.respond(ROLLOUT)


async def test_a_run_that_is_replayed_takes_its_old_way_though_the_policy_watches_shorter_now() -> (
    None
):
    longer = Observe(for_s=900, calm_s=600)
    before = [
        step for age in (0, 100, 200, 300, 400, 500) for step in (look(age, observe=longer), Said())
    ]
    replay = Replay(
        Began(at=START.timestamp()),
        *before,
        look(600, observe=longer),
        Now(at=START.isoformat()),
        Said(),
    )
    await walked(replay, Observe(for_s=60))
    assert replay.results == [] and replay.names.count("look") == 7


async def test_a_policy_that_watches_shorter_holds_for_runs_under_way() -> None:
    longer, shorter = Observe(for_s=900, calm_s=600), Observe(for_s=60)
    replay = Replay(
        Began(at=START.timestamp()),
        look(0, observe=longer),
        Said(),
        look(70, observe=shorter),
        Now(at=START.isoformat()),
        Said(),
    )
    await walked(replay, longer)
    assert replay.results == [] and replay.names.count("look") == 2


def through(*looks: Look) -> Replay:
    """A run that ends with the last of these looks."""
    rests = [step for seen in looks[:-1] for step in (seen, Said())]
    return Replay(Began(at=START.timestamp()), *rests, looks[-1], Now(at=START.isoformat()), Said())


async def test_a_rollout_that_is_well_is_watched_until_its_old_pods_are_gone_for_a_while() -> None:
    observe = Observe(for_s=900, calm_s=300)
    slow = [look(age, rolling=True) for age in range(0, 1500, 100)]
    after = [look(age) for age in (1500, 1600, 1700)]
    replay = through(*slow, *after)
    await walked(replay, observe)
    assert replay.results == [], "five minutes after 1,400 s"


async def test_a_rollout_that_stays_between_two_revisions_is_let_go_at_last() -> None:
    observe = Observe(for_s=900, calm_s=300, rolling_s=2000)
    replay = through(*(look(age, rolling=True) for age in range(0, 2001, 100)))
    await walked(replay, observe)
    assert replay.results == []


async def test_what_is_not_found_well_waits_for_no_end_of_its_rollout() -> None:
    unclear = {"rolling": True, "action": Action.HOLD}
    replay = through(*(look(age).model_copy(update=unclear) for age in range(0, 901, 100)))
    await walked(replay, Observe(for_s=900, calm_s=300))
    assert replay.results == []
