"""A Kubernetes API on loopback: real sockets, answers by the test, recorded scenes replayed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.settings import KubernetesSettings
from mcp_devops.model.record import Record
from mcp_devops.toolkit.clock import SystemClock
from mcp_devops.toolkit.context import Caller, Services, ToolContext
from mcp_devops.toolkit.spec import AnyTool

FIXTURES = Path(__file__).parents[2] / "fixtures" / "kubernetes"


@dataclass(frozen=True)
class Asked:
    """One request as the server saw it."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What to answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    cut_at: int | None = None
    """Close the connection after so many bytes of the body."""
    silent: bool = False
    """Never answer; the connection stays open until the server ends."""
    close: bool = False
    """Close the connection without a byte."""


def ok(data: Any, **more: Any) -> Reply:
    return Reply(body=json.dumps(data).encode(), **more)


def status(code: int, message: str = "", reason: str = "", **more: Any) -> Reply:
    """A Kubernetes Status as an answer."""
    headers = more.pop("headers", {})
    data = {"kind": "Status", "code": code, "message": message, "reason": reason, **more}
    return Reply(code, json.dumps(data).encode(), headers)


Handler = Callable[[Asked], Reply | Awaitable[Reply]]


class Api:
    """The running server."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.asked: list[Asked] = []
        self.port = 0
        self._ended = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read(reader)) is not None:
                self.asked.append(request)
                answer = self.handler(request)
                reply = await answer if not isinstance(answer, Reply) else answer
                if reply.silent:
                    await self._ended.wait()
                if reply.silent or reply.close:
                    break
                await _write(writer, reply)
                if reply.cut_at is not None:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    line = await reader.readline()
    if not line:
        return None
    method, target, _ = line.decode().split(" ", 2)
    headers: dict[str, str] = {}
    while (raw := (await reader.readline()).strip()) != b"":
        name, _, value = raw.decode().partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    url = urlsplit(target)
    query = {k: v[0] for k, v in parse_qs(url.query, keep_blank_values=True).items()}
    return Asked(method, unquote(url.path), query, headers, body)


async def _write(writer: asyncio.StreamWriter, reply: Reply) -> None:
    head = [f"HTTP/1.1 {reply.status} X", f"content-type: {reply.content_type}"]
    if reply.status != 204:
        head.append(f"content-length: {len(reply.body)}")
    head += [f"{k}: {v}" for k, v in reply.headers.items()]
    writer.write(("\r\n".join(head) + "\r\n\r\n").encode() + reply.body[: reply.cut_at])
    await writer.drain()


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Api]:
    api = Api(handler)
    server = await asyncio.start_server(api._serve, "127.0.0.1", 0)
    api.port = server.sockets[0].getsockname()[1]
    try:
        yield api
    finally:
        api._ended.set()
        server.close()
        await server.wait_closed()


def write_kubeconfig(
    folder: Path,
    server: str,
    user: Mapping[str, Any] | None = None,
    name: str = "test",
    **more: Any,
) -> Path:
    """A kubeconfig (JSON is YAML) with one context."""
    path = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": "c", "cluster": {"server": server, **more}}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
        "users": [{"name": "u", "user": dict(user or {"token": "test-token"})}],
    }
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


@asynccontextmanager
async def client_of(kubeconfig: Path, clock: Any = None, **settings: Any) -> AsyncIterator[Any]:
    """A client that reads one kubeconfig and nothing of this machine's environment."""
    options = KubernetesSettings(kubeconfig=(str(kubeconfig),), **settings)
    client = KubernetesClient(options, clock or SystemClock(), environ={"PATH": "/usr/bin:/bin"})
    try:
        yield client
    finally:
        await client.aclose()


class FixedClock:
    """Stands still at one moment; seconds are moved by the test."""

    def __init__(self, at: datetime) -> None:
        self.at = at
        self.seconds = 1000.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.seconds


class NoServices:
    """No other service is connected."""

    async def get(self, kind: type[Any]) -> Any:
        raise LookupError(kind)

    async def find(self, kind: type[Any]) -> Any:
        return None


def context_for(client: KubernetesClient, clock: Any) -> ToolContext[KubernetesClient]:
    services: Services = NoServices()
    return ToolContext(
        client=client, services=services, clock=clock, caller=Caller("t", "test"), call_id="1"
    )


async def call(tool: AnyTool, args: Record, context: ToolContext[Any]) -> Any:
    """Run a tool."""
    return await tool.run(args, context)


def scene_data(case: str) -> dict[str, Any]:
    """A recorded case: at, workload, holders, pods, events."""
    data: dict[str, Any] = json.loads((FIXTURES / case / "scene.json").read_text(encoding="utf-8"))
    return data


def _fits(event: Mapping[str, Any], rules: Mapping[str, str]) -> bool:
    about = {f"involvedObject.{k}": v for k, v in event["involvedObject"].items()}
    have = {**about, "type": event.get("type"), "reason": event.get("reason")}
    return all(have.get(k) == v for k, v in rules.items())


def replay(scene: Mapping[str, Any], log: Handler | None = None) -> Handler:
    """Answer like the cluster that the scene was recorded from."""
    name = scene["workload"]["metadata"]["name"]

    def answer(asked: Asked) -> Reply | Awaitable[Reply]:
        last = asked.path.rsplit("/", 1)[-1]
        if asked.path.endswith("/log"):
            return log(asked) if log else Reply(status=204)
        if asked.path.endswith(f"/deployments/{name}"):
            return ok(scene["workload"])
        if last == "events":
            selector = asked.query.get("fieldSelector", "")
            rules = dict(rule.split("=", 1) for rule in selector.split(",") if rule)
            wanted = [e for e in scene["events"] if _fits(e, rules)]
            return ok({"items": wanted, "metadata": {}})
        items = {
            "replicasets": scene["holders"],
            "pods": scene["pods"],
            "deployments": [scene["workload"]],
        }
        if last in items or last in ("statefulsets", "daemonsets", "controllerrevisions"):
            return ok({"items": items.get(last, []), "metadata": {"resourceVersion": "1"}})
        if last == "selfsubjectaccessreviews":
            return ok({"status": {"allowed": True}}, status=201)
        for pod in scene["pods"]:
            if asked.path.endswith(f"/pods/{pod['metadata']['name']}"):
                return ok(pod)
        return status(404, f"not found: {asked.path}", "NotFound")

    return answer
