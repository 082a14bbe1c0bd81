"""A prompt that an MCP client offers its user, with typed arguments and completions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from mcp_devops.toolkit.context import Services


@dataclass(frozen=True)
class PromptArgument:
    """One argument of a prompt."""

    name: str
    description: str
    required: bool = True


@dataclass(frozen=True)
class PromptSpec:
    """A prompt.

    Attributes:
        name: What a client calls it.
        title: For people.
        description: When to use it.
        arguments: Its arguments, in order.
        render: Gives the text of the user message.
        complete: (services, argument name, prefix, other arguments) -> values.
    """

    name: str
    title: str
    description: str
    arguments: tuple[PromptArgument, ...]
    render: Callable[[Services, Mapping[str, str]], Awaitable[str]]
    complete: Callable[[Services, str, str, Mapping[str, str]], Awaitable[Sequence[str]]] | None = (
        None
    )
