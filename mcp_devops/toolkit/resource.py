"""A readable thing with an address: how MCP resources are declared, read and watched."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from mcp_devops.toolkit.context import Services


@dataclass(frozen=True)
class ResourceItem:
    """One concrete resource that exists now."""

    uri: str
    name: str
    description: str = ""


@dataclass(frozen=True)
class ResourceSpec:
    """A resource, or a family of them.

    Attributes:
        uri: Address; `{name}` stands for one path segment, percent-encoded.
        name: Short name.
        description: What a reader finds there.
        mime_type: Type of the text.
        read: Gives the text for the address's parameters.
        list: The concrete addresses that exist now; only for families.
        watch: Yields whenever the resource has changed; None: it moves with the journal.
        complete: Values that a parameter may take, for completions.
    """

    uri: str
    name: str
    description: str
    mime_type: str
    read: Callable[[Services, Mapping[str, str]], Awaitable[str]]
    list: Callable[[Services], Awaitable[Sequence[ResourceItem]]] | None = None
    watch: Callable[[Services, Mapping[str, str]], AsyncIterator[Any]] | None = None
    complete: Callable[[Services, str, str], Awaitable[Sequence[str]]] | None = None

    @property
    def is_template(self) -> bool:
        """Whether the address has parameters."""
        return "{" in self.uri

    def match(self, uri: str) -> dict[str, str] | None:
        """The parameters of an address of this family, or None."""
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]*)", re.escape(self.uri))
        found = re.fullmatch(pattern, uri)
        return {k: unquote(v) for k, v in found.groupdict().items()} if found else None

    def address(self, **parameters: str) -> str:
        """The address for these parameters."""
        return self.uri.format(**{k: quote(v, safe="") for k, v in parameters.items()})
