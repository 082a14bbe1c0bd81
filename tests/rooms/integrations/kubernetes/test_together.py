"""Several requests at once, some of which never get their turn."""

from __future__ import annotations

import asyncio
import gc

from mcp_devops.errors import NotFound
from mcp_devops.integrations.kubernetes.together import together


async def test_each_has_its_own_fate_in_the_order_given() -> None:
    gone = NotFound("Gone.", fix="Look.")

    async def one(answer: int | NotFound) -> int:
        if isinstance(answer, NotFound):
            raise answer
        return answer

    assert await together([one(1), one(gone), one(3)], limit=1) == [1, gone, 3]


async def test_what_is_cancelled_before_its_turn_leaves_nothing_behind() -> None:
    began = asyncio.Event()

    async def hang() -> None:
        began.set()
        await asyncio.Event().wait()

    asked = together([hang() for _ in range(5)], limit=1)
    task = asyncio.create_task(asked)
    await began.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    gc.collect()  # what was never awaited would be told here, and warnings are errors
