from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mcp_devops.errors import (
    CredentialsRejected,
    DevOpsError,
    NotConfigured,
    NotFound,
    PermissionDenied,
    Unsupported,
    UpstreamUnavailable,
)
from mcp_devops.integrations.docker import INTEGRATION, answers
from mcp_devops.integrations.docker import hosts as hosts_module
from mcp_devops.integrations.docker.client import DockerClient
from mcp_devops.integrations.docker.hosts import Endpoint, Tls, find_endpoint, why_off
from mcp_devops.integrations.docker.references import near_names
from mcp_devops.integrations.docker.settings import DockerSettings
from mcp_devops.integrations.docker.tunnel import command
from mcp_devops.toolkit.clock import SystemClock
from tests.support.docker_engine import fault, raw_engine, recorded, serving

VERSION = json.dumps(recorded("legacy_build")["/version"]["json"]).encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


async def problem_of(**settings: Any) -> DevOpsError:
    client = DockerClient(DockerSettings(**settings), SystemClock())
    try:
        with pytest.raises(DevOpsError) as raised:
            await client.image("shop:1")
        return raised.value
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("400", "INVALID_ARGUMENTS"),
        ("401", "CREDENTIALS_REJECTED"),
        ("403", "PERMISSION_DENIED"),
        ("409", "PRECONDITION_FAILED"),
        ("429", "RATE_LIMITED"),
        ("500", "UPSTREAM_UNAVAILABLE"),
        ("501", "UNSUPPORTED"),
        ("html", "UPSTREAM_UNAVAILABLE"),
        ("too new", "UPSTREAM_UNAVAILABLE"),
    ],
)
async def test_a_failure_becomes_the_error_of_who_can_fix_it(kind: str, code: str) -> None:
    async with serving(fault(kind)) as client:
        with pytest.raises(DevOpsError) as raised:
            await client.image("shop:1")
    assert raised.value.code == code and raised.value.fix
    if kind == "429":
        assert raised.value.details["retry_after_s"] == 7
    if kind == "500":
        assert raised.value.upstream == "it went wrong"


async def test_a_slow_engine_costs_its_deadline_once() -> None:
    async with serving(fault("slow"), request_timeout_s=0.2) as client:
        await client.version()
        with pytest.raises(DevOpsError) as raised:
            await client.image("shop:1")
    assert raised.value.code == "UPSTREAM_TIMEOUT"


async def test_an_answer_that_breaks_off_is_told() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"
    async with raw_engine(OK % (len(VERSION), VERSION), half) as url:
        assert (await problem_of(host=url)).code == "UPSTREAM_UNAVAILABLE"
    async with raw_engine(b"not http at all\r\n\r\n") as url:
        assert (await problem_of(host=url)).code == "UPSTREAM_UNAVAILABLE"


async def test_a_kept_connection_that_the_engine_closed_is_opened_again() -> None:
    async with raw_engine(OK % (len(VERSION), VERSION), b"", OK % (2, b"{}")) as url:
        client = DockerClient(DockerSettings(host=url), SystemClock())
        assert await client.image("shop:1") == {}
        await client.close()


async def test_nobody_listening_and_no_socket_are_unreachable(tmp_path: Path) -> None:
    for host in ("tcp://127.0.0.1:9", f"unix://{tmp_path}/none.sock"):
        problem = await problem_of(host=host)
        assert isinstance(problem, UpstreamUnavailable) and host in problem.what


def test_a_socket_that_may_not_be_opened_is_an_operators_matter() -> None:
    outer = RuntimeError("connect")
    outer.__cause__ = PermissionError(13, "Permission denied")
    endpoint = Endpoint("unix:///run/docker.sock", "the usual place")
    problem = answers.unreachable(endpoint, outer)
    assert isinstance(problem, PermissionDenied) and "usermod" in problem.fix


async def test_a_unix_socket_is_spoken_to(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK % (len(VERSION), VERSION))
        await writer.drain()
        writer.close()

    path = str(tmp_path / "s")
    server = await asyncio.start_unix_server(answer, path)
    client = DockerClient(DockerSettings(host=f"unix://{path}"), SystemClock())
    assert INTEGRATION.ping is not None
    health = await INTEGRATION.ping(client)
    await INTEGRATION.close(client)
    server.close()
    await server.wait_closed()
    assert health.ok and health.says == "answers, Docker 20.10.24+dfsg1, API 1.41"


async def test_ping_tells_what_is_wrong(tmp_path: Path) -> None:
    client = DockerClient(DockerSettings(host=f"unix://{tmp_path}/none"), SystemClock())
    assert INTEGRATION.ping is not None
    health = await INTEGRATION.ping(client)
    assert not health.ok and health.fix


async def version_from(told: Any) -> Any:
    async with serving(_version(told)) as client:
        return await client.version()


def _version(told: Any) -> Any:
    from starlette.responses import JSONResponse

    async def answer(request: Request) -> JSONResponse:
        return JSONResponse(told)

    return answer


async def test_the_newest_version_that_both_know_is_spoken() -> None:
    podman = {
        "Version": "5.2.0",
        "ApiVersion": "1.41",
        "MinAPIVersion": "1.24",
        "Components": [{"Name": "Podman Engine"}],
    }
    assert (await version_from(podman)).name == "Podman"
    future = {"Version": "40", "ApiVersion": "1.99", "MinAPIVersion": "1.30"}
    assert (await version_from(future)).api == "1.51"
    future["MinAPIVersion"] = "1.60"
    assert (await version_from(future)).api == "1.60"
    with pytest.raises(Unsupported):
        await version_from({"ApiVersion": "1.12"})
    odds: list[Any] = [{}, [], {"ApiVersion": "new"}]
    for odd in odds:
        with pytest.raises(UpstreamUnavailable):
            await version_from(odd)


async def test_a_body_without_end_is_refused() -> None:
    async def endless(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            while True:
                yield b" " * 1024 * 1024
                await asyncio.sleep(0)  # writing to a connection that is gone never waits

        return StreamingResponse(chunks(), media_type="application/json")

    async with serving(endless) as client:
        with pytest.raises(UpstreamUnavailable) as raised:
            await client.version()
    assert "larger than" in raised.value.what


async def test_an_unknown_name_is_told_even_where_the_list_fails() -> None:
    found = recorded("legacy_build")
    del found["/images/json"]
    from tests.support.docker_engine import replay

    async with serving(replay(found)) as client:
        with pytest.raises(NotFound) as raised:
            await client.image("absent:1")
    assert raised.value.details["near"] == [] and "docker image ls" in raised.value.fix


def test_near_names_come_by_likeness_and_by_the_bare_name() -> None:
    known = ["registry.example.com/team/shop:41", "shop:42", "postgres:16"]
    assert near_names("shop:43", known) == ["shop:42", "registry.example.com/team/shop:41"]


def test_the_engine_is_found_by_setting_variable_context_or_usual_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = {"DOCKER_CONFIG": str(tmp_path)}
    usual = tmp_path / "docker.sock"
    monkeypatch.setattr(hosts_module, "USUAL_SOCKET", usual)
    assert why_off(DockerSettings(), bare) is not None
    with pytest.raises(NotConfigured):
        find_endpoint(DockerSettings(), bare)
    assert why_off(DockerSettings(scan_roots=("/reports",)), bare) is None
    usual.touch()
    assert why_off(DockerSettings(), bare) is None
    assert find_endpoint(DockerSettings(), bare).url == f"unix://{usual}"
    env = {**bare, "DOCKER_HOST": "tcp://engine:2375"}
    assert why_off(DockerSettings(), env) is None
    assert find_endpoint(DockerSettings(), env).base_url == "http://engine:2375"
    own = DockerSettings(host="unix:///own.sock")
    assert find_endpoint(own, env).socket == "/own.sock"
    (tmp_path / "config.json").write_text('{"currentContext": "default"}', encoding="utf-8")
    assert find_endpoint(DockerSettings(), bare).url == f"unix://{usual}"
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    assert find_endpoint(DockerSettings(), bare).url == f"unix://{usual}"


def test_tls_files_come_from_settings_or_the_usual_folder() -> None:
    env = {"DOCKER_HOST": "tcp://engine", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/c"}
    found = find_endpoint(DockerSettings(), env)
    assert found.base_url == "https://engine:2376"
    assert found.tls == Tls(Path("/c/ca.pem"), Path("/c/cert.pem"), Path("/c/key.pem"))
    own = DockerSettings(host="tcp://[::1]:9", tls_ca=Path("/own"))
    assert find_endpoint(own, {}).tls == Tls(Path("/own"))
    assert find_endpoint(own, {}).base_url == "https://[::1]:9"


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("npipe:////./pipe/docker_engine", Unsupported),
        ("unix://" + "/x" * 60, NotConfigured),
        ("tcp://", NotConfigured),
        ("tcp://host:port", NotConfigured),
    ],
)
def test_addresses_that_cannot_be_used_are_refused(host: str, kind: type[DevOpsError]) -> None:
    with pytest.raises(kind):
        find_endpoint(DockerSettings(), {"DOCKER_HOST": host})


def test_an_address_is_shown_without_credentials() -> None:
    assert str(Endpoint("tcp://ann:hunter2@engine:2375", "x")) == "tcp://engine:2375"


def test_a_context_is_asked_of_dockers_library_or_its_absence_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    settings = DockerSettings(context="far")
    assert why_off(settings, {}) is None
    with pytest.raises(NotConfigured) as raised:
        find_endpoint(settings, {})
    assert "not installed" in raised.value.what


def test_a_real_context_store_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = pytest.importorskip("docker.context")
    from hashlib import sha256

    folder = tmp_path / "contexts" / "meta" / sha256(b"far").hexdigest()
    folder.mkdir(parents=True)
    meta: dict[str, Any] = {
        "Name": "far",
        "Metadata": {},
        "Endpoints": {"docker": {"Host": "ssh://ann@far:2222"}},
    }
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    (tmp_path / "config.json").write_text('{"currentContext": "far"}', encoding="utf-8")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr(contexts.config, "find_config_file", lambda *_: tmp_path / "config.json")
    env = {"DOCKER_CONFIG": str(tmp_path)}
    assert find_endpoint(DockerSettings(), env).url == "ssh://ann@far:2222"
    with pytest.raises(NotConfigured):
        find_endpoint(DockerSettings(context="absent"), env)
    del meta["Metadata"]
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    with pytest.raises(NotConfigured) as raised:
        find_endpoint(DockerSettings(), env)
    assert "cannot be read" in raised.value.what


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, a server certificate for 127.0.0.1 and a client certificate."""
    folder = tmp_path_factory.mktemp("pki")

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes")
    days = ("-days", "2")
    openssl(*new, "-x509", *days, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    for name in ("server", "client"):
        openssl(*new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "ext").write_text("subjectAltName=IP:127.0.0.1", encoding="utf-8")
        sign = ("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key")
        openssl(*sign, "-CAcreateserial", *days, "-extfile", "ext", "-out", f"{name}.pem")
    return folder


async def test_tls_with_a_client_certificate_works_and_without_is_refused(pki: Path) -> None:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server.pem", pki / "server.key")
    context.load_verify_locations(pki / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            writer.close()
            return
        writer.write(OK % (len(VERSION), VERSION))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    host = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    good: dict[str, Any] = {
        "tls_ca": pki / "ca.pem",
        "tls_cert": pki / "client.pem",
        "tls_key": pki / "client.key",
    }
    client = DockerClient(DockerSettings(host=host, **good), SystemClock())
    assert (await client.version()).api == "1.41"
    await client.close()
    refused = await problem_of(host=host, tls_ca=pki / "ca.pem")
    assert refused.code in ("CREDENTIALS_REJECTED", "UPSTREAM_UNAVAILABLE")
    strange = await problem_of(host=host, tls_ca=pki / "server.pem")
    assert isinstance(strange, CredentialsRejected) and "TLS" in strange.what
    assert isinstance(await problem_of(host=host, tls_ca=pki / "absent"), NotConfigured)
    server.close()
    await server.wait_closed()


async def test_ssh_joins_each_connection_to_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw_engine(OK % (len(VERSION), VERSION), OK % (2, b"{}")) as url:
        port = url.rsplit(":", 1)[1]
        fake = tmp_path / "ssh"
        fake.write_text(
            f"#!{sys.executable}\nimport os, socket, sys\n"
            f"open({str(tmp_path / 'asked')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
            f"s = socket.create_connection(('127.0.0.1', {port}))\n"
            "s.sendall(os.read(0, 65536))\n"
            "while chunk := s.recv(65536):\n    os.write(1, chunk)\n",
            encoding="utf-8",
        )
        fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        client = DockerClient(DockerSettings(host="ssh://ann@far:2222"), SystemClock())
        assert await client.image("shop:1") == {}
        await client.close()
    asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    expected = "-o BatchMode=yes -o ConnectTimeout=10 -T -l ann -p 2222 -- far"
    assert asked == [f"{expected} docker system dial-stdio"] * 2


async def test_an_ssh_that_fails_or_is_absent_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert isinstance(await problem_of(host="ssh://far"), NotConfigured)
    fake = tmp_path / "ssh"
    fake.write_text("#!/bin/sh\necho 'ann@far: no key' >&2\nexit 255\n", encoding="utf-8")
    fake.chmod(0o700)
    problem = await problem_of(host="ssh://ann@far")
    assert isinstance(problem, UpstreamUnavailable) and "ssh://far" in problem.what
    assert problem.upstream.strip() == "ann@far: no key"


def test_an_ssh_host_cannot_become_an_option() -> None:
    argv = command(Endpoint("ssh://-oProxyCommand=x", "x"))
    assert argv[argv.index("--") + 1] == "-oproxycommand=x"
