"""Whether a call may happen at all: the writes switch, and the permissions upstream."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from mcp_devops.catalog import Catalog
from mcp_devops.errors import PermissionDenied, WritesDisabled
from mcp_devops.gateway.services import Registry
from mcp_devops.model.record import Record
from mcp_devops.settings import ServerSettings
from mcp_devops.toolkit.integration import Denied
from mcp_devops.toolkit.risk import Rbac, Risk
from mcp_devops.toolkit.spec import AnyTool


def matches(namespace: str, patterns: Sequence[str]) -> bool:
    """Whether a namespace fits one of the patterns."""
    return any(fnmatchcase(namespace, pattern) for pattern in patterns)


def require_writes(spec: AnyTool, settings: ServerSettings, namespace: str | None = None) -> None:
    """Refuse a change that the operator has not switched on.

    Args:
        spec: The tool.
        settings: The server's settings.
        namespace: Where it would act, once that is known.

    Raises:
        WritesDisabled: Writes are off, or off in that namespace.
    """
    if spec.risk is Risk.READ:
        return
    allowed = settings.allow_writes
    if not allowed:
        raise WritesDisabled(
            f"{spec.name} changes the cluster, and this server was started read-only.",
            fix="An operator can start it with `--allow-writes NAMESPACE`.",
        )
    if namespace is not None and not matches(namespace, allowed):
        raise WritesDisabled(
            f"{spec.name} may not act in namespace {namespace!r}, only in: {', '.join(allowed)}.",
            fix=f"An operator can start the server with `--allow-writes {namespace}`.",
        )


async def preflight(
    catalog: Catalog, services: Registry, scope: Record, needs: Sequence[Rbac], what: str
) -> None:
    """Ask upstream for every permission a call needs, all at once, before it starts.

    Optional permissions are not asked for here: a tool that can live without one says in its
    answer what it could not see.

    Raises:
        PermissionDenied: At least one is missing; with the command that grants each.
    """
    required = [n for n in needs if not n.optional]
    if not required:
        return
    denied: list[Denied] = []
    for member in catalog.members:
        check = member.integration.check_access
        if check is None or member.why_off is not None:
            continue
        client = await services.get(member.integration.client)
        denied += await check(client, scope, required)
    if denied:
        missing = "; ".join(f"{d.need} in {d.scope}" for d in denied)
        grants = list(dict.fromkeys(d.grant for d in denied))
        raise PermissionDenied(
            f"{what} needs permissions that {denied[0].identity or 'this identity'} does not have:"
            f" {missing}.",
            fix=f"A cluster admin can grant it: {grants[0]}",
            missing=[str(d.need) for d in denied],
            grants=grants,
        )
