"""deploy/ at the real cluster: what the API takes, what the account may, what the engine builds."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import yaml

from tests.rooms.deploy.test_image import ROOT, instructions, last_stage
from tests.support.cluster import AVAILABLE, WHY_NOT, connected, fresh_namespace, shop, until
from tests.support.docker_engine import AVAILABLE as ENGINE
from tests.support.docker_engine import docker
from tests.support.helm import AVAILABLE as HELM
from tests.support.helm import WHY_NOT as WHY_NO_HELM
from tests.support.helm import rendered as chart
from tests.support.manifests import OVERLAYS, rendered
from tests.support.on_call import _kubeconfig, _token
from tests.support.process import environment

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)]
Manifest = dict[str, Any]
GROUP = "rbac.authorization.k8s.io"


def moved(manifests: Sequence[Manifest], namespace: str, account: str) -> list[Manifest]:
    """The same objects in a test's own namespace, which is also the one that is watched."""
    text = yaml.safe_dump_all([m for m in manifests if m["kind"] != "Namespace"])
    text = re.sub(r"\bnamespace: (mcp-devops|shop)$", f"namespace: {namespace}", text, flags=re.M)
    found: list[Manifest] = list(yaml.safe_load_all(text))
    for each in found:
        kind = each["kind"]
        if kind in ("ClusterRole", "ClusterRoleBinding"):
            each["metadata"]["name"] = namespace
        if kind == "ClusterRoleBinding":
            each["roleRef"]["name"] = namespace
        if kind == "ServiceAccount":
            each["metadata"]["name"] = account
        for subject in each.get("subjects", ()):
            subject["name"] = account
    return found


async def kubectl(*arguments: str, given: Sequence[Manifest] = ()) -> tuple[int, str]:
    """Exit code and everything that kubectl says."""
    content = yaml.safe_dump_all(given).encode()
    done = await anyio.run_process(["kubectl", *arguments], input=content, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


@pytest.mark.parametrize("overlay", OVERLAYS)
async def test_the_api_takes_every_object_whose_version_it_serves(overlay: str) -> None:
    _, served = await kubectl("api-versions")
    async with connected() as admin, fresh_namespace(await admin.cluster()) as namespace:
        objects = [
            *(m for m in rendered(overlay) if m["kind"] == "Namespace"),
            *moved(rendered(overlay), namespace, "mcp-devops"),
        ]
        refused = {}
        for each in objects:
            code, says = await kubectl("apply", "--dry-run=server", "-f", "-", given=[each])
            if code:
                refused[each["kind"]] = (each["apiVersion"], says)
    lacking = {m["kind"] for m in objects if m["apiVersion"] not in served.split()}
    assert refused.keys() == lacking, refused
    # Kubernetes 1.20 has no policy/v1; whatever else is there must be taken.
    assert lacking <= {"PodDisruptionBudget"}
    assert all("no matches for kind" in says for _, says in refused.values())


@pytest.mark.skipif(not HELM, reason=WHY_NO_HELM)
@pytest.mark.parametrize(
    "values", [{}, {"watch": {"namespaces": ["team-*"], "allNamespaces": True}}], ids=["one", "all"]
)
async def test_the_api_takes_the_charts_objects(values: dict[str, Any]) -> None:
    async with connected() as admin, fresh_namespace(await admin.cluster()) as namespace:
        objects = moved(chart(values), namespace, "mcp-devops")
        code, says = await kubectl("apply", "--dry-run=server", "-f", "-", given=objects)
    assert code == 0, says
    assert says.count("(server dry run)") == len(objects) >= 8


@asynccontextmanager
async def granted(folder: Path, overlay: str) -> AsyncIterator[tuple[Any, str, Path]]:
    """A namespace in which an account has the rendered RBAC and nothing else."""
    async with connected() as admin:
        cluster = await admin.cluster()
        async with fresh_namespace(cluster) as namespace:
            rights = [
                m
                for m in moved(rendered(overlay), namespace, "granted")
                if m["kind"] == "ServiceAccount" or m["apiVersion"].startswith(GROUP)
            ]
            code, says = await kubectl("apply", "-f", "-", given=rights)
            assert code == 0, says
            try:
                token = await _token(cluster, namespace)
                yield cluster, namespace, _kubeconfig(folder, namespace, token)
            finally:
                with anyio.CancelScope(shield=True):
                    kinds = "clusterrolebinding,clusterrole"
                    await kubectl("delete", kinds, namespace, "--ignore-not-found")


@asynccontextmanager
async def watching(arguments: Sequence[str], settings: dict[str, str]) -> AsyncIterator[Any]:
    """`mcp-devops` as the container's command, from source; gives its log's lines and process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mcp_devops", *arguments),
        env=settings,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    lines: list[str] = []

    async def drain() -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            lines.append(line.decode())

    reading = asyncio.create_task(drain())
    try:
        yield process, lines
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


async def test_the_rendered_account_watches_and_sees_a_rollout(tmp_path: Path) -> None:
    manifests = rendered("single")
    (deployment,) = [m for m in manifests if m["kind"] == "Deployment"]
    (policy,) = [m for m in manifests if m["metadata"]["name"] == "mcp-devops-policy"]
    given = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    file = tmp_path / "policy.yaml"
    file.write_text(policy["data"]["policy.yaml"], encoding="utf-8")
    async with granted(tmp_path, "single") as (cluster, namespace, kubeconfig):
        there = {
            "--namespace=shop": f"--namespace={namespace}",
            "--policy=/etc/mcp-devops/policy.yaml": f"--policy={file}",
            "--metrics=0.0.0.0:9095": "--metrics=127.0.0.1:0",
        }
        assert there.keys() <= set(given)
        arguments = [there.get(a, a) for a in given]
        state = {"MCP_DEVOPS_STATE_DIR": str(tmp_path)}
        settings = environment(tmp_path, KUBECONFIG=str(kubeconfig), **state)
        async with (
            watching(arguments, settings) as (process, lines),
            httpx2.AsyncClient() as web,
        ):

            async def address() -> str:
                found = re.search(r"metrics at (http://\S+)/metrics", "".join(lines))
                return found.group(1) if found else ""

            url = await until(address, bool, 60)

            async def ready() -> int:
                return (await web.get(f"{url}/readyz")).status_code

            await until(ready, lambda code: code == 200, 60)
            assert (await web.get(f"{url}/healthz")).status_code == 200
            async with shop(cluster, "seen", 1, namespace=namespace):

                async def numbers() -> str:
                    return (await web.get(f"{url}/metrics")).text

                text = await until(
                    numbers, lambda t: 'mcp_devops_runs{status="observing"} 1.0' in t, 60, every=1
                )
                process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(30):
                    code = await process.wait()
    log = "".join(lines)
    assert code == 0, log
    assert 'mcp_devops_replica_heartbeat_age_seconds{replica="local"}' in text
    assert "not watched" not in log and "ERROR" not in log, log


async def printed(*options: str) -> str:
    command = (sys.executable, "-m", "mcp_devops", "rbac", *options)
    return (await anyio.run_process(command)).stdout.decode()


async def may(kubeconfig: Path, namespace: str, *what: str) -> bool:
    """Whether the account behind a kubeconfig may, as the API says."""
    code, _ = await kubectl(
        *("--kubeconfig", str(kubeconfig), "-n", namespace, "auth", "can-i", "-q", *what)
    )
    return code == 0


async def test_an_account_of_all_namespaces_watches_by_pattern_and_may_do_nothing_else(
    tmp_path: Path,
) -> None:
    async with connected() as admin:
        cluster = await admin.cluster()
        async with fresh_namespace(cluster) as home:
            manifests = list(
                yaml.safe_load_all(
                    await printed("-A", "--watch", "--account-namespace", home, "--name", "granted")
                )
            )
            manifests = moved(manifests, home, "granted")
            account, role, binding = manifests
            code, says = await kubectl("apply", "--dry-run=server", "-f", "-", given=manifests)
            assert code == 0, says
            code, says = await kubectl("apply", "-f", "-", given=[account])
            assert code == 0, says
            token = await _token(cluster, home)
            kubeconfig = _kubeconfig(tmp_path, home, token)
            settings = environment(
                tmp_path, KUBECONFIG=str(kubeconfig), MCP_DEVOPS_STATE_DIR=str(tmp_path)
            )
            arguments = ["watch", "--namespace=test-*", "--read-only"]
            async with watching(arguments, settings) as (process, refused):
                async with asyncio.timeout(60):
                    assert await process.wait() == 1
            try:
                code, says = await kubectl("apply", "-f", "-", given=[role, binding])
                assert code == 0, says
                # A namespace that came later is among them.
                async with fresh_namespace(cluster) as later:
                    declared = {
                        (verb, f"{resource}.{group}" if group else resource)
                        for rule in role["rules"]
                        for verb in rule["verbs"]
                        for resource in rule["resources"]
                        for group in rule["apiGroups"]
                    }
                    allowed = [
                        await may(kubeconfig, later, verb, resource, *sub)
                        for verb, whole in sorted(declared)
                        for resource, *sub in [subresource(whole)]
                    ]
                    beyond = [
                        await may(kubeconfig, later, *what)
                        for what in (("list", "secrets"), ("patch", "deployments.apps"),
                                     ("delete", "pods"), ("create", "pods", "--subresource=exec"))
                    ]  # fmt: skip
                    async with watching(arguments, settings) as (process, lines):

                        async def log() -> str:
                            return "".join(lines)

                        await until(log, lambda said: "watching test-*" in said, 60)
                        async with shop(cluster, "seen", 1, ready=False, namespace=later) as made:
                            await until(log, lambda said: f"{later}/{made.name}" in said, 60)
                        process.send_signal(signal.SIGTERM)
                        async with asyncio.timeout(30):
                            assert await process.wait() == 0
            finally:
                with anyio.CancelScope(shield=True):
                    kinds = "clusterrolebinding,clusterrole"
                    await kubectl("delete", kinds, home, "--ignore-not-found")
    assert "PERMISSION_DENIED" in "".join(refused)
    assert len(allowed) >= 10 and all(allowed)
    assert beyond == [False] * 4


def subresource(whole: str) -> list[str]:
    """A resource, and the option that names its part, as kubectl wants them."""
    resource, _, part = whole.partition("/")
    return [resource, f"--subresource={part}"] if part else [resource]


MADE = """\
RUN mkdir -p -m 0755 /opt/mcp-devops/bin && mkdir -m 0700 /state && printf '%s\\n' \\
    '#!/bin/sh' 'echo run as $(id -u) with $*' \\
    'touch /var/lib/mcp-devops/kept && echo state' \\
    'touch /elsewhere 2>/dev/null || echo locked' > /opt/mcp-devops/bin/mcp-devops \\
    && chmod 0755 /opt/mcp-devops/bin/mcp-devops
RUN echo "$(find . -type f -name '*.pyc' | wc -l) compiled" > /state/context \\
    && ls . /brought >> /state/context
"""
"""In the place of what pip makes, where no base image with Python can be made (test_image.py)."""


@pytest.mark.skipif(not ENGINE, reason="needs DOCKER_HOST")
async def test_the_engine_builds_all_that_only_copies_and_it_keeps_state_without_a_root() -> None:
    given = instructions()
    last = last_stage()
    first = [(what, says) for what, says in given[: -len(last)] if what in ("WORKDIR", "COPY")]
    lines = ["FROM test/base:1 AS build", *(f"{w} {s}" for w, s in first), MADE]
    lines += [f"{w} {s}".replace("${PYTHON_IMAGE}", "test/base:1") for w, s in last]
    image = f"mcpd-{uuid.uuid4().hex[:8]}:1"
    options = ("--rm", "--read-only", "--network", "none", "--cap-drop", "ALL")
    try:
        await docker(
            "build", "-q", "-t", image, "-f", "-", str(ROOT), given="\n".join(lines).encode()
        )
        config = json.loads(await docker("inspect", "--format", "{{json .Config}}", image))
        said = await docker("run", *options, image, check=False)
        context = await docker(
            "run", *options, "--entrypoint", "/bin/cat", image, "/var/lib/mcp-devops/context"
        )
    finally:
        with anyio.CancelScope(shield=True):
            await docker("rmi", "-f", image, check=False)
    assert config["User"] == "65532:65532" and config["Entrypoint"] == ["mcp-devops"]
    assert config["Volumes"] == {"/var/lib/mcp-devops": {}}
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert said.splitlines()[:3] == [
        "run as 65532 with serve --http 0.0.0.0:8765",
        "state",
        "locked",
    ], said
    compiled, *sent = context.split("\n")
    assert compiled == "0 compiled"
    assert {line for line in sent if not line.endswith((":", ".whl"))} - {""} == {
        *("LICENSE", "README.md", "fixtures", "mcp_devops", "pyproject.toml", "requirements.lock"),
    }
