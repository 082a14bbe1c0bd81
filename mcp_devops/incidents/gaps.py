"""Awaits sources under one common deadline, and writes down what could not be had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from mcp_devops.errors import (
    DevOpsError,
    NoData,
    NotConfigured,
    NotFound,
    UpstreamTimeout,
)
from mcp_devops.model.evidence import Missing
from mcp_devops.toolkit.asked import Asked, AskedObserver

T = TypeVar("T")
WAITING = 0.95
"""Part of the deadline for which sources are waited for; the rest is for writing down what came, so
that the whole investigation keeps the deadline."""


class Gaps:
    """What is missing in one investigation.

    All sources share one deadline that begins with the investigation, so that two dead sources
    cost no more time than one.
    """

    def __init__(self, deadline_s: float, observer: AskedObserver | None = None) -> None:
        self.deadline_s = deadline_s
        self._observer = observer
        self._until = asyncio.get_running_loop().time() + WAITING * deadline_s
        self._missing: list[Missing] = []

    @property
    def missing(self) -> tuple[Missing, ...]:
        """All gaps, in an order that does not depend on who answered first."""
        return tuple(sorted(self._missing, key=lambda m: (not m.needed, m.source, m.what, m.why)))

    @asynccontextmanager
    async def asking(self, source: str) -> AsyncIterator[None]:
        """The common deadline, for work that tells its failures itself; how long it took is told.

        Raises:
            TimeoutError: The deadline came first.
        """
        clock = asyncio.get_running_loop().time
        begun, outcome = clock(), None
        try:
            async with asyncio.timeout_at(self._until):
                yield
            outcome = "ok"
        except TimeoutError:
            outcome = UpstreamTimeout.code
            raise
        except (NoData, NotFound):
            outcome = "ok"
            raise
        except DevOpsError as problem:
            outcome = None if isinstance(problem, NotConfigured) else problem.code
            raise
        finally:
            # What was cancelled, or never asked, tells nothing of the system.
            if self._observer is not None and outcome is not None:
                self._observer.observe(Asked(source, outcome, clock() - begun))

    def late(self) -> str:
        """Why a source that met the deadline is missing."""
        return f"UPSTREAM_TIMEOUT: no answer within {self.deadline_s:g} s"

    def note(self, source: str, what: str, why: str, *, needed: bool = False) -> None:
        """Write one gap down."""
        self._missing.append(Missing(source=source, what=what, why=why, needed=needed))

    def add(self, found: list[Missing]) -> None:
        """Gaps that a source told itself."""
        self._missing += found

    async def attempt(
        self, source: str, what: str, work: Awaitable[T], *, needed: bool = False
    ) -> T | None:
        """Await one source; its failure is a line of missing evidence, not a failed run.

        A source that answered and has nothing, or was not set up for this, is a gap as well, but
        never a needed one.
        """
        try:
            async with self.asking(source):
                return await work
        except TimeoutError:
            self.note(source, what, self.late(), needed=needed)
        except (NoData, NotConfigured) as nothing:
            self.note(source, what, f"{nothing.code}: {nothing.what}")
        except DevOpsError as problem:
            self.note(source, what, f"{problem.code}: {problem.what}", needed=needed)
        return None

    async def listed(self, what: str, work: Awaitable[tuple[list[T], list[Missing]]]) -> list[T]:
        """Await a source of the cluster that tells its own gaps beside what it found."""
        found = await self.attempt("kubernetes", what, work)
        if found is None:
            return []
        self.add(found[1])
        return found[0]
