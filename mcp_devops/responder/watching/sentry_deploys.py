"""Hears of deploys that a pipeline told Sentry: Sentry pushes none, so they are asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.sentry.client import SentryClient
from mcp_devops.integrations.sentry.deploys import Deploy, list_deploys
from mcp_devops.journal.database import Database
from mcp_devops.responder.bookmarks import bookmark_in, set_bookmark_in
from mcp_devops.toolkit.clock import Clock

log = logging.getLogger(__name__)

EVERY_S = 60.0
"""Seconds between two questions; Sentry's own numbers are older than that."""
MOST = 20
"""Deploys that one question is for."""
BOOKMARK = "sentry:deploys"


@asynccontextmanager
async def following_deploys(
    client: SentryClient, database: Database, clock: Clock, rouse: Callable[[str], int]
) -> AsyncIterator[None]:
    """Bring the next look at a service forward when Sentry has a new deploy of it.

    Args:
        client: The organisation's.
        database: Remembers the newest deploy that was told.
        clock: Where nothing was told yet, only deploys from now on count.
        rouse: Wakes the runs of a service; returns how many.
    """

    async def follow() -> None:
        failing = False
        while True:
            try:
                await tell_new_deploys(client, database, clock, rouse)
                failing = False
            except DevOpsError as problem:
                if not failing:
                    log.warning("deploys in Sentry are not heard of: %s", problem)
                failing = True
            await asyncio.sleep(EVERY_S)

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def tell_new_deploys(
    client: SentryClient, database: Database, clock: Clock, rouse: Callable[[str], int]
) -> tuple[Deploy, ...]:
    """Ask once, and wake the services of what is new.

    Returns:
        The new deploys, oldest first.

    Raises:
        DevOpsError: As the client raises; nothing is remembered then.
    """
    known = await database.read(lambda c: bookmark_in(c, BOOKMARK))
    since = datetime.fromisoformat(known) if known else clock.now()
    told = await list_deploys(client, environment=client.settings.environment, most=MOST)
    new = tuple(sorted((d for d in told.found if d.finished_at > since), key=_finished))
    for deploy in new:
        service = service_of(deploy.release)
        woken = rouse(service) if service else 0
        log.info("Sentry has a deploy of %s: %d runs look now", deploy.release, woken)
    newest = max([since, *(d.finished_at for d in new)]).isoformat()
    if newest != known:
        now = clock.now()
        await database.run(lambda c: set_bookmark_in(c, BOOKMARK, newest, now))
    return new


def _finished(deploy: Deploy) -> datetime:
    return deploy.finished_at


def service_of(release: str) -> str | None:
    """The service that a release names by Sentry's convention `package@version`, if it does."""
    package, at, _ = release.rpartition("@")
    return package if at and package else None
