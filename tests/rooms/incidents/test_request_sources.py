"""Several metric sources asked at once: what each gives, and what its failure means."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

from mcp_devops.decision import Policy, decide
from mcp_devops.incidents.error_tracker import issues
from mcp_devops.incidents.gaps import Gaps
from mcp_devops.incidents.question import Question
from mcp_devops.incidents.requests import RequestEvidence, request_evidence
from mcp_devops.integrations.datadog.client import DatadogClient
from mcp_devops.integrations.prometheus.client import PrometheusClient
from mcp_devops.integrations.sentry.client import SentryClient
from mcp_devops.model.change import Change, Revision
from mcp_devops.model.evidence import Arm, DiagnosticContext, Missing
from mcp_devops.model.target import Workload
from mcp_devops.model.verdict import Action
from tests.support import datadog as dd
from tests.support import prometheus_api as prom
from tests.support import sentry as sn

NOW = prom.NOW
DEPLOYED = NOW - timedelta(minutes=20)
TARGET = Workload(namespace="shop", name="checkout")
T = TypeVar("T")


def changed() -> Change:
    old = Revision(
        number=1,
        name="checkout-old",
        template_hash="a",
        created_at=NOW - timedelta(days=1),
        images=("shop/checkout:1.0.0",),
    )
    new = old.model_copy(
        update={
            "number": 2,
            "name": "checkout-new",
            "template_hash": "b",
            "images": ("shop/checkout:2.0.0",),
        }
    )
    return Change(workload=TARGET, uid="u", started_at=DEPLOYED, revision=new, previous=old)


class Found:
    """Hands out the clients of one test."""

    def __init__(self, clients: dict[type, object]) -> None:
        self._clients = clients

    async def get(self, kind: type[T]) -> T:
        return cast(T, self._clients[kind])

    async def find(self, kind: type[T]) -> T | None:
        return cast("T | None", self._clients.get(kind))


async def asked(clients: dict[type, object]) -> tuple[RequestEvidence, tuple[Missing, ...]]:
    gaps = Gaps(20)
    question = Question(TARGET, "checkout")
    found = await request_evidence(gaps, Found(clients), question, changed(), DEPLOYED)
    return found, gaps.missing


def pods(new_errors: float) -> list[Any]:
    old = prom.Pod("checkout-old-aaaaa", NOW - timedelta(hours=1), NOW, rps=20)
    new = prom.Pod("checkout-new-bbbbb", DEPLOYED, NOW, rps=20, error_rate=new_errors)
    return [*prom.samples_of(old), *prom.samples_of(new)]


def traffic(new_errors: float) -> list[dd.Traffic]:
    return [
        dd.Traffic(NOW - timedelta(hours=2), NOW, version="1.0.0"),
        dd.Traffic(DEPLOYED, NOW, version="2.0.0", error_rate=new_errors, p99_s=0.6),
    ]


def events(new_errors: float) -> sn.World:
    world = sn.World(clock=prom.FixedClock(NOW))
    world.traffic = [
        sn.Traffic(NOW - timedelta(hours=2), DEPLOYED, requests=600, release="checkout@1.0.0"),
        sn.Traffic(DEPLOYED, NOW, requests=600, failed=new_errors, release="checkout@2.0.0"),
    ]
    created = NOW - timedelta(days=1)
    world.releases = [sn.release("checkout@2.0.0", created), sn.release("checkout@1.0.0", created)]
    world.issues = {'first-release:"checkout@2.0.0"': [sn.issue(1, count="40"), sn.issue(2)]}
    return world


@asynccontextmanager
async def sources(new_errors: float = 0.2, **broken: bool) -> AsyncIterator[dict[type, object]]:
    """Prometheus, Datadog and Sentry that saw the same deployment."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        world = events(new_errors)
        api = dd.DatadogApi(traffic=traffic(new_errors))
        if broken.get("sentry"):
            world.broken[""] = sn.says(500)
        if broken.get("datadog"):
            api.faults = [dd.fault("forbidden")] * 50
        clients: dict[type, object] = {
            DatadogClient: await enter(dd.datadog(api, NOW, environment="prod")),
            SentryClient: await enter(sn.sentry(world)),
        }
        prometheus = (
            prom.failing("overloaded")
            if broken.get("prometheus")
            else prom.prometheus(pods(new_errors))
        )
        yield {PrometheusClient: await enter(prometheus), **clients}


async def test_every_source_gives_its_series_with_its_own_windows() -> None:
    async with sources() as clients:
        found, missing = await asked(clients)
    assert missing == ()
    assert {s.source for s in found.series} == {"prometheus", "datadog", "sentry"}
    arms = {(s.source, s.arm) for s in found.series}
    assert {("prometheus", Arm.NEW), ("datadog", Arm.NEW), ("datadog", Arm.CONTROL)} <= arms
    own = {s.source: s.windows for s in found.series}
    assert all(windows is not None for windows in own.values())
    starts = {source: w.after.start for source, w in own.items() if w is not None}
    assert starts["sentry"] >= DEPLOYED + timedelta(minutes=3)
    assert starts["prometheus"] == DEPLOYED
    first = next(s.windows for s in found.series if s.source == "prometheus")
    assert found.windows == first, "the windows that are shown are the first source's"


async def test_the_release_is_found_under_its_usual_name_with_its_issues() -> None:
    async with sources() as clients:
        found, _ = await asked(clients)
        gaps = Gaps(20)
        brought = await issues(gaps, Found(clients), changed(), "checkout", DEPLOYED)
    queries = [q for s in found.series if s.source == "sentry" for q in s.queries]
    assert any("checkout%402.0.0" in q for q in queries)
    assert brought is not None and brought.release == "checkout@2.0.0"
    assert brought.serious == 2 and gaps.missing == ()


async def test_sources_that_agree_are_one_piece_of_evidence() -> None:
    def judged(found: RequestEvidence) -> Any:
        context = DiagnosticContext(
            target=TARGET,
            collected_at=NOW,
            change=changed(),
            windows=found.windows,
            requests=found.series,
        )
        return decide(context, Policy(), NOW)

    async with sources() as clients:
        alone = judged((await asked({PrometheusClient: clients[PrometheusClient]}))[0])
        together = judged((await asked(clients))[0])
    assert together.action is alone.action is Action.ROLL_BACK
    assert len([f for f in together.findings if f.group == "errors" and f.counted]) == 1


async def test_a_healthy_deployment_is_healthy_in_every_source() -> None:
    async with sources(new_errors=0.0) as clients:
        found, _ = await asked(clients)
    context = DiagnosticContext(
        target=TARGET, collected_at=NOW, change=changed(), windows=found.windows,
        requests=tuple(s for s in found.series if s.source != "datadog"),
    )  # fmt: skip
    assert decide(context, Policy(), NOW).action is Action.NONE


async def test_a_broken_source_is_not_needed_while_another_counts_the_requests() -> None:
    async with sources(sentry=True, datadog=True) as clients:
        found, missing = await asked(clients)
    assert {(m.source, m.needed) for m in missing} == {("sentry", False), ("datadog", False)}
    assert {s.source for s in found.series} == {"prometheus"}


async def test_with_every_source_broken_nothing_may_be_done_alone() -> None:
    async with sources(sentry=True, datadog=True, prometheus=True) as clients:
        found, missing = await asked(clients)
    assert found.series == () and all(m.needed for m in missing) and len(missing) == 3


async def test_a_deployment_that_is_too_young_is_said_for_each_source() -> None:
    async with sources() as clients:
        gaps = Gaps(20)
        question = Question(TARGET, "checkout")
        just_now = NOW - timedelta(seconds=20)
        await request_evidence(gaps, Found(clients), question, changed(), just_now)
    assert {m.source for m in gaps.missing} == {"prometheus", "datadog", "sentry"}
    assert all(m.why.startswith("TOO_EARLY") and not m.needed for m in gaps.missing)


async def test_no_source_at_all_is_said() -> None:
    found, missing = await asked({})
    assert found.series == () and missing[0].why.startswith("NOT_CONFIGURED")


async def test_without_a_version_no_issue_is_looked_for() -> None:
    async with sources() as clients:
        gaps = Gaps(20)
        assert await issues(gaps, Found(clients), None, "checkout", DEPLOYED) is None
        unknown = changed().model_copy(
            update={
                "revision": changed().revision.model_copy(update={"images": ("shop/checkout:9",)})
            }
        )
        assert await issues(gaps, Found(clients), unknown, "checkout", DEPLOYED) is None
    assert gaps.missing == ()


def waiting_to_begin() -> set[str]:
    """Names of what was asked for in this very moment and has not begun."""
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    return {
        c.__qualname__
        for c in coroutines
        if inspect.iscoroutine(c) and inspect.getcoroutinestate(c) == inspect.CORO_CREATED
    }


async def test_what_is_cancelled_before_a_question_begins_leaves_nothing_behind() -> None:
    async with sources() as clients:
        task = asyncio.create_task(asked(clients))
        while not any("attempt" in n or "_from_prometheus" in n for n in waiting_to_begin()):
            assert not task.done()
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    gc.collect()  # what was never awaited would be told here, and warnings are errors
    assert task.cancelled()
