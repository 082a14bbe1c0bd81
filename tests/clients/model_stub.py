"""A model that follows a script, behind the part of the Anthropic API that Claude Code uses.

It listens on loopback and needs no key. It shows how a client and the server are wired together and
what a model would have been shown; it says nothing about what a model would choose.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class ToolUse:
    """The model calls a tool."""

    name: str
    input: Mapping[str, Any]


@dataclass(frozen=True)
class ToolResult:
    """What the model was shown after a call."""

    text: str
    failed: bool

    def json(self) -> dict[str, Any]:
        """The data of a structured answer."""
        data: dict[str, Any] = json.loads(self.text)
        return data


Turn = Callable[[Sequence[ToolResult]], ToolUse | str]
"""One turn of the script: what was shown so far in, what the model says out."""


@dataclass
class ScriptedModel:
    """Plays turn n once n results are there, and keeps what it was sent."""

    turns: Sequence[Turn]
    url: str = ""
    results: list[ToolResult] = field(default_factory=list)
    """Results in the longest conversation seen: what the model knew at the end."""
    offered: set[str] = field(default_factory=set)
    """Tools that were offered to it, whole or by name."""

    def reply(self, body: Mapping[str, Any]) -> ToolUse | str:
        """The next thing it says."""
        offered = {str(tool.get("name")) for tool in body.get("tools") or ()}
        if not offered & {"Bash", "Read", "ToolSearch"}:
            return "ok"  # a question on the side: a title, a summary
        results = results_in(body["messages"])
        if len(results) >= len(self.results):
            self.results = results
        self.offered |= offered | names_in(json.dumps(body["messages"]))
        turn = self.turns[min(len(results), len(self.turns) - 1)]
        try:
            return turn(results)
        except (ValueError, LookupError) as surprise:
            # Said as its last words, the test fails with them; unsaid, the client would try again.
            return f"The script cannot go on after {results}: {surprise!r}"


def names_in(text: str) -> set[str]:
    """Names of MCP tools that a text announces."""
    words = "".join(c if c.isalnum() or c in "_-" else " " for c in text).split()
    return {word for word in words if word.startswith("mcp__")}


def results_in(messages: Sequence[Mapping[str, Any]]) -> list[ToolResult]:
    """The tool results of a conversation, in order."""
    found: list[ToolResult] = []
    for message in messages:
        content = message.get("content")
        blocks = content if isinstance(content, list) else []
        found += [
            ToolResult(_text(block.get("content")), bool(block.get("is_error")))
            for block in blocks
            if block.get("type") == "tool_result"
        ]
    return found


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())


@contextmanager
def scripted(*turns: Turn) -> Iterator[ScriptedModel]:
    """Serve the script until the end of the block."""
    model = ScriptedModel(turns)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(size) or b"{}")
            path = self.path.split("?")[0]
            if path != "/v1/messages":
                self._send("application/json", b'{"input_tokens":10}')
            elif body.get("stream"):
                self._send("text/event-stream", _stream(_message(model.reply(body))))
            else:
                self._send("application/json", json.dumps(_message(model.reply(body))).encode())

        def do_GET(self) -> None:
            self._send("application/json", b"{}")

        def do_HEAD(self) -> None:
            self._send("application/json", b"")

        def _send(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Keep the test's output clean."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that hangs up is no failure of the test."""

    with Server(("127.0.0.1", 0), Handler) as server:
        model.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield model
        finally:
            server.shutdown()
            thread.join(10)


def _message(said: ToolUse | str) -> dict[str, Any]:
    if isinstance(said, str):
        block: dict[str, Any] = {"type": "text", "text": said}
    else:
        block = {
            "type": "tool_use",
            "id": f"toolu_{secrets.token_hex(8)}",
            "name": said.name,
            "input": dict(said.input),
        }
    return {
        "id": "msg_scripted",
        "type": "message",
        "role": "assistant",
        "model": "scripted",
        "content": [block],
        "stop_reason": "end_turn" if isinstance(said, str) else "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 10},
    }


def _stream(message: dict[str, Any]) -> bytes:
    """The message as server-sent events."""
    block = message["content"][0]
    if block["type"] == "text":
        start = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": block["text"]}
    else:
        start = block | {"input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    opening = {**message, "content": [], "stop_reason": None}
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": opening},
        {"type": "content_block_start", "index": 0, "content_block": start},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 10}},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode()
