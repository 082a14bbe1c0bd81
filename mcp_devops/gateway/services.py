"""Finds a client or a store by its type; a client is made on its first use and kept."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from mcp_devops.catalog import Catalog, Member
from mcp_devops.errors import NotConfigured
from mcp_devops.toolkit.clock import Clock

T = TypeVar("T")


class Registry:
    """The services of one running program."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._ready: dict[type, object] = {}
        self._connected: list[tuple[Member, Any]] = []

    def add(self, service: object, kind: type | None = None) -> None:
        """Offer a service under its own type, or under a more general one."""
        self._ready[kind or type(service)] = service

    async def get(self, kind: type[T]) -> T:
        """The one service of that type.

        Raises:
            NotConfigured: Its integration is off, or nothing of that type exists.
        """
        service = await self.find(kind)
        if service is None:
            member = self._member(kind)
            name = member.integration.name if member else kind.__name__
            why = member.why_off if member and member.why_off else "nothing provides it"
            raise NotConfigured(
                f"{name} is not available: {why}.",
                fix="Configure it; `mcp-devops doctor` says how.",
                source=name,
            )
        return service

    async def find(self, kind: type[T]) -> T | None:
        """The service, or None where its integration is off."""
        if kind in self._ready:
            return cast(T, self._ready[kind])
        member = self._member(kind)
        if member is None or member.why_off is not None:
            return None
        client = member.integration.connect(member.settings, self._clock)
        self._ready[kind] = client
        self._connected.append((member, client))
        return cast(T, client)

    def _member(self, kind: type) -> Member | None:
        return next((m for m in self._catalog.members if m.integration.client is kind), None)

    async def close(self) -> None:
        """End every client that was made, newest first."""
        while self._connected:
            member, client = self._connected.pop()
            await member.integration.close(client)
