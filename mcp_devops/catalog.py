"""The list of everything a client can be offered: found by folder, filtered by settings."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from mcp_devops import incidents, integrations
from mcp_devops.errors import InvalidArguments, NotFound
from mcp_devops.settings import IntegrationSettings, ServerSettings
from mcp_devops.toolkit.integration import AnyIntegration
from mcp_devops.toolkit.prompt import PromptSpec
from mcp_devops.toolkit.resource import ResourceSpec
from mcp_devops.toolkit.risk import Rbac, Risk
from mcp_devops.toolkit.spec import AnyTool


class DuplicateName(TypeError):
    """Two declarations claim one name; raised when the catalog is made."""


def discover() -> tuple[AnyIntegration, ...]:
    """Every integration, by its folder's name, and the incidents that join them."""
    found = [
        importlib.import_module(f"{integrations.__name__}.{module.name}").INTEGRATION
        for module in pkgutil.iter_modules(integrations.__path__)
        if module.ispkg
    ]
    return (*sorted(found, key=lambda i: str(i.name)), incidents.INTEGRATION)


@dataclass(frozen=True)
class Member:
    """An integration with its settings, and the reason why it is off, if it is."""

    integration: AnyIntegration
    settings: IntegrationSettings
    why_off: str | None


class Catalog:
    """The integrations in force and what they offer."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self.tools: Mapping[str, AnyTool] = dict(self._named_tools())
        live = [m.integration for m in self.members if m.why_off is None]
        self.resources: tuple[ResourceSpec, ...] = tuple(r for i in live for r in i.resources)
        self.prompts: tuple[PromptSpec, ...] = tuple(p for i in live for p in i.prompts)

    def _named_tools(self) -> Iterator[tuple[str, AnyTool]]:
        seen: set[str] = set()
        for member in self.members:
            for spec in member.integration.tools:
                if spec.name in seen:
                    raise DuplicateName(f"two tools are called {spec.name}")
                if spec.system != member.integration.name:
                    raise DuplicateName(
                        f"{spec.name} is declared by {member.integration.name}, not {spec.system}"
                    )
                seen.add(spec.name)
                if member.why_off is None:
                    yield spec.name, spec

    def find(self, name: str) -> AnyTool:
        """The tool of that name.

        Raises:
            NotFound: There is none, or its tool set is off; with the near names.
        """
        if name in self.tools:
            return self.tools[name]
        for member in self.members:
            if member.why_off and name in {t.name for t in member.integration.tools}:
                raise NotFound(
                    f"Tool {name!r} is off: {member.why_off}.", fix="See `mcp-devops doctor`."
                )
        near = get_close_matches(name, self.tools, n=3, cutoff=0.4)
        raise NotFound(
            f"There is no tool {name!r}.",
            fix=f"Near names: {', '.join(near)}." if near else "Call tools/list.",
            near=near,
        )

    def owner(self, spec: AnyTool) -> Member:
        """The integration that a tool belongs to."""
        return next(m for m in self.members if m.integration.name == spec.system)

    def needs(self) -> tuple[Rbac, ...]:
        """Every permission that the tools in force may need, without repeats."""
        return tuple(dict.fromkeys(n for spec in self.tools.values() for n in spec.needs))


def build_catalog(
    settings: ServerSettings, found: Sequence[AnyIntegration] | None = None
) -> Catalog:
    """Make the catalog that these settings ask for.

    Without `allow_writes` no change tool is published: what cannot be called is not offered.

    Raises:
        InvalidArguments: A tool set that does not exist is asked for.
        NotConfigured: An integration's settings are not valid.
        DuplicateName: Two declarations claim one name.
    """
    available = tuple(found) if found is not None else discover()
    names = {i.name for i in available}
    if unknown := set(settings.toolsets) - names:
        raise InvalidArguments(
            f"There is no tool set {', '.join(sorted(unknown))!r}.",
            fix=f"Known: {', '.join(sorted(names))}.",
        )
    return Catalog([_member(i, settings) for i in available])


def _member(integration: AnyIntegration, settings: ServerSettings) -> Member:
    own = integration.settings.load()
    if settings.toolsets and integration.name not in settings.toolsets:
        why: str | None = "its tool set is not among --toolsets"
    else:
        why = integration.why_off(own)
    return Member(integration, own, why)


def published(catalog: Catalog, settings: ServerSettings) -> tuple[AnyTool, ...]:
    """The tools a client is shown: changes only where writes are switched on at all."""
    return tuple(
        spec for spec in catalog.tools.values() if spec.risk is Risk.READ or settings.allow_writes
    )
