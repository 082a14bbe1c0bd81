"""Surroundings are read once for all who ask in the same seconds."""

from __future__ import annotations

import asyncio

import pytest

from mcp_devops.errors import UpstreamUnavailable
from mcp_devops.integrations.kubernetes.sharing import Shared
from tests.support.waiting import until


class Source:
    """Counts its readings; each waits until it may end."""

    def __init__(self, *fails: Exception) -> None:
        self.readings = 0
        self.may_end = asyncio.Event()
        self.fails = list(fails)

    async def read(self) -> int:
        self.readings += 1
        mine = self.readings
        await self.may_end.wait()
        if self.fails:
            raise self.fails.pop(0)
        return mine


async def test_many_who_ask_at_once_share_one_reading() -> None:
    shared, source = Shared(), Source()
    asking = [asyncio.create_task(shared.get("events", source.read)) for _ in range(5)]
    source.may_end.set()
    assert await asyncio.gather(*asking) == [1] * 5
    assert await shared.get("events", source.read) == 1
    assert await shared.get("pods", source.read) == 2, "another key is another reading"


async def test_who_is_cancelled_or_fails_leaves_it_to_the_next() -> None:
    shared, source = Shared(), Source(UpstreamUnavailable("Away.", fix="Wait."))
    first, second, third = (
        asyncio.create_task(shared.get("events", source.read)) for _ in range(3)
    )

    async def reads() -> bool:
        return source.readings == 1

    await until(reads)
    first.cancel()
    source.may_end.set()
    with pytest.raises(UpstreamUnavailable):
        await second
    assert await third == 3
    assert first.cancelled()


async def test_a_reading_is_let_go_when_it_is_no_longer_fresh() -> None:
    shared, source = Shared(fresh_s=0.01), Source()
    source.may_end.set()
    assert await shared.get("events", source.read) == 1

    async def gone() -> bool:
        return not shared._readings

    await until(gone)
    assert await shared.get("events", source.read) == 2
