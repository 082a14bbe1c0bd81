"""Several requests at once, each with its own fate."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Sequence
from typing import TypeVar

import anyio

from mcp_devops.errors import DevOpsError, PermissionDenied
from mcp_devops.model.evidence import Missing

T = TypeVar("T")


async def together(asks: Sequence[Awaitable[T]], *, limit: int = 20) -> list[T | DevOpsError]:
    """Await all, at most `limit` at a time.

    Returns:
        In the order given: the result, or the anticipated failure it raised. Any other exception
        is a bug and ends all of them.
    """
    results: list[T | DevOpsError | None] = [None] * len(asks)
    gate = anyio.CapacityLimiter(limit)

    async def run(index: int, ask: Awaitable[T]) -> None:
        async with gate:
            try:
                results[index] = await ask
            except DevOpsError as failure:
                results[index] = failure

    try:
        async with anyio.create_task_group() as group:
            for index, ask in enumerate(asks):
                group.start_soon(run, index, ask)
    finally:
        # What was cancelled before its turn never began; nothing else minds being closed now.
        for ask in asks:
            if inspect.iscoroutine(ask):
                ask.close()
    return [r for r in results if r is not None]


def missing(what: str, failure: DevOpsError) -> Missing:
    """A part of an answer that could not be had, with the grant where that is what it lacks."""
    grants = failure.details.get("grants") if isinstance(failure, PermissionDenied) else None
    grant = f" Grant: {grants[0]}" if grants else ""
    return Missing(source="kubernetes", what=what, why=f"{failure.code}: {failure.what}{grant}")
