"""Looks after the server itself: tells people when its policy is refused or its breaker opens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.pagerduty.records import PageSeverity
from mcp_devops.journal.database import Database
from mcp_devops.responder.switches import breaker_of
from mcp_devops.responder.telling.notices import Notice
from mcp_devops.responder.telling.people import People
from mcp_devops.response_policy.file import PolicyFile, PolicyProblem
from mcp_devops.response_policy.limits import Breaker
from mcp_devops.toolkit.retrying import Pause

log = logging.getLogger(__name__)
LOOK_S = 5.0
"""Seconds between two looks; each is one `stat` and one row."""
POLICY, BREAKER = "policy", "breaker"


class Lookout:
    """Tells once what stands, and once that it is over."""

    def __init__(
        self,
        people: People,
        policy: PolicyFile,
        database: Database,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._people = people
        self._policy = policy
        self._database = database
        self._pause = pause
        self._known: str | None = None
        """The refused version that this process has told of; empty: none; None: not looked yet."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look for as long as the block runs."""
        task = asyncio.create_task(self._keep_looking())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def look(self) -> None:
        """Look once.

        Raises:
            DevOpsError: The state cannot be read or written; the next look tells it.
        """
        told = self._policy.current.document.defaults.page
        problem = self._policy.problem
        what = _which(problem) if problem is not None else ""
        # Another replica may see the file a little later: only what changed here is told.
        if what != self._known:
            if problem is not None:
                await self._people.notice(POLICY, _refused(problem), told)
            else:
                version = self._policy.current.version
                says = f"The response policy is valid again: version {version} is in force."
                await self._people.notice_over(POLICY, says, told)
            self._known = what
        breaker = await breaker_of(self._database)
        if breaker.is_open:
            severity = PageSeverity(told.severity.value)
            await self._people.notice(BREAKER, _opened(breaker, severity), told)
        else:
            says = "The storm breaker is closed: the server may act alone again, within its limits."
            await self._people.notice_over(BREAKER, says, told)

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self.look()
            except DevOpsError as problem:
                log.warning("policy and breaker cannot be looked after: %s", problem)
            except Exception:  # the boundary: nobody would see it end
                log.exception("policy and breaker cannot be looked after")
            await self._pause(LOOK_S)


def _which(problem: PolicyProblem) -> str:
    return problem.version or problem.says[0]


def _refused(problem: PolicyProblem) -> Notice:
    return Notice(
        what=_which(problem),
        title=f"A new version of the response policy is refused; {problem.in_force} stays in force",
        do_next=f"mcp-devops policy check {problem.file}",
        lines=problem.says,
    )


def _opened(breaker: Breaker, severity: PageSeverity) -> Notice:
    since = f" since {breaker.at:%Y-%m-%d %H:%M} UTC" if breaker.at else ""
    return Notice(
        what=breaker.at.isoformat() if breaker.at else "open",
        title=f"The storm breaker is open{since}: nothing is rolled back without a person",
        do_next="Find out what the rollbacks have in common, then: mcp-devops unfreeze --breaker",
        lines=(breaker.reason,) if breaker.reason else (),
        severity=severity,
    )
