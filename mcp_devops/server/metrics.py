"""The server's own numbers in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mcp_devops import __version__
from mcp_devops.gateway.door import CallRecord, Gateway

LATENCY_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
"""Seconds: from a warm read to a rollback verified until its deadline."""


class Metrics:
    """Counts what passes the door."""

    def __init__(self, gateway: Gateway) -> None:
        self._registry = CollectorRegistry()
        self._calls = Counter(
            "mcp_devops_calls",
            "Tool calls by outcome (ok, asked, cancelled, or an error code).",
            ["tool", "outcome"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "mcp_devops_call_duration_seconds",
            "Duration of tool calls.",
            ["tool"],
            buckets=LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._waiting = Gauge(
            "mcp_devops_approvals_waiting",
            "Approvals that wait for a person.",
            registry=self._registry,
        )
        Gauge(
            "mcp_devops_info", "Version of the server.", ["version"], registry=self._registry
        ).labels(__version__).set(1)
        self._gateway = gateway
        gateway.observers.append(self.observe)

    def observe(self, call: CallRecord) -> None:
        """Count one finished call."""
        self._calls.labels(call.tool, call.outcome).inc()
        self._seconds.labels(call.tool).observe(call.seconds)

    async def render(self) -> bytes:
        """The current numbers."""
        self._waiting.set(len(await self._gateway.consent.desk.waiting()))
        return generate_latest(self._registry)
