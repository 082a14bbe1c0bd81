"""Which engine answers, and the API version that both sides speak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcp_devops.errors import Unsupported, UpstreamUnavailable
from mcp_devops.integrations.docker.hosts import SOURCE

NEWEST_API = (1, 51)
"""Newest API version whose answers are known to be the ones read here."""
OLDEST_API = (1, 24)
"""Oldest one: Docker 1.12 of 2016, the last that current clients speak."""


@dataclass(frozen=True)
class EngineVersion:
    """Which engine answers, and which version of its API is spoken with it."""

    engine: str
    """Version of the engine."""
    api: str
    """Version that requests use."""
    name: str = "Docker"
    """Docker or Podman."""


def agreed(told: Any) -> EngineVersion:
    """The newest API version that both sides know.

    Args:
        told: The engine's answer to /version.

    Raises:
        UpstreamUnavailable: It is no engine's answer.
        Unsupported: The engine is older than this client.
    """
    newest = _numbers(told.get("ApiVersion")) if isinstance(told, dict) else None
    if newest is None:
        raise UpstreamUnavailable(
            "What answers is not a container engine: it names no API version.",
            fix="Check MCP_DEVOPS_DOCKER__HOST.",
            source=SOURCE,
        )
    oldest = _numbers(told.get("MinAPIVersion")) or newest
    if newest < OLDEST_API:
        raise Unsupported(
            f"The engine speaks API {newest[0]}.{newest[1]}; the oldest known here is"
            f" {OLDEST_API[0]}.{OLDEST_API[1]}.",
            fix="Update the engine.",
            source=SOURCE,
        )
    spoken = max(min(newest, NEWEST_API), oldest)
    parts = [str(c.get("Name", "")) for c in told.get("Components") or () if isinstance(c, dict)]
    name = "Podman" if any("podman" in p.lower() for p in parts) else "Docker"
    return EngineVersion(str(told.get("Version", "unknown")), f"{spoken[0]}.{spoken[1]}", name)


def _numbers(version: Any) -> tuple[int, int] | None:
    major, dot, minor = str(version).partition(".")
    if dot and major.isdecimal() and minor.isdecimal():
        return int(major), int(minor)
    return None
