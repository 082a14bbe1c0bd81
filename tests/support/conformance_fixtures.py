"""What the conformance suite asks a server under test to offer: `test_*` tools, prompts, resources.

Two ways in, and nothing of the server replaced. What the toolkit can declare (text resources, a
family, prompts of one text) is an integration like any other and passes the door. What it cannot
declare on purpose (pictures, sampling, roots, protocol logging, tool names that are no
`<system>_<verb>_<noun>`) is answered just before the real handlers, on the server that
`build_server` made: its middleware, sealed request state, transport and auth stay as they are,
and every other name still reaches the real handler.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import wave
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mcp import MCPError
from mcp import types as t
from mcp.server import Server, ServerRequestContext
from mcp.server.subscriptions import PromptsListChanged, ToolsListChanged
from mcp.shared.message import ServerMessageMetadata

from mcp_devops.server.updates import Updates

Context = ServerRequestContext[Any, Any]
Outcome = t.CallToolResult | t.InputRequiredResult


def _png() -> str:
    """One red dot."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    dot = zlib.compress(b"\x00\xff\x00\x00")
    body = chunk(b"IHDR", header) + chunk(b"IDAT", dot) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


def _wav() -> str:
    """A few samples of silence."""
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16))
    return base64.b64encode(sound.getvalue()).decode()


IMAGE = t.ImageContent(type="image", data=_png(), mime_type="image/png")
AUDIO = t.AudioContent(type="audio", data=_wav(), mime_type="audio/wav")


def _text(text: str) -> t.TextContent:
    return t.TextContent(type="text", text=text)


def _embedded(uri: str, mime_type: str, text: str) -> t.EmbeddedResource:
    contents = t.TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return t.EmbeddedResource(type="resource", resource=contents)


def _form(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


STRING = {"type": "string"}


def _elicit(message: str, schema: dict[str, Any]) -> t.ElicitRequest:
    return t.ElicitRequest(
        params=t.ElicitRequestFormParams(message=message, requested_schema=schema)
    )


def _sample(prompt: str, max_tokens: int = 100) -> t.CreateMessageRequest:
    message = t.SamplingMessage(role="user", content=_text(prompt))
    return t.CreateMessageRequest(
        params=t.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens)
    )


@dataclass(frozen=True)
class Call:
    """One call of a fixture tool."""

    context: Context
    params: t.CallToolRequestParams
    updates: Updates

    @property
    def arguments(self) -> dict[str, Any]:
        """What it was called with."""
        return dict(self.params.arguments or {})

    @property
    def capabilities(self) -> t.ClientCapabilities:
        """What the client says it can do."""
        return self.context.session.client_capabilities or t.ClientCapabilities()

    def answer(self, key: str) -> Any:
        """The answer that came with this round, or None."""
        return (self.params.input_responses or {}).get(key)

    def all_answered(self, *keys: str) -> bool:
        """Whether this round brought each of them."""
        return all(self.answer(key) is not None for key in keys)


Fixture = Callable[[Call], Awaitable[Outcome]]
EMPTY: dict[str, Any] = {"type": "object", "properties": {}}
TOOLS: dict[str, tuple[Fixture, dict[str, Any]]] = {}
"""Fixture tools by name: the function and the input schema."""


def fixture_tool(name: str, schema: dict[str, Any] = EMPTY) -> Callable[[Fixture], Fixture]:
    """Enter a function under the name that the suite calls."""

    def enter(run: Fixture) -> Fixture:
        TOOLS[name] = run, schema
        return run

    return enter


def _result(*content: Any, failed: bool = False) -> t.CallToolResult:
    return t.CallToolResult(content=list(content), is_error=failed)


def _fixed(name: str, *content: Any, failed: bool = False) -> None:
    async def run(call: Call) -> Outcome:
        return _result(*content, failed=failed)

    fixture_tool(name)(run)


_fixed("test_simple_text", _text("This is a simple text response for testing."))
_fixed("test_image_content", IMAGE)
_fixed("test_audio_content", AUDIO)
_fixed(
    "test_embedded_resource",
    _embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."),
)
_fixed(
    "test_multiple_content_types",
    _text("Multiple content types test:"),
    IMAGE,
    _embedded(
        "test://mixed-content-resource",
        "application/json",
        json.dumps({"test": "data", "value": 123}),
    ),
)
_fixed(
    "test_error_handling",
    _text("This tool intentionally returns an error for testing"),
    failed=True,
)


@fixture_tool("test_tool_with_progress")
async def with_progress(call: Call) -> Outcome:
    """Report progress three times."""
    for done in (0, 50, 100):
        await call.context.session.report_progress(done, 100)
    return _result(_text("Progress was reported."))


@fixture_tool("test_tool_with_logging")
async def with_logging(call: Call) -> Outcome:
    """Send three log messages."""
    for line in ("started", "processing data", "completed"):
        await call.context.session.send_log_message(
            "info", f"Tool execution {line}", related_request_id=call.context.request_id
        )
    return _result(_text("Messages were logged."))


TOOLS["test_logging_tool"] = TOOLS["test_tool_with_logging"]


@fixture_tool("test_sampling", _form(prompt=STRING))
async def sampling(call: Call) -> Outcome:
    """Let an older client's model speak."""
    if call.capabilities.sampling is None:
        return _result(_text("The client cannot sample."), failed=True)
    # Tied to this call's stream: the standalone one may not be open yet.
    answer = await call.context.session.send_request(
        _sample(call.arguments["prompt"]),
        t.CreateMessageResult,
        metadata=ServerMessageMetadata(related_request_id=call.context.request_id),
    )
    said = answer.content.text if isinstance(answer.content, t.TextContent) else ""
    return _result(_text(f"LLM response: {said}"))


async def _ask_older(call: Call, message: str, schema: dict[str, Any]) -> Outcome:
    if call.capabilities.elicitation is None:
        return _result(_text("The client cannot ask."), failed=True)
    answer = await call.context.session.elicit_form(
        message, schema, related_request_id=call.context.request_id
    )
    content = json.dumps(answer.content)
    return _result(_text(f"Elicitation completed: action={answer.action}, content={content}"))


@fixture_tool("test_elicitation", _form(message=STRING))
async def elicitation(call: Call) -> Outcome:
    """Ask an older client's user for two strings."""
    return await _ask_older(call, call.arguments["message"], _form(username=STRING, email=STRING))


@fixture_tool("test_elicitation_sep1034_defaults")
async def elicitation_defaults(call: Call) -> Outcome:
    """Ask with a default for each kind of primitive."""
    schema = _form(
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={
            "type": "string",
            "enum": ["active", "inactive", "pending"],
            "default": "active",
        },
        verified={"type": "boolean", "default": True},
    )
    return await _ask_older(call, "Please check the values.", schema)


@fixture_tool("test_elicitation_sep1330_enums")
async def elicitation_enums(call: Call) -> Outcome:
    """Ask with each kind of choice."""
    plain = ["option1", "option2", "option3"]
    titled = [{"const": f"value{n}", "title": f"Choice {n}"} for n in (1, 2, 3)]
    schema = _form(
        untitledSingle={"type": "string", "enum": plain},
        titledSingle={"type": "string", "oneOf": titled},
        legacyEnum={
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        untitledMulti={"type": "array", "items": {"type": "string", "enum": plain}},
        titledMulti={"type": "array", "items": {"anyOf": titled}},
    )
    return await _ask_older(call, "Please choose.", schema)


NAME_QUESTION = _elicit("What is your name?", _form(name=STRING))
ROOTS_QUESTION = t.ListRootsRequest(params=t.RequestParams())


def _required(state: str | None = None, **requests: Any) -> t.InputRequiredResult:
    return t.InputRequiredResult(input_requests=requests, request_state=state)


def _field(answer: Any, name: str) -> str | None:
    """One field of an accepted form."""
    if not isinstance(answer, t.ElicitResult) or answer.action != "accept":
        return None
    value = (answer.content or {}).get(name)
    return None if value is None else str(value)


@fixture_tool("test_input_required_result_elicitation")
async def ask_for_a_name(call: Call) -> Outcome:
    """Ask a newer client's user for a name, without state."""
    name = _field(call.answer("user_name"), "name")
    if name is None:
        return _required(user_name=NAME_QUESTION)
    return _result(_text(f"Hello, {name}!"))


TOOLS["test_streaming_elicitation"] = TOOLS["test_input_required_result_elicitation"]


@fixture_tool("test_input_required_result_sampling")
async def ask_the_model(call: Call) -> Outcome:
    """Let a newer client's model answer."""
    if not call.all_answered("capital_question"):
        return _required(capital_question=_sample("What is the capital of France?"))
    return _result(_text("The model answered."))


@fixture_tool("test_input_required_result_list_roots")
async def ask_for_roots(call: Call) -> Outcome:
    """Ask a newer client for its roots."""
    answer = call.answer("client_roots")
    if not isinstance(answer, t.ListRootsResult):
        return _required(client_roots=ROOTS_QUESTION)
    return _result(_text(", ".join(str(root.uri) for root in answer.roots)))


async def _confirm(call: Call) -> Outcome:
    """Ask once, and take the answer only with the state that went out."""
    if call.params.request_state == "confirm" and call.all_answered("confirm"):
        return _result(_text("state-ok"))
    question = _elicit("Please confirm", _form(ok={"type": "boolean"}))
    return _required("confirm", confirm=question)


fixture_tool("test_input_required_result_request_state")(_confirm)
fixture_tool("test_input_required_result_tampered_state")(_confirm)


@fixture_tool("test_input_required_result_multiple_inputs")
async def ask_for_three(call: Call) -> Outcome:
    """Ask for three things of three kinds at once."""
    if call.params.request_state and call.all_answered("user_name", "greeting", "client_roots"):
        return _result(_text("All three came."))
    return _required(
        "three",
        user_name=NAME_QUESTION,
        greeting=_sample("Generate a greeting", 50),
        client_roots=ROOTS_QUESTION,
    )


@fixture_tool("test_input_required_result_multi_round")
async def ask_twice(call: Call) -> Outcome:
    """Ask, and with the answer in the state ask again."""
    state = json.loads(call.params.request_state or "{}")
    if "name" not in state:
        name = _field(call.answer("step1"), "name")
        if name is None:
            first = _elicit("Step 1: What is your name?", _form(name=STRING))
            return _required("{}", step1=first)
        state["name"] = name
    colour = _field(call.answer("step2"), "color")
    if colour is None:
        second = _elicit("Step 2: What is your favorite color?", _form(color=STRING))
        return _required(json.dumps(state), step2=second)
    return _result(_text(f"{state['name']} likes {colour}."))


@fixture_tool("test_input_required_result_capabilities")
async def ask_what_it_can(call: Call) -> Outcome:
    """Ask only in the ways that the client declared."""
    ways: dict[str, Any] = {}
    if call.capabilities.elicitation is not None:
        ways["user_name"] = NAME_QUESTION
    if call.capabilities.sampling is not None:
        ways["greeting"] = _sample("Generate a greeting", 50)
    if not ways or call.all_answered(*ways):
        return _result(_text("Nothing is left to ask."))
    return _required(**ways)


@fixture_tool("test_missing_capability")
async def needs_sampling(call: Call) -> Outcome:
    """Refuse a client that does not declare sampling."""
    if call.capabilities.sampling is None:
        raise MCPError(
            code=t.MISSING_REQUIRED_CLIENT_CAPABILITY,
            message="Sampling is required.",
            data={"requiredCapabilities": {"sampling": {}}},
        )
    return _result(_text("The client can sample."))


@fixture_tool("test_trigger_tool_change")
async def tools_changed(call: Call) -> Outcome:
    """Tell listeners that the tool list changed."""
    await call.updates._bus.publish(ToolsListChanged())
    return _result(_text("Told."))


@fixture_tool("test_trigger_prompt_change")
async def prompts_changed(call: Call) -> Outcome:
    """Tell listeners that the prompt list changed."""
    await call.updates._bus.publish(PromptsListChanged())
    return _result(_text("Told."))


_fixed_schema: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": STRING, "city": STRING},
        }
    },
    "properties": {
        "name": STRING,
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": STRING,
        "email": STRING,
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@fixture_tool("json_schema_2020_12_tool", _fixed_schema)
async def wide_schema(call: Call) -> Outcome:
    """Have a schema with many keywords, which must reach the client unchanged."""
    return _result(_text("Accepted."))


@fixture_tool("test_custom_headers", _form(region={"type": "string", "x-mcp-header": "Region"}))
async def custom_headers(call: Call) -> Outcome:
    """Have an argument that clients repeat in a header."""
    return _result(_text("Accepted."))


BINARY_URI = "test://static-binary"
BINARY = t.Resource(
    uri=BINARY_URI, name="static-binary", description="A picture.", mime_type="image/png"
)


def _user(content: Any) -> t.PromptMessage:
    return t.PromptMessage(role="user", content=content)


async def embedded_prompt(params: t.GetPromptRequestParams) -> t.GetPromptResult:
    """A prompt that carries a resource."""
    uri = (params.arguments or {})["resourceUri"]
    return t.GetPromptResult(
        messages=[
            _user(_embedded(uri, "text/plain", "Embedded resource content for testing.")),
            _user(_text("Please process the embedded resource above.")),
        ]
    )


async def image_prompt(params: t.GetPromptRequestParams) -> t.GetPromptResult:
    """A prompt that carries a picture."""
    return t.GetPromptResult(
        messages=[_user(IMAGE), _user(_text("Please analyze the image above."))]
    )


async def asking_prompt(
    params: t.GetPromptRequestParams,
) -> t.GetPromptResult | t.InputRequiredResult:
    """A prompt that asks before it says anything."""
    given = _field((params.input_responses or {}).get("user_context"), "context")
    if given is None:
        question = _elicit("What context should the prompt use?", _form(context=STRING))
        return _required(user_context=question)
    return t.GetPromptResult(messages=[_user(_text(f"Use this: {given}"))])


PROMPTS: dict[str, tuple[Callable[[t.GetPromptRequestParams], Awaitable[Any]], list[str]]] = {
    "test_prompt_with_embedded_resource": (embedded_prompt, ["resourceUri"]),
    "test_prompt_with_image": (image_prompt, []),
    "test_input_required_result_prompt": (asking_prompt, []),
}
"""Fixture prompts by name: the function and its required arguments."""


def _described_tool(name: str) -> t.Tool:
    return t.Tool(
        name=name, description="A fixture of the conformance suite.", input_schema=TOOLS[name][1]
    )


def _described_prompt(name: str) -> t.Prompt:
    return t.Prompt(
        name=name,
        description="A fixture of the conformance suite.",
        arguments=[
            t.PromptArgument(name=argument, description="An argument.", required=True)
            for argument in PROMPTS[name][1]
        ],
    )


def install(server: Server[Any], updates: Updates) -> Server[Any]:
    """Answer the fixtures' names before the server's own handlers, and list them after its own."""
    _install_tools(server, updates)
    _install_prompts(server)
    _install_resources(server)

    async def set_level(context: Context, params: t.SetLevelRequestParams) -> t.EmptyResult:
        return t.EmptyResult()

    server.add_request_handler("logging/setLevel", t.SetLevelRequestParams, set_level)
    return server


def _install_tools(server: Server[Any], updates: Updates) -> None:
    real_call, real_list = _handler(server, "tools/call"), _handler(server, "tools/list")
    real_schema = server.get_tool_input_schema

    async def call_tool(context: Context, params: t.CallToolRequestParams) -> Any:
        if params.name in TOOLS:
            return await TOOLS[params.name][0](Call(context, params, updates))
        return await real_call(context, params)

    async def list_tools(context: Context, params: t.PaginatedRequestParams) -> Any:
        listed = await real_list(context, params)
        listed.tools += [_described_tool(name) for name in TOOLS]
        return listed

    def schema(name: str) -> Mapping[str, Any] | None:
        if name in TOOLS:
            return TOOLS[name][1]
        return real_schema(name) if real_schema else None

    server.add_request_handler("tools/call", t.CallToolRequestParams, call_tool)
    server.add_request_handler("tools/list", t.PaginatedRequestParams, list_tools)
    server.get_tool_input_schema = schema


def _install_prompts(server: Server[Any]) -> None:
    real_get, real_list = _handler(server, "prompts/get"), _handler(server, "prompts/list")

    async def get_prompt(context: Context, params: t.GetPromptRequestParams) -> Any:
        if params.name in PROMPTS:
            return await PROMPTS[params.name][0](params)
        return await real_get(context, params)

    async def list_prompts(context: Context, params: t.PaginatedRequestParams) -> Any:
        listed = await real_list(context, params)
        listed.prompts += [_described_prompt(name) for name in PROMPTS]
        return listed

    server.add_request_handler("prompts/get", t.GetPromptRequestParams, get_prompt)
    server.add_request_handler("prompts/list", t.PaginatedRequestParams, list_prompts)


def _install_resources(server: Server[Any]) -> None:
    real_read = _handler(server, "resources/read")
    real_list = _handler(server, "resources/list")

    async def read_resource(context: Context, params: t.ReadResourceRequestParams) -> Any:
        if params.uri != BINARY_URI:
            return await real_read(context, params)
        picture = t.BlobResourceContents(uri=BINARY_URI, mime_type="image/png", blob=IMAGE.data)
        return t.ReadResourceResult(contents=[picture])

    async def list_resources(context: Context, params: t.PaginatedRequestParams) -> Any:
        listed = await real_list(context, params)
        listed.resources += [BINARY]
        return listed

    server.add_request_handler("resources/read", t.ReadResourceRequestParams, read_resource)
    server.add_request_handler("resources/list", t.PaginatedRequestParams, list_resources)


def _handler(server: Server[Any], method: str) -> Callable[[Context, Any], Awaitable[Any]]:
    entry = server.get_request_handler(method)
    assert entry is not None, f"the server has no {method}"
    return entry.handler
