"""Tells subscribers that a resource has changed: both eras' streams, one watcher an address."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp import types as t
from mcp.server import ServerRequestContext
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)

from mcp_devops.errors import DevOpsError
from mcp_devops.gateway.door import Gateway
from mcp_devops.gateway.reading import find_resource
from mcp_devops.incidents.store import IncidentStore

log = logging.getLogger(__name__)

MAX_STREAMS = 256
"""Open listen streams a process serves; each client holds one or two."""
RETRY_S = 5.0
"""Pause before a broken watch is opened again."""


class Updates:
    """Fan-out of change events, and the upstream watches that feed it.

    A watch runs only while somebody is subscribed to its address.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._bus = InMemorySubscriptionBus()
        self._listen = ListenHandler(self._bus, max_subscriptions=MAX_STREAMS)
        self._legacy: dict[str, set[Any]] = {}
        self._wanted: Counter[str] = Counter()
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._telling: set[asyncio.Future[None]] = set()

    async def changed(self, uri: str) -> None:
        """Tell every subscriber of this address."""
        await self._bus.publish(ResourceUpdated(uri=uri))
        for connection in list(self._legacy.get(uri, ())):
            await connection.send_resource_updated(uri)

    async def list_changed(self) -> None:
        """Tell that resources came or went."""
        await self._bus.publish(ResourcesListChanged())
        for connection in {c for group in self._legacy.values() for c in group}:
            await connection.send_resource_list_changed()

    async def tools_changed(self) -> None:
        """Tell that the tool list is another one."""
        await self._bus.publish(ToolsListChanged())

    async def on_listen(
        self, context: ServerRequestContext[Any, Any], params: t.SubscriptionsListenRequestParams
    ) -> t.SubscriptionsListenResult:
        """Serve one 2026-07-28 stream; its watches live as long as it does."""
        uris = list(params.notifications.resource_subscriptions or ())
        for uri in uris:
            self._want(uri)
        try:
            return await self._listen(context, params)
        finally:
            for uri in uris:
                self._release(uri)

    async def on_subscribe(
        self, context: ServerRequestContext[Any, Any], params: t.SubscribeRequestParams
    ) -> t.EmptyResult:
        """Add an older client's subscription, until it unsubscribes or goes."""
        # The session object is new with each request; the connection behind it is what lasts.
        connection = context.session._connection
        uri = params.uri
        if connection not in self._legacy.setdefault(uri, set()):
            self._legacy[uri].add(connection)
            self._want(uri)
            connection.exit_stack.callback(self._forget, uri, connection)
        return t.EmptyResult()

    async def on_unsubscribe(
        self, context: ServerRequestContext[Any, Any], params: t.UnsubscribeRequestParams
    ) -> t.EmptyResult:
        """Drop an older client's subscription."""
        self._forget(params.uri, context.session._connection)
        return t.EmptyResult()

    def _forget(self, uri: str, connection: Any) -> None:
        group = self._legacy.get(uri, set())
        if connection in group:
            group.discard(connection)
            self._release(uri)

    def _want(self, uri: str) -> None:
        self._wanted[uri] += 1
        if self._wanted[uri] == 1:
            self._watchers[uri] = asyncio.create_task(self._watch(uri), name=f"watch {uri}")

    def _release(self, uri: str) -> None:
        self._wanted[uri] -= 1
        if self._wanted[uri] <= 0:
            del self._wanted[uri]
            task = self._watchers.pop(uri, None)
            if task is not None:
                task.cancel()

    async def _watch(self, uri: str) -> None:
        try:
            spec, parameters = find_resource(self._gateway, uri)
        except DevOpsError:
            return  # a subscription to what does not exist is honoured and never fires
        if spec.watch is None:
            return
        while True:
            try:
                async for _ in spec.watch(self._gateway.services, parameters):
                    await self.changed(uri)
            except DevOpsError as problem:
                log.warning("watch of %s broke: %s", uri, problem)
            await asyncio.sleep(RETRY_S)

    def _opened(self) -> None:
        task = asyncio.ensure_future(self.list_changed())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def close_streams(self) -> None:
        """Let every open stream end with its final frame."""
        self._listen.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tell of incidents that open; stop all watches at the end."""
        store = await self._gateway.services.get(IncidentStore)
        store.on_opened.append(self._opened)
        try:
            yield
        finally:
            store.on_opened.remove(self._opened)
            self.close_streams()
            tasks = [*self._watchers.values(), *self._telling]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
