from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mcp import MCPError
from mcp import types as t

from mcp_devops.errors import UpstreamUnavailable
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.model.target import Workload
from tests.rooms.server.conftest import World
from tests.support.toy import SECRET

YES = t.ElicitResult(action="accept", content={"approve": True, "note": "fine"})


def text_of(result: Any) -> str:
    return "\n".join(c.text for c in result.content)


async def test_tools_are_listed_with_schemas_and_all_four_hints(world: World) -> None:
    async with world.connected() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {"toy_get_lamp", "toy_restart_lamp"}
    read, change = tools["toy_get_lamp"], tools["toy_restart_lamp"]
    assert read.input_schema["additionalProperties"] is False
    assert read.output_schema is not None and "level" in read.output_schema["properties"]
    assert read.annotations is not None and change.annotations is not None
    assert (read.annotations.read_only_hint, read.annotations.destructive_hint) == (True, False)
    assert (change.annotations.read_only_hint, change.annotations.destructive_hint) == (False, True)
    assert read.annotations.idempotent_hint is not None
    assert change.meta == {"anthropic/requiresUserInteraction": True}


async def test_a_call_gives_structured_content_that_fits_the_schema_and_a_text(
    world: World,
) -> None:
    async with world.connected() as client:
        await client.list_tools()
        result = await client.call_tool("toy_get_lamp", {"lamp": "hall"})
    assert result.structured_content == {"headline": "hall is at 1.", "lamp": "hall", "level": 1}
    assert not result.is_error and "hall is at 1." in text_of(result)


async def test_failures_are_tool_errors_with_code_and_next_move(world: World) -> None:
    async with world.connected() as client:
        missing = await client.call_tool("toy_get_lamp", {"lamp": "attic"})
        wrong = await client.call_tool("toy_get_lamp", {"lamp": "hall", "lmap": 1})
    assert missing.is_error and "[NOT_FOUND]" in text_of(missing)
    assert missing.meta is not None
    assert missing.meta["mcp-devops/error"]["fix"] == "Known: hall, stairs."
    assert wrong.is_error and "[INVALID_ARGUMENTS]" in text_of(wrong)


async def test_an_unknown_tool_is_an_invalid_params_error(world: World) -> None:
    async with world.connected() as client:
        with pytest.raises(MCPError) as raised:
            await client.call_tool("toy_nope", {})
    assert raised.value.code == t.INVALID_PARAMS


async def test_a_bug_never_shows_its_text(world: World) -> None:
    world.house.fail_with = RuntimeError(f"inner {SECRET}")
    async with world.connected() as client:
        result = await client.call_tool("toy_get_lamp", {"lamp": "hall"})
    assert result.is_error and "inner" not in text_of(result) and "[INTERNAL]" in text_of(result)


async def test_progress_reaches_a_client_that_wants_it(world: World) -> None:
    seen: list[tuple[float, float | None, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))

    async with world.connected() as client:
        await client.call_tool("toy_get_lamp", {"lamp": "hall"}, progress_callback=on_progress)
    assert seen == [(1, 2, "looking"), (2, 2, "seen")]


async def test_a_person_approves_in_a_dialog(world: World) -> None:
    world.answers = [YES]
    async with world.connected() as client:
        result = await client.call_tool("toy_restart_lamp", {"lamp": "hall"})
    assert not result.is_error and world.house.switched == ["hall"]
    assert "Restart the lamp hall" in world.asked[0] and "No answer is a no" in world.asked[0]


@pytest.mark.parametrize(
    "answer",
    [
        t.ElicitResult(action="cancel"),
        t.ElicitResult(action="decline"),
        t.ElicitResult(action="accept", content={"approve": False}),
        t.ElicitResult(action="accept", content={}),
    ],
    ids=["dismissed", "declined", "unticked", "empty"],
)
async def test_anything_but_a_ticked_yes_is_a_no(world: World, answer: t.ElicitResult) -> None:
    world.answers = [answer]
    async with world.connected() as client:
        result = await client.call_tool("toy_restart_lamp", {"lamp": "hall"})
    assert result.is_error and "[APPROVAL_DENIED]" in text_of(result)
    assert world.house.switched == []


async def test_a_client_without_dialogs_is_told_the_command(world: World) -> None:
    async with world.connected(can_ask=False) as client:
        result = await client.call_tool("toy_restart_lamp", {"lamp": "hall"})
    assert result.is_error and "mcp-devops approve apr-" in text_of(result)
    assert world.house.switched == []


async def test_resources_and_families_are_listed_and_read_without_secrets(world: World) -> None:
    async with world.connected() as client:
        resources = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
        hall = await client.read_resource("lamp://hall")
        rules = await client.read_resource("house://rules")
    assert [str(r.uri) for r in resources] == ["lamp://hall", "lamp://stairs", "house://rules"]
    assert [x.uri_template for x in templates] == ["lamp://{lamp}"]
    content = hall.contents[0]
    assert isinstance(content, t.TextResourceContents)
    assert '"level": 1' in content.text and SECRET not in content.text
    assert isinstance(rules.contents[0], t.TextResourceContents)
    assert rules.contents[0].text == "Lamps out at ten."


@pytest.mark.parametrize("uri", ["lamp://attic", "nothing://here", "lamp://hall/more"])
async def test_an_unknown_resource_is_an_invalid_params_error(world: World, uri: str) -> None:
    async with world.connected() as client:
        with pytest.raises(MCPError) as raised:
            await client.read_resource(uri)
    assert raised.value.code == t.INVALID_PARAMS


async def test_many_resources_come_in_pages(world: World) -> None:
    world.house.lamps = {f"lamp-{n:03}": 1 for n in range(120)}
    async with world.connected() as client:
        first = await client.list_resources()
        assert len(first.resources) == 50 and first.next_cursor
        second = await client.list_resources(cursor=first.next_cursor)
        assert second.resources[0].name == "lamp-050"
        with pytest.raises(MCPError):
            await client.list_resources(cursor="nonsense")


async def test_a_prompt_is_listed_and_filled_in(world: World) -> None:
    async with world.connected() as client:
        prompts = (await client.list_prompts()).prompts
        got = await client.get_prompt("look-at", {"lamp": "hall"})
        with pytest.raises(MCPError) as missing:
            await client.get_prompt("look-at", {})
        with pytest.raises(MCPError) as unknown:
            await client.get_prompt("look-away", {})
    assert [p.name for p in prompts] == ["look-at"]
    assert isinstance(got.messages[0].content, t.TextContent)
    assert got.messages[0].content.text == "Look at the lamp hall."
    assert missing.value.code == unknown.value.code == t.INVALID_PARAMS


async def test_completions_suggest_what_exists(world: World) -> None:
    prompt = t.PromptReference(type="ref/prompt", name="look-at")
    family = t.ResourceTemplateReference(type="ref/resource", uri="lamp://{lamp}")
    async with world.connected() as client:
        one = await client.complete(prompt, {"name": "lamp", "value": "st"})
        two = await client.complete(family, {"name": "lamp", "value": ""})
        dark = await client.complete(prompt, {"name": "lamp", "value": "!"})
    assert one.completion.values == ["stairs"]
    assert two.completion.values == ["hall", "stairs"]
    assert dark.completion.values == []


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
async def test_a_subscriber_hears_of_a_change_while_subscribed(world: World) -> None:
    heard = asyncio.Event()
    if world.mode == "legacy":

        async def on_message(message: Any) -> None:
            if isinstance(message, t.ResourceUpdatedNotification):
                assert str(message.params.uri) == "lamp://hall"
                heard.set()

        async with world.connected(message_handler=on_message) as client:
            await client.subscribe_resource("lamp://hall")
            await _change(world)
            async with asyncio.timeout(10):
                await heard.wait()
            await client.unsubscribe_resource("lamp://hall")
        return
    async with (
        world.connected() as client,
        client.listen(resource_subscriptions=["lamp://hall"]) as stream,
    ):
        await _change(world)
        async with asyncio.timeout(10):
            async for event in stream:
                assert event.uri == "lamp://hall"  # type: ignore[union-attr]
                break


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
async def test_a_client_hears_that_an_incident_was_opened(world: World) -> None:
    if world.mode == "legacy":
        pytest.skip("older clients are told on the streams of what they subscribed to")
    async with world.connected() as client, client.listen(resources_list_changed=True) as stream:
        store = await world.gateway.services.get(IncidentStore)
        await store.open(Workload(namespace="house", name="hall"), "test")
        async with asyncio.timeout(10):
            async for event in stream:
                assert type(event).__name__ == "ResourcesListChanged"
                break


async def _change(world: World) -> None:
    """Move the lamp once somebody watches it."""
    async with asyncio.timeout(10):
        while not world.house.listeners:
            await asyncio.sleep(0.01)
    for event in world.house.listeners:
        event.set()  # type: ignore[attr-defined]  # an asyncio.Event


async def test_a_family_that_cannot_be_listed_does_not_take_the_others_with_it(
    world: World,
) -> None:
    class Dark(dict[str, int]):
        def __iter__(self) -> Any:
            raise UpstreamUnavailable("The house is dark.", fix="Wait.")

    async with world.connected() as client:
        world.house.lamps = Dark(hall=1)
        listed = (await client.list_resources()).resources
        with pytest.raises(MCPError) as raised:
            await client.read_resource("lamp://hall/../x")
    assert [str(r.uri) for r in listed] == ["house://rules"]
    assert raised.value.code == t.INVALID_PARAMS
