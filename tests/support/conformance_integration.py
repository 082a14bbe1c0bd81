"""Fixtures of the conformance suite that the toolkit can declare: they pass the door."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping

from mcp_devops.settings import IntegrationSettings
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.context import Services
from mcp_devops.toolkit.integration import Integration
from mcp_devops.toolkit.prompt import PromptArgument, PromptSpec
from mcp_devops.toolkit.resource import ResourceSpec


class FixtureSettings(IntegrationSettings):
    """The fixtures have nothing to set."""

    table = "conformance"


def _connect(settings: FixtureSettings, clock: Clock) -> FixtureSettings:
    return settings


async def _close(client: FixtureSettings) -> None:
    """Nothing to end."""


def _says(text: str) -> Callable[[Services, Mapping[str, str]], Awaitable[str]]:
    async def read(services: Services, parameters: Mapping[str, str]) -> str:
        return text.format(**parameters) if parameters else text

    return read


async def _template(services: Services, parameters: Mapping[str, str]) -> str:
    number = parameters["id"]
    return json.dumps({"id": number, "templateTest": True, "data": f"Data for ID: {number}"})


def _text_resource(uri: str, name: str, text: str) -> ResourceSpec:
    return ResourceSpec(
        uri=uri,
        name=name,
        description="A fixture of the conformance suite.",
        mime_type="text/plain",
        read=_says(text),
    )


INTEGRATION = Integration(
    name="conformance",
    settings=FixtureSettings,
    client=FixtureSettings,
    connect=_connect,
    close=_close,
    tools=(),
    resources=(
        _text_resource(
            "test://static-text",
            "static-text",
            "This is the content of the static text resource.",
        ),
        _text_resource("test://watched-resource", "watched-resource", "Watched."),
        ResourceSpec(
            uri="test://template/{id}/data",
            name="template",
            description="A family of the conformance suite.",
            mime_type="application/json",
            read=_template,
        ),
    ),
    prompts=(
        PromptSpec(
            name="test_simple_prompt",
            title="Simple prompt",
            description="A prompt without arguments.",
            arguments=(),
            render=_says("This is a simple prompt for testing."),
        ),
        PromptSpec(
            name="test_prompt_with_arguments",
            title="Prompt with arguments",
            description="A prompt with two arguments.",
            arguments=(PromptArgument("arg1", "First."), PromptArgument("arg2", "Second.")),
            render=_says("Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"),
        ),
    ),
)
"""The fixtures that the toolkit can declare."""
