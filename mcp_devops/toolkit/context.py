"""What a running tool is handed: its client, the other services, the clock, the caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from mcp_devops.errors import InternalError
from mcp_devops.model.action import ActionPlan
from mcp_devops.toolkit.clock import Clock

T = TypeVar("T")
C = TypeVar("C")

Progress = Callable[[float, float, str], Awaitable[None]]
"""Reports (done, total, what): `done` must grow from call to call."""


async def no_progress(done: float, total: float, what: str) -> None:
    """Report to nobody."""


class Services(Protocol):
    """Finds a connected client or a store by its type."""

    async def get(self, kind: type[T]) -> T:
        """The one service of that type.

        Raises:
            NotConfigured: Its integration is off.
        """
        ...

    async def find(self, kind: type[T]) -> T | None:
        """The service, or None where its integration is off."""
        ...


@dataclass(frozen=True)
class Caller:
    """Who called, for the journal."""

    identity: str
    """User or token subject; of stdio the operating-system user."""
    channel: str
    """stdio, http, terminal, test."""
    client: str = ""
    """Name and version that the MCP client gave of itself: unverified."""
    proven: bool = False
    """Whether the transport vouches for the identity: a checked token, or the operating system."""

    def __str__(self) -> str:
        via = f"{self.channel}, {self.client}" if self.client else self.channel
        return f"{self.identity} ({via})"


@dataclass(frozen=True)
class ToolContext(Generic[C]):
    """Everything a tool may use."""

    client: C
    services: Services
    clock: Clock
    caller: Caller
    call_id: str
    progress: Progress = no_progress
    approved: ActionPlan | None = None
    approved_by: str = ""
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def plan(self) -> ActionPlan:
        """The approved plan of a change tool.

        Raises:
            InternalError: A tool that declares no plan asked for one.
        """
        if self.approved is None:
            raise InternalError("A tool without a plan asked for one.", fix="Report this bug.")
        return self.approved
