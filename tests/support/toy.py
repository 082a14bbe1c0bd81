"""A small made-up system with one read tool and one change tool, to exercise door and server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import Field

from mcp_devops.errors import NotFound, OutcomeUnknown, UpstreamUnavailable
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.record import Record
from mcp_devops.model.target import Workload
from mcp_devops.settings import IntegrationSettings
from mcp_devops.toolkit.answer import Answer, ResponseFormat
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.context import Services, ToolContext
from mcp_devops.toolkit.integration import Denied, Integration
from mcp_devops.toolkit.prompt import PromptArgument, PromptSpec
from mcp_devops.toolkit.resource import ResourceItem, ResourceSpec
from mcp_devops.toolkit.risk import Rbac, Risk
from mcp_devops.toolkit.spec import tool

SECRET = "toy-password-" + "x1Y2z3" * 3


class ToySettings(IntegrationSettings):
    """Settings of the toy."""

    table = "toy"
    colour: str = "red"
    """Colour of the lamps."""


@dataclass
class ToyClient:
    """Lamps that are on or off; knobs for what goes wrong."""

    lamps: dict[str, int] = field(default_factory=lambda: {"hall": 1, "stairs": 1})
    switched: list[str] = field(default_factory=list)
    forbidden: set[str] = field(default_factory=set)
    fail_with: Exception | None = None
    confidence: float | None = None
    automatic: bool = False
    hold: object | None = None
    """An asyncio.Event that a switch waits for."""
    listeners: list[object] = field(default_factory=list)


class Look(Record):
    """Which lamp."""

    lamp: str = Field(max_length=40)
    """Name of the lamp."""
    response_format: ResponseFormat = ResponseFormat.CONCISE
    """How much to say."""


class LampState(Answer):
    """A lamp."""

    lamp: str
    """Its name."""
    level: int
    """How bright."""
    notes: tuple[str, ...] = ()
    """Anything else."""


@tool(name="toy_get_lamp", title="Look at a lamp", risk=Risk.READ, needs=(Rbac("get", "lamps"),))
async def get_lamp(args: Look, context: ToolContext[ToyClient]) -> LampState:
    """Tell how bright a lamp is."""
    await context.progress(1, 2, "looking")
    if context.client.fail_with:
        raise context.client.fail_with
    if args.lamp == "secret":
        return LampState(headline=f"password={SECRET}", lamp="secret", level=1, notes=(SECRET,))
    if args.lamp == "huge":
        lines = tuple(f"line {n} " + "x" * 90 for n in range(5000))
        return LampState(headline="huge", lamp="huge", level=1, notes=lines)
    if args.lamp not in context.client.lamps:
        raise NotFound(f"There is no lamp {args.lamp!r}.", fix="Known: hall, stairs.")
    await context.progress(2, 2, "seen")
    level = context.client.lamps[args.lamp]
    return LampState(headline=f"{args.lamp} is at {level}.", lamp=args.lamp, level=level)


async def plan_switch(args: Look, context: ToolContext[ToyClient]) -> ActionPlan:
    """What a switch will do."""
    level = context.client.lamps.get(args.lamp)
    if level is None:
        raise NotFound(f"There is no lamp {args.lamp!r}.", fix="Known: hall, stairs.")
    return ActionPlan(
        tool="toy_restart_lamp",
        target=Workload(namespace="house", name=args.lamp),
        uid=f"uid-{args.lamp}",
        from_revision=level,
        to_revision=level + 1,
        summary=f"Restart the lamp {args.lamp}",
        confidence=context.client.confidence,
        evidence_complete=context.client.automatic,
        automatic_allowed=context.client.automatic,
    )


@tool(
    name="toy_restart_lamp",
    title="Restart a lamp",
    risk=Risk.CHANGE,
    needs=(Rbac("patch", "lamps"),),
    plan=plan_switch,
)
async def restart_lamp(args: Look, context: ToolContext[ToyClient]) -> LampState:
    """Switch a lamp off and on again."""
    client = context.client
    if client.hold is not None:
        await client.hold.wait()  # type: ignore[attr-defined]  # an asyncio.Event
    if isinstance(client.fail_with, OutcomeUnknown | UpstreamUnavailable):
        raise client.fail_with
    client.switched.append(args.lamp)
    client.lamps[args.lamp] += 1
    return LampState(
        headline=f"Restarted {args.lamp}.", lamp=args.lamp, level=client.lamps[args.lamp]
    )


async def check_access(client: ToyClient, scope: Record, needs: Sequence[Rbac]) -> Sequence[Denied]:
    """Refuse what the knob says."""
    return [
        Denied(n, "house", "toy-user", f"grant {n}") for n in needs if str(n) in client.forbidden
    ]


async def _read(services: Services, parameters: Mapping[str, str]) -> str:
    client = await services.get(ToyClient)
    name = parameters["lamp"]
    if name not in client.lamps:
        raise NotFound(f"There is no lamp {name!r}.", fix="Known: hall, stairs.")
    return f'{{"level": {client.lamps[name]}, "token": "{SECRET}"}}'


async def _list(services: Services) -> Sequence[ResourceItem]:
    client = await services.get(ToyClient)
    return [ResourceItem(f"lamp://{n}", n) for n in sorted(client.lamps)]


async def _watch(services: Services, parameters: Mapping[str, str]) -> AsyncIterator[str]:
    import asyncio

    client = await services.get(ToyClient)
    event = asyncio.Event()
    client.listeners.append(event)
    while True:
        await event.wait()
        event.clear()
        yield "changed"


async def _complete(services: Services, argument: str, prefix: str) -> Sequence[str]:
    client = await services.get(ToyClient)
    return [n for n in sorted(client.lamps) if n.startswith(prefix)]


async def _complete_prompt(
    services: Services, argument: str, prefix: str, others: Mapping[str, str]
) -> Sequence[str]:
    if prefix == "!":
        raise UpstreamUnavailable("The house is dark.", fix="Wait.")
    return await _complete(services, argument, prefix)


async def _render(services: Services, arguments: Mapping[str, str]) -> str:
    return f"Look at the lamp {arguments['lamp']}."


async def _close(client: ToyClient) -> None:
    client.lamps.clear()


def toy(client: ToyClient) -> Integration[ToySettings, ToyClient]:
    """The toy as an integration, over this client."""

    def connect(settings: ToySettings, clock: Clock) -> ToyClient:
        return client

    return Integration(
        name="toy",
        settings=ToySettings,
        client=ToyClient,
        connect=connect,
        close=_close,
        tools=(get_lamp, restart_lamp),
        check_access=check_access,
        secrets=lambda _: (SECRET,),
        resources=(
            ResourceSpec(
                uri="lamp://{lamp}",
                name="lamp",
                description="A lamp.",
                mime_type="application/json",
                read=_read,
                list=_list,
                watch=_watch,
                complete=_complete,
            ),
            ResourceSpec(
                uri="house://rules",
                name="rules",
                description="The rules of the house.",
                mime_type="text/plain",
                read=lambda services, parameters: _rules(),
            ),
        ),
        prompts=(
            PromptSpec(
                name="look-at",
                title="Look at a lamp",
                description="Looks at a lamp.",
                arguments=(PromptArgument("lamp", "Which."),),
                render=_render,
                complete=_complete_prompt,
            ),
        ),
    )


async def _rules() -> str:
    return "Lamps out at ten."
