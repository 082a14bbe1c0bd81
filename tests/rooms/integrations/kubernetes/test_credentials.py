"""Who we are: token files that rotate, plug-ins that expire, refuse, hang or read."""

from __future__ import annotations

import json
import os
import select
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.errors import (
    CredentialsRejected,
    NotConfigured,
    Unsupported,
    UpstreamTimeout,
)
from mcp_devops.integrations.kubernetes.paths import path_of
from tests.support.kubernetes_api import (
    Asked,
    FixedClock,
    Reply,
    client_of,
    ok,
    serving,
    status,
    write_kubeconfig,
)

POD = path_of("pods", namespace="shop", name="p")
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def plugin(tmp_path: Path, code: str, **more: Any) -> dict[str, Any]:
    """A user entry whose plug-in is a Python script; `n` counts its runs from 1."""
    script = tmp_path / "plugin.py"
    script.write_text(
        "import json, os, pathlib, sys\n"
        f"runs = pathlib.Path({str(tmp_path / 'runs')!r})\n"
        "n = int(runs.read_text()) + 1 if runs.exists() else 1\n"
        "runs.write_text(str(n))\n"
        "def answer(**status):\n"
        "    print(json.dumps({'kind': 'ExecCredential', 'status': status,\n"
        "                      'apiVersion': 'client.authentication.k8s.io/v1'}))\n" + code,
        encoding="utf-8",
    )
    entry = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(script)],
        "interactiveMode": "Never",
        **more,
    }
    return {"exec": entry}


def runs(tmp_path: Path) -> int:
    return int((tmp_path / "runs").read_text(encoding="utf-8"))


def ended(pid: int) -> bool:
    """Whether a process ends within five seconds."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 5.0)[0])
    finally:
        os.close(handle)


async def test_an_expired_plugin_token_is_renewed_before_it_is_sent(tmp_path: Path) -> None:
    clock = FixedClock(NOW)
    user = plugin(tmp_path, "answer(token=f't{n}', expirationTimestamp='2026-11-20T12:01:00Z')")
    async with (
        serving(lambda _: ok({})) as api,
        client_of(write_kubeconfig(tmp_path, api.url, user), clock) as client,
    ):
        cluster = await client.cluster()
        await cluster.get(POD)
        await cluster.get(POD)
        clock.seconds += 51
        await cluster.get(POD)
    sent = [a.headers["authorization"] for a in api.asked]
    assert sent == ["Bearer t1", "Bearer t1", "Bearer t2"]


async def test_a_rejected_plugin_token_is_fetched_again_once(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        good = asked.headers["authorization"] == "Bearer t2"
        return ok({"n": 2}) if good else status(401, "Unauthorized")

    user = plugin(tmp_path, "answer(token=f't{n}')")
    async with (
        serving(answer) as api,
        client_of(write_kubeconfig(tmp_path, api.url, user)) as client,
    ):
        assert await (await client.cluster()).get(POD) == {"n": 2}
    assert runs(tmp_path) == 2


async def test_a_plugin_gets_no_stdin_and_is_told_it_is_not_interactive(tmp_path: Path) -> None:
    code = (
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "read = sys.stdin.read()\n"
        'answer(token=f\'{len(read)}-{info["spec"]["interactive"]}-{os.environ["REGION"]}\''
        " + info['spec']['cluster']['server'][:4])\n"
    )
    user = plugin(tmp_path, code, env=[{"name": "REGION", "value": "x"}], provideClusterInfo=True)
    async with (
        serving(lambda _: ok({})) as api,
        client_of(write_kubeconfig(tmp_path, api.url, user)) as client,
    ):
        await (await client.cluster()).get(POD)
    assert api.asked[0].headers["authorization"] == "Bearer 0-False-xhttp"


async def test_a_hanging_plugin_is_stopped_with_its_children(tmp_path: Path) -> None:
    code = (
        "import subprocess\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "print('open your browser', file=sys.stderr, flush=True)\n"
        "child.wait()\n"
    )
    async with serving(lambda _: ok({})) as api:
        config = write_kubeconfig(tmp_path, api.url, plugin(tmp_path, code))
        async with client_of(config, exec_timeout_s=1.5) as client:
            with pytest.raises(UpstreamTimeout) as caught:
                await (await client.cluster()).get(POD)
    assert caught.value.upstream == "open your browser"
    assert ended(int((tmp_path / "child").read_text(encoding="utf-8")))
    assert api.asked == []


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("sys.exit('please log in')", CredentialsRejected),
        ("print('no json: s3cret')", NotConfigured),
        ("print('{}')", NotConfigured),
        ("answer()", NotConfigured),
        ("answer(token=None)", NotConfigured),
        ("answer(token='t', expirationTimestamp='soon')", NotConfigured),
        ("print('x' * 3_000_000)", NotConfigured),
    ],
)
async def test_a_plugin_that_gives_no_credential_is_reported_without_its_output(
    tmp_path: Path, code: str, error: type[Exception]
) -> None:
    config = write_kubeconfig(tmp_path, "http://127.0.0.1:1", plugin(tmp_path, code))
    async with client_of(config) as client:
        with pytest.raises(error) as caught:
            await (await client.cluster()).get(POD)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"command": "/no/such/plugin"}, NotConfigured),
        ({"interactiveMode": "Always"}, Unsupported),
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1"}, Unsupported),
    ],
)
async def test_a_plugin_that_cannot_run_says_what_to_do(
    tmp_path: Path, change: dict[str, str], error: type[Exception]
) -> None:
    user = plugin(tmp_path, "answer(token='t')", **change)
    async with client_of(write_kubeconfig(tmp_path, "http://127.0.0.1:1", user)) as client:
        with pytest.raises(error):
            await (await client.cluster()).get(POD)


async def test_a_token_file_is_read_again_after_a_minute(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n", encoding="utf-8")
    clock = FixedClock(NOW)
    async with serving(lambda _: ok({})) as api:
        config = write_kubeconfig(tmp_path, api.url, {"tokenFile": "token"})
        async with client_of(config, clock) as client:
            cluster = await client.cluster()
            await cluster.get(POD)
            token.write_text("two\n", encoding="utf-8")
            await cluster.get(POD)
            clock.seconds += 61
            await cluster.get(POD)
    assert [a.headers["authorization"][7:] for a in api.asked] == ["one", "one", "two"]


@pytest.mark.parametrize(
    ("user", "header"),
    [
        ({"username": "u", "password": "p"}, "Basic dTpw"),
        ({"auth-provider": {"name": "oidc", "config": {"id-token": "jwt"}}}, "Bearer jwt"),
    ],
)
async def test_other_ways_to_prove_who_we_are(
    tmp_path: Path, user: dict[str, Any], header: str
) -> None:
    async with (
        serving(lambda _: ok({})) as api,
        client_of(write_kubeconfig(tmp_path, api.url, user)) as client,
    ):
        await (await client.cluster()).get(POD)
    assert api.asked[0].headers["authorization"] == header


async def test_a_missing_certificate_is_named_without_its_content(tmp_path: Path) -> None:
    user = {"client-certificate": "gone.crt", "client-key-data": "c2VjcmV0"}
    async with client_of(write_kubeconfig(tmp_path, "https://127.0.0.1:1", user)) as client:
        with pytest.raises(NotConfigured) as caught:
            await (await client.cluster()).get(POD)
    assert "secret" not in str(caught.value)


async def test_an_unusable_proxy_is_reported_without_its_password(tmp_path: Path) -> None:
    more: dict[str, Any] = {"proxy-url": "gopher://u:s3cretpass@proxy"}
    async with client_of(write_kubeconfig(tmp_path, "http://127.0.0.1:1", **more)) as client:
        with pytest.raises(NotConfigured) as caught:
            await (await client.cluster()).get(POD)
    assert "s3cretpass" not in str(caught.value)


async def test_the_first_kubeconfig_decides_the_context_as_with_kubectl(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    paths = []
    for folder in folders:
        folder.mkdir()
        paths.append(write_kubeconfig(folder, "http://127.0.0.1:1", name=folder.name))
    joined = ",".join(map(str, paths))
    assert json.loads(paths[0].read_text(encoding="utf-8"))["current-context"] == "a"
    async with client_of(paths[0]) as client:
        client.settings = client.settings.model_copy(
            update={"kubeconfig": tuple(joined.split(","))}
        )
        assert (await client.cluster()).name == "a"
        assert sorted(await client.contexts()) == ["a", "b"]
        assert (await client.cluster("b")).namespace == "shop"
