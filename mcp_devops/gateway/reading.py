"""Resources, prompts and completions: they pass the door like calls, and are redacted like them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcp_devops.errors import DevOpsError, InvalidArguments, NotFound
from mcp_devops.gateway.door import Gateway
from mcp_devops.gateway.reply import DETAILED_CHARS
from mcp_devops.journal.entry import EntryKind
from mcp_devops.toolkit.context import Caller
from mcp_devops.toolkit.prompt import PromptSpec
from mcp_devops.toolkit.resource import ResourceItem, ResourceSpec

log = logging.getLogger(__name__)

COMPLETION_LIMIT = 100
"""Values a completion may carry, by the protocol."""
LISTING_DEADLINE_S = 10.0
"""Seconds one family may take to say what exists."""
COMPLETION_DEADLINE_S = 3.0
"""A person is typing: later than that the suggestion is of no use."""


@dataclass(frozen=True)
class ResourceText:
    """What a resource says now."""

    mime_type: str
    text: str


def find_resource(gateway: Gateway, uri: str) -> tuple[ResourceSpec, dict[str, str]]:
    """The declaration that an address belongs to, and its parameters.

    Raises:
        NotFound: No resource has such an address.
    """
    for spec in gateway.catalog.resources:
        parameters = spec.match(uri)
        if parameters is not None:
            return spec, parameters
    raise NotFound(
        f"There is no resource {uri!r}.",
        fix="Known addresses: " + ", ".join(r.uri for r in gateway.catalog.resources),
    )


async def list_resources(gateway: Gateway) -> list[tuple[ResourceSpec, ResourceItem]]:
    """Every concrete resource that exists now, families expanded, all families at once.

    A family whose system does not answer is left out, and logged: the others are still there.
    """
    families = [_listed(gateway, spec) for spec in gateway.catalog.resources]
    return [
        (spec, item)
        for spec, items in zip(
            gateway.catalog.resources, await asyncio.gather(*families), strict=True
        )
        for item in items
    ]


async def _listed(gateway: Gateway, spec: ResourceSpec) -> Sequence[ResourceItem]:
    if not spec.is_template:
        return [ResourceItem(spec.uri, spec.name, spec.description)]
    if spec.list is None:
        return []
    try:
        async with asyncio.timeout(LISTING_DEADLINE_S):
            return await spec.list(gateway.services)
    except (DevOpsError, TimeoutError) as problem:
        log.warning("the %s resources cannot be listed: %s", spec.name, problem)
        return []


async def read_resource(gateway: Gateway, uri: str, caller: Caller) -> ResourceText:
    """Read one resource, redacted and within the budget of a detailed answer.

    Raises:
        NotFound: The address, or what it names, does not exist.
        UpstreamTimeout: It took longer than a read may.
    """
    spec, parameters = find_resource(gateway, uri)
    async with asyncio.timeout(gateway.settings.read_deadline_s):
        text = gateway.redactor.text(await spec.read(gateway.services, parameters))
    await gateway.journal.append(
        EntryKind.NOTE, actor=str(caller), subject=f"read {uri}", body={"what": "read"}
    )
    if len(text) > DETAILED_CHARS:
        dropped = len(text) - DETAILED_CHARS
        text = f"[{dropped} earlier characters left out]\n{text[-DETAILED_CHARS:]}"
    return ResourceText(spec.mime_type, text)


async def render_prompt(
    gateway: Gateway, name: str, arguments: Mapping[str, str], caller: Caller
) -> tuple[PromptSpec, str]:
    """The text of a prompt for these arguments.

    Raises:
        NotFound: There is no such prompt.
        InvalidArguments: A required argument is missing, or one is unknown.
    """
    spec = next((p for p in gateway.catalog.prompts if p.name == name), None)
    if spec is None:
        raise NotFound(
            f"There is no prompt {name!r}.",
            fix="Known: " + ", ".join(p.name for p in gateway.catalog.prompts),
        )
    known = {a.name for a in spec.arguments}
    missing = [a.name for a in spec.arguments if a.required and not arguments.get(a.name)]
    unknown = sorted(set(arguments) - known)
    if missing or unknown:
        wrong = [f"missing {m}" for m in missing] + [f"unknown {u}" for u in unknown]
        raise InvalidArguments(
            f"Prompt {name}: {', '.join(wrong)}.",
            fix=f"Accepted: {', '.join(a.name for a in spec.arguments)}.",
        )
    async with asyncio.timeout(gateway.settings.read_deadline_s):
        text = gateway.redactor.text(await spec.render(gateway.services, arguments))
    await gateway.journal.append(
        EntryKind.NOTE, actor=str(caller), subject=f"prompt {name}", body={"what": "read"}
    )
    return spec, text


async def complete_prompt(
    gateway: Gateway, name: str, argument: str, prefix: str, others: Mapping[str, str]
) -> Sequence[str]:
    """Values for a prompt's argument that start with what was typed; none on any doubt."""
    spec = next((p for p in gateway.catalog.prompts if p.name == name), None)
    if spec is None or spec.complete is None:
        return ()
    async with asyncio.timeout(COMPLETION_DEADLINE_S):
        return await spec.complete(gateway.services, argument, prefix, others)


async def complete_resource(
    gateway: Gateway, uri: str, argument: str, prefix: str
) -> Sequence[str]:
    """Values for a parameter of a resource family."""
    spec = next((r for r in gateway.catalog.resources if r.uri == uri), None)
    if spec is None or spec.complete is None:
        return ()
    async with asyncio.timeout(COMPLETION_DEADLINE_S):
        return await spec.complete(gateway.services, argument, prefix)
