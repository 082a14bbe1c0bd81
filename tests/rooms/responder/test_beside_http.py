"""`serve --http --watch`: one process serves agents and answers rollouts; webhooks reach it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest

from mcp_devops.scenarios.recorded import load
from tests.rooms.responder.runs.test_death import CART, SENT, Watches, say_yes, watches
from tests.rooms.responder.test_service import ALONE, ASKING

SECRET = "deployments-are-signed"
PENDING = "SELECT id FROM approvals WHERE status = 'pending'"
STOP_S = 20.0
"""Seconds within which a signal ends a server: Kubernetes kills after 30, and a change under way
has 8 of them."""
SOON = {"MCP_DEVOPS_INCIDENT__VERIFY_WINDOW_S": "10", "MCP_DEVOPS_INCIDENT__STEADY_S": "3"}
"""How long a rollback is looked at before it counts: the shortest, for it is waited for."""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def test_it_serves_answers_rollouts_and_takes_signed_webhooks(tmp_path: Path) -> None:
    async with watches(tmp_path, ALONE) as it:
        port = free_port()
        process = await serving(it, port)
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


async def serving(it: Watches, port: int) -> asyncio.subprocess.Process:
    environment = {
        **it.environment,
        **SOON,
        "MCP_DEVOPS_RESPONSE__POLICY_FILE": str(it.folder / "policy.yaml"),
        "MCP_DEVOPS_WEBHOOK__DEPLOYMENT_SECRET": SECRET,
    }
    command = ("-m", "mcp_devops", "serve", "--http", f"127.0.0.1:{port}", "--watch", "shop")
    with (it.folder / "serve.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, *command, "--allow-writes", "shop", "--state-dir", str(it.state)),
            env=environment,
            stdout=log,
            stderr=log,
        )


async def test_what_a_webhook_was_answered_for_is_done_though_the_server_dies_at_once(
    tmp_path: Path,
) -> None:
    recorded = load("upstream-outage").cluster["lists"]["deployments"]
    uid = next(d["metadata"]["uid"] for d in recorded if d["metadata"]["name"] == "payments")
    body = json.dumps({"namespace": "shop", "workload": "payments"}).encode()
    async with watches(tmp_path, ALONE, "upstream-outage") as it:
        port = free_port()
        process = await serving(it, port)
        try:
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                await until_up(http)
                before = it.begun(uid)
                taken = await http.post(
                    "/webhooks/deployment", content=body, headers=signature(body)
                )
        finally:
            process.kill()
            await process.wait()
        kept = it.begun(uid)
        steps = it.recorded(uid)
        async with it.one():
            await it.until(lambda: it.recorded(uid) > steps)
    assert taken.status_code == 202
    assert before == 0, "the watch has no reason to begin it: it is an old rollout"
    assert kept == it.begun(uid) == 1


@pytest.mark.parametrize("beside", [False, True], ids=["watch", "serve"])
@pytest.mark.parametrize("moment", ["asking", "verifying", "approved"])
async def test_a_signal_in_the_middle_of_a_run_is_obeyed_at_once_and_the_run_goes_on_later(
    tmp_path: Path, moment: str, beside: bool
) -> None:
    policy = ALONE if moment == "verifying" else ASKING
    async with watches(tmp_path, policy) as it, AsyncExitStack() as stack:
        if beside:
            process = await serving(it, free_port())
        else:
            process = await stack.enter_async_context(it.one())
        try:
            if policy == ASKING:
                await it.until(lambda: it.pages.pages)
            if moment == "approved":
                await say_yes(it, str(it.rows(PENDING)[0][0]))
            if moment != "asking":
                await it.until(lambda: it.rows(SENT))
            process.terminate()
            async with asyncio.timeout(STOP_S):
                code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        log = it.folder / ("serve.log" if beside else "watch.log")
        said = log.read_text(encoding="utf-8")
        for (approval,) in it.rows(PENDING):
            await say_yes(it, str(approval))
        async with it.one():
            await it.until(lambda: it.rows(CART))
    assert code == 0 and "Traceback" not in said, said[-3000:]
    assert it.rows(CART) == [("recovered",)]
    assert len(it.rows(SENT)) == 1, "the rollback is sent once"
    assert len(it.rows("SELECT id FROM approvals")) == 1, "no yes is asked for twice, or invented"
    assert it.pages.pages == int(policy == ASKING)


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
