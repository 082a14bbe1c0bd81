"""`serve --http --watch`: one process serves agents and answers rollouts; webhooks reach it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import sys
import time
from pathlib import Path

import httpx2

from tests.rooms.responder.runs.test_death import CART, watches
from tests.rooms.responder.test_service import ALONE

SECRET = "deployments-are-signed"
SOON = {"MCP_DEVOPS_INCIDENT__VERIFY_WINDOW_S": "10", "MCP_DEVOPS_INCIDENT__STEADY_S": "3"}
"""How long a rollback is looked at before it counts: the shortest, for it is waited for."""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def test_it_serves_answers_rollouts_and_takes_signed_webhooks(tmp_path: Path) -> None:
    async with watches(tmp_path, ALONE) as it:
        port = free_port()
        environment = {
            **it.environment,
            **SOON,
            "MCP_DEVOPS_RESPONSE__POLICY_FILE": str(tmp_path / "policy.yaml"),
            "MCP_DEVOPS_WEBHOOK__DEPLOYMENT_SECRET": SECRET,
        }
        command = ("-m", "mcp_devops", "serve", "--http", f"127.0.0.1:{port}", "--watch", "shop")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *command, "--allow-writes", "shop", "--state-dir", str(it.state)),
            env=environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        body = json.dumps({"namespace": "shop", "workload": "cart"}).encode()
        elsewhere = json.dumps({"namespace": "bank", "workload": "cart"}).encode()
        try:
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                await until_up(http)
                taken = await http.post(
                    "/webhooks/deployment", content=body, headers=signature(body)
                )
                other = await http.post(
                    "/webhooks/deployment", content=elsewhere, headers=signature(elsewhere)
                )
                forged = await http.post("/webhooks/deployment", content=body)
                await it.until(lambda: it.rows(CART))
                pages = await http.get("/incidents")
        finally:
            process.terminate()
            ended = await process.wait()
        runs = it.rows("SELECT id FROM runs WHERE target LIKE '%/cart %'")
    assert (taken.status_code, taken.json()) == (202, {"status": "watched"})
    assert other.json() == {"status": "not watched"} and forged.status_code == 401
    assert it.rows(CART) == [("recovered",)]
    assert len(runs) == 1, "a rollout that is watched and reported is one run"
    assert "cart" in pages.text and ended == 0


async def until_up(http: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if (await http.get("/healthz")).is_success:
                    return
            except httpx2.HTTPError:
                await asyncio.sleep(0.1)


def signature(body: bytes) -> dict[str, str]:
    stamp = f"{time.time():.0f}"
    mac = hmac.new(SECRET.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {"X-Timestamp": stamp, "X-Signature": f"sha256={mac}"}
