"""How an investigation asks its sources: one deadline, gaps told, versions found."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from mcp_devops.errors import (
    DevOpsError,
    NoData,
    NotConfigured,
    NotFound,
    UpstreamUnavailable,
)
from mcp_devops.incidents.gaps import Gaps
from mcp_devops.incidents.surroundings import image_pair
from mcp_devops.incidents.versions import versions
from mcp_devops.model.change import Change, ChangeArea, Revision, TemplateDifference
from mcp_devops.model.target import Workload
from mcp_devops.toolkit.asked import Asked, AskedObserver


def changed(
    *differences: tuple[str, str | None, str | None],
    old: tuple[str, ...] = ("shop/web:1",),
    new: tuple[str, ...] = ("shop/web:1",),
) -> Change:
    made = datetime(2026, 3, 1, tzinfo=UTC)
    before = Revision(number=1, name="a", template_hash="a", created_at=made, images=old)
    return Change(
        workload=Workload(namespace="shop", name="web"),
        uid="u",
        started_at=made,
        revision=before.model_copy(update={"number": 2, "name": "b", "images": new}),
        previous=before,
        differences=tuple(
            TemplateDifference(area=ChangeArea.ENVIRONMENT, path=p, before=b, after=a)
            for p, b, a in differences
        ),
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (changed(("containers[web].env[SENTRY_RELEASE]", "web@1", "web@2"),
                 ("containers[web].env[VERSION]", "1", "2")), ("web@2", "web@1")),
        (changed(("metadata.labels[app.kubernetes.io/version]", "1.0", "1.1")), ("1.1", "1.0")),
        (changed(old=("shop/web:1.0",), new=("shop/web:1.1",)), ("1.1", "1.0")),
        (changed(old=("r.example:5000/web:1@sha256:0", "b:1"), new=("r.example:5000/web:2", "b:1")),
         ("2", "1")),
        (changed(old=("shop/web",), new=("shop/web@sha256:abc",)), (None, None)),
        (changed(old=("shop/web:1",), new=("shop/web:1",)), (None, None)),
        (changed(("containers[web].env[VERSION]", "1", "2} or {x"), old=("a:3",), new=("a:4",)),
         ("4", "3")),
        (None, (None, None)),
    ],
)  # fmt: skip
def test_versions_come_from_variables_labels_or_tags(
    change: Change | None, expected: tuple[str | None, str | None]
) -> None:
    assert tuple(versions(change)) == expected


def test_the_image_pair_is_the_first_that_was_replaced() -> None:
    assert image_pair(changed(old=("a:1", "b:1"), new=("a:1", "b:2"))) == ("b:1", "b:2")
    assert image_pair(changed()) is None and image_pair(None) is None


async def hang() -> int:
    await asyncio.Event().wait()
    return 1


async def fail(problem: DevOpsError) -> int:
    raise problem


async def test_sources_that_never_answer_share_one_deadline() -> None:
    gaps = Gaps(0.05)
    found = await asyncio.gather(*(gaps.attempt(f"s{n}", "facts", hang()) for n in range(5)))
    assert found == [None] * 5
    assert [m.source for m in gaps.missing] == ["s0", "s1", "s2", "s3", "s4"]
    assert {m.why for m in gaps.missing} == {"UPSTREAM_TIMEOUT: no answer within 0.05 s"}
    # The deadline is over for all: what begins later gets no second one.
    assert await gaps.attempt("late", "facts", hang()) is None


async def test_only_a_source_that_broke_is_needed() -> None:
    gaps = Gaps(1)
    down = UpstreamUnavailable("It is down.", fix="Wait.", source="x")
    await gaps.attempt("broke", "facts", fail(down), needed=True)
    await gaps.attempt("empty", "facts", fail(NoData("None.", fix="Wait.")), needed=True)
    assert [(m.source, m.needed) for m in gaps.missing] == [("broke", True), ("empty", False)]
    assert gaps.missing[0].why == "UPSTREAM_UNAVAILABLE: It is down."


async def test_each_question_to_a_source_is_told_with_what_became_of_it() -> None:
    told: list[Asked] = []
    gaps = Gaps(0.2, AskedObserver(told.append))

    async def answer() -> int:
        return 1

    down = UpstreamUnavailable("It is down.", fix="Wait.", source="x")
    for source, work in (
        ("answers", answer()),
        ("down", fail(down)),
        ("empty", fail(NoData("None.", fix="Wait."))),
        ("off", fail(NotConfigured("Off.", fix="Set it."))),
        ("hangs", hang()),
    ):
        await gaps.attempt(source, "facts", work)
    task = asyncio.create_task(Gaps(9, AskedObserver(told.append)).attempt("x", "y", hang()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [(one.system, one.outcome) for one in told] == [
        ("answers", "ok"),
        ("down", "UPSTREAM_UNAVAILABLE"),
        ("empty", "ok"),
        ("hangs", "UPSTREAM_TIMEOUT"),
    ]
    assert all(one.seconds >= 0 for one in told)


async def test_a_gap_does_not_swallow_what_is_not_ours() -> None:
    async def broken() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Gaps(1).attempt("x", "facts", broken())
    assert await Gaps(1).attempt("x", "y", fail(NotFound("Gone.", fix="Look."))) is None
