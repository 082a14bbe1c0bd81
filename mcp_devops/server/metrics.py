"""The server's own numbers in Prometheus' text format: its calls, and what the state tells."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mcp_devops import __version__
from mcp_devops.errors import (
    CredentialsRejected,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mcp_devops.gateway.door import CallRecord, Gateway
from mcp_devops.journal.database import Database
from mcp_devops.response_policy.file import PolicyFile
from mcp_devops.server.state_metrics import StateMetrics
from mcp_devops.toolkit.asked import Asked, AskedObserver
from mcp_devops.toolkit.risk import Risk

LATENCY_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
"""Seconds: from a warm read to a rollback verified until its deadline."""
UPSTREAM_CODES = frozenset(
    problem.code
    for problem in (
        CredentialsRejected, OutcomeUnknown, PermissionDenied, RateLimited, UpstreamTimeout,
        UpstreamUnavailable,
    )
)  # fmt: skip
"""Codes with which a call fails by the system it asked, not by who asked."""
INCIDENTS = "incident"
"""Its tools ask many systems each, so their time is no system's; their sources are counted."""
HERE = "This process only, since it started."


class Metrics:
    """Counts what passes the door of this process, and reads what all processes wrote down."""

    def __init__(self, gateway: Gateway) -> None:
        self._registry = CollectorRegistry()
        self._calls = Counter(
            "mcp_devops_calls",
            f"Tool calls by outcome (ok, asked, cancelled, or an error code). {HERE}",
            ["tool", "outcome"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "mcp_devops_call_duration_seconds",
            f"Duration of tool calls. {HERE}",
            ["tool"],
            buckets=LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._upstream_seconds = Histogram(
            "mcp_devops_upstream_duration_seconds",
            "Duration of questions to one system: by the tools that ask no other, and by each"
            f" source of an investigation. {HERE}",
            ["system"],
            buckets=LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._upstream_errors = Counter(
            "mcp_devops_upstream_errors",
            f"Questions that failed by the system they were put to, by error code. {HERE}",
            ["system", "code"],
            registry=self._registry,
        )
        Gauge(
            "mcp_devops_info", "Version of the server.", ["version"], registry=self._registry
        ).labels(__version__).set(1)
        self._refused = Gauge(
            "mcp_devops_policy_refused",
            "1: the response policy's file is not valid as it is now, and the last valid version"
            f" stays in force. {HERE}",
            registry=self._registry,
        )
        self._gateway = gateway
        self._systems = {
            spec.name: member.integration.name
            for member in gateway.catalog.members
            for spec in member.integration.tools
            if member.integration.name != INCIDENTS and spec.risk is Risk.READ
        }
        self._state: StateMetrics | None = None
        self._scraped = asyncio.Lock()
        gateway.observers.append(self.observe)
        gateway.services.add(AskedObserver(self._asked))

    def observe(self, call: CallRecord) -> None:
        """Count one finished call."""
        self._calls.labels(call.tool, call.outcome).inc()
        self._seconds.labels(call.tool).observe(call.seconds)
        system = self._systems.get(call.tool)
        if system is None:
            return
        self._asked(Asked(system, call.outcome, call.seconds))

    def _asked(self, asked: Asked) -> None:
        if asked.outcome == "ok" or asked.outcome in UPSTREAM_CODES:
            self._upstream_seconds.labels(asked.system).observe(asked.seconds)
        if asked.outcome in UPSTREAM_CODES:
            self._upstream_errors.labels(asked.system, asked.outcome).inc()

    async def render(self) -> bytes:
        """The current numbers.

        What was written down is read anew after a few seconds; where it cannot be read, its
        numbers are left out and `mcp_devops_state_up` is 0.
        """
        async with self._scraped:
            if self._state is None:
                database = await self._gateway.services.get(Database)
                self._state = StateMetrics(database, self._gateway.clock)
                self._registry.register(self._state)
            await self._state.refresh()
            team = await self._gateway.services.get(PolicyFile)
            self._refused.set(team.problem is not None)
        return generate_latest(self._registry)
