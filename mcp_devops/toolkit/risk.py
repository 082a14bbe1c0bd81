"""What a tool may do to the world, and which permissions it needs for that."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Risk(StrEnum):
    """How much a tool can hurt. Every hint that a client sees is derived from it."""

    READ = "read"
    """Changes nothing outside the journal."""
    CHANGE = "change"
    """Changes something that can be changed back."""
    DESTROY = "destroy"
    """Changes something for good."""

    def hints(self) -> dict[str, bool]:
        """The four MCP annotations, all explicit: an unset hint means the dangerous value."""
        return {
            "readOnlyHint": self is Risk.READ,
            "destructiveHint": self is not Risk.READ,
            "idempotentHint": True,
            "openWorldHint": True,
        }


class Rbac(NamedTuple):
    """One Kubernetes permission: a verb on a resource."""

    verb: str
    """get, list, watch, patch, delete."""
    resource: str
    """Plural, with its subresource: pods, pods/log, deployments."""
    group: str = ""
    """API group; empty is the core group."""
    optional: bool = False
    """Whether the tool still answers without it, and says what is missing."""
    cluster_wide: bool = False
    """Whether the resource has no namespace, as nodes have none."""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}" + (f".{self.group}" if self.group else "")
