"""One outside system: its settings, its client, its tools. Found because its folder exists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mcp_devops.model.record import Record
from mcp_devops.settings import IntegrationSettings
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.prompt import PromptSpec
from mcp_devops.toolkit.resource import ResourceSpec
from mcp_devops.toolkit.risk import Rbac
from mcp_devops.toolkit.spec import AnyTool

S = TypeVar("S", bound=IntegrationSettings)
C = TypeVar("C")


class Scope(Record):
    """Where permissions are asked for; a tool's arguments with the same fields serve as well."""

    context: str | None = None
    """Kubeconfig context; null: the current one."""
    namespace: str | None = None
    """Namespace; null: the context's default."""


@dataclass(frozen=True)
class Denied:
    """One permission that the caller's identity does not have."""

    need: Rbac
    """What is missing."""
    scope: str
    """Namespace, or "cluster"."""
    identity: str
    """Who was asked for, where the system says it."""
    grant: str
    """Command that grants it."""


@dataclass(frozen=True)
class Health:
    """What a look at an integration found."""

    ok: bool
    says: str
    fix: str = ""


@dataclass(frozen=True)
class Integration(Generic[S, C]):
    """What an integration folder exports as INTEGRATION.

    Attributes:
        name: The folder's name, and the first word of its tools.
        settings: Its settings class.
        client: Type under which other rooms find its client.
        connect: Makes a client; cheap, no network and no heavy import.
        close: Ends it.
        tools: Its tools.
        why_off: Says why it is not configured, or None where it is.
        ping: Looks whether the system answers; for `doctor`.
        check_access: Which needed permissions are missing for these arguments.
        secrets: The configured credentials, to be masked wherever they appear.
        resources: What MCP clients may read and subscribe to.
        prompts: What MCP clients may offer their user.
    """

    name: str
    settings: type[S]
    client: type[C]
    connect: Callable[[S, Clock], C]
    close: Callable[[C], Awaitable[None]]
    tools: tuple[AnyTool, ...]
    why_off: Callable[[S], str | None] = lambda _: None
    ping: Callable[[C], Awaitable[Health]] | None = None
    check_access: Callable[[C, Record, Sequence[Rbac]], Awaitable[Sequence[Denied]]] | None = None
    secrets: Callable[[S], Sequence[str]] = lambda _: ()
    resources: tuple[ResourceSpec, ...] = ()
    prompts: tuple[PromptSpec, ...] = ()


AnyIntegration = Integration[Any, Any]
