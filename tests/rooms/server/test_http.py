from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from pydantic import SecretStr

from mcp_devops.errors import InvalidArguments, NotConfigured
from mcp_devops.server.auth import Verifier
from mcp_devops.server.http import is_loopback, parse_bind, require_auth_in_public
from mcp_devops.server.settings import HttpSettings
from tests.rooms.server.conftest import World

TOKEN = "on-call-token-" + "a1B2" * 6
ISSUER, AUDIENCE = "https://issuer.example", "https://mcp.example/mcp"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, "http", "auto")


@pytest.mark.parametrize(
    ("bind", "parsed"),
    [
        ("127.0.0.1:8765", ("127.0.0.1", 8765)),
        (":9", ("127.0.0.1", 9)),
        ("8000", ("127.0.0.1", 8000)),
        ("[::1]:80", ("::1", 80)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
    ],
)
def test_a_bind_without_a_host_is_loopback(bind: str, parsed: tuple[str, int]) -> None:
    assert parse_bind(bind) == parsed


@pytest.mark.parametrize("bind", ["", "host", "host:port", "h:99999", "h:-1"])
def test_a_bind_that_is_none_is_refused(bind: str) -> None:
    with pytest.raises(InvalidArguments):
        parse_bind(bind)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.com"])
def test_a_public_bind_without_auth_is_refused(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(NotConfigured):
        require_auth_in_public(host, HttpSettings())
    require_auth_in_public(host, HttpSettings(tokens=SecretStr(f"ann={TOKEN}")))


async def test_health_and_metrics_answer_and_count_calls(world: World) -> None:
    async with (
        world.connected(can_ask=False) as client,
        httpx2.AsyncClient(base_url=world.url) as web,
    ):
        await client.call_tool("toy_get_lamp", {"lamp": "hall"})
        await client.call_tool("toy_get_lamp", {"lamp": "attic"})
        await client.call_tool("toy_restart_lamp", {"lamp": "hall"})
        health = await web.get("/healthz")
        metrics = (await web.get("/metrics")).text
    assert health.json()["status"] == "ok"
    assert 'mcp_devops_calls_total{outcome="ok",tool="toy_get_lamp"} 1.0' in metrics
    assert 'mcp_devops_calls_total{outcome="NOT_FOUND",tool="toy_get_lamp"} 1.0' in metrics
    assert "mcp_devops_call_duration_seconds_bucket" in metrics


async def test_foreign_hosts_and_origins_are_refused(world: World) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accept = {"accept": "application/json, text/event-stream"}
    async with world.served() as url, httpx2.AsyncClient() as web:
        host = await web.post(url, json=body, headers={**accept, "host": "evil.example"})
        origin = await web.post(
            url, json=body, headers={**accept, "origin": "https://evil.example"}
        )
        health = await web.get(f"{world.url}/healthz", headers={"host": "evil.example"})
    assert host.status_code in (400, 421) and origin.status_code == 403
    assert health.status_code == 400


async def test_a_body_that_is_too_large_is_refused(world: World) -> None:
    async with world.served() as url, httpx2.AsyncClient() as web:
        answer = await web.post(url, content=b"x" * 1_100_000)
    assert answer.status_code == 413


async def test_without_a_token_nothing_but_health_is_to_be_had(world: World) -> None:
    settings = HttpSettings(tokens=SecretStr(f"ann={TOKEN}"))
    async with world.served(settings) as url, httpx2.AsyncClient() as web:
        assert (await web.get(f"{world.url}/healthz")).status_code == 200
        assert (await web.get(f"{world.url}/metrics")).status_code == 401
        answer = await web.post(url, json={})
        wrong = await web.post(url, json={}, headers={"authorization": "Bearer nope"})
        right = await web.get(f"{world.url}/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == wrong.status_code == 401
    assert "resource_metadata" in answer.headers["www-authenticate"]
    assert right.status_code == 200


async def test_the_tokens_name_goes_into_the_record(world: World) -> None:
    settings = HttpSettings(tokens=SecretStr(f"ann={TOKEN}"))
    async with world.served(settings) as url:
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with (
            httpx2.AsyncClient(headers=headers) as web,
            Client(streamable_http_client(url, http_client=web)) as client,
        ):
            await client.call_tool("toy_get_lamp", {"lamp": "hall"})
        entries = [e async for e in world.gateway.journal.stream(subject="toy_get_lamp")]
        everything = "".join([e.model_dump_json() async for e in world.gateway.journal.stream()])
    assert entries[0].actor.startswith("ann (http")
    assert TOKEN not in everything


@pytest.mark.parametrize("configured", ["short=abc", "justatoken" * 4, "=nameless" + TOKEN])
def test_static_tokens_must_be_named_and_long(configured: str) -> None:
    with pytest.raises(NotConfigured):
        Verifier(HttpSettings(tokens=SecretStr(configured)), "http://x")


def test_a_key_set_without_issuer_and_audience_is_refused() -> None:
    with pytest.raises(NotConfigured):
        Verifier(HttpSettings(jwks_url="http://127.0.0.1:9/jwks"), "http://x")


class Issuer:
    """Signs tokens, and publishes its key set on loopback."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        document = json.dumps({"keys": [{**public, "kid": "k1", "use": "sig"}]}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-length", str(len(document)))
                self.end_headers()
                self.wfile.write(document)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks"

    def token(self, key: Any = None, algorithm: str = "RS256", **claims: Any) -> str:
        now = datetime.now(UTC)
        body = {
            "sub": "ann",
            "iss": ISSUER,
            "aud": AUDIENCE,
            "exp": now + timedelta(minutes=5),
            "scope": "incident:read incident:write",
            **claims,
        }
        body = {k: v for k, v in body.items() if v is not None}
        return jwt.encode(body, key or self.key, algorithm=algorithm, headers={"kid": "k1"})


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.server.shutdown()
    made.server.server_close()


async def test_a_jwt_is_accepted_only_if_everything_about_it_holds(issuer: Issuer) -> None:
    settings = HttpSettings(jwks_url=issuer.url, issuer=ISSUER, audience=AUDIENCE)
    verifier = Verifier(settings, AUDIENCE)
    good = await verifier.verify_token(issuer.token())
    assert good is not None and good.subject == "ann" and "incident:write" in good.scopes
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    past = datetime.now(UTC) - timedelta(minutes=5)
    refused = [
        issuer.token(aud="https://other.example"),
        issuer.token(iss="https://other.example"),
        issuer.token(exp=past),
        issuer.token(sub=None),
        issuer.token(exp=None),
        issuer.token(key=stranger),
        issuer.token(key="0123456789abcdef0123456789abcdef", algorithm="HS256"),
        jwt.encode({"sub": "ann"}, "", algorithm="none"),
        "not.a.jwt",
        "",
    ]
    answers = await asyncio.gather(*(verifier.verify_token(token) for token in refused))
    assert answers == [None] * len(refused)


async def test_an_unreachable_key_set_refuses_everyone(issuer: Issuer) -> None:
    settings = HttpSettings(jwks_url="http://127.0.0.1:9/jwks", issuer=ISSUER, audience=AUDIENCE)
    assert await Verifier(settings, AUDIENCE).verify_token(issuer.token()) is None
