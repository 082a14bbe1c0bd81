"""One incident_investigate against the kubectl commands that fetch the same facts, one by one.

On the real cluster, on a deployment whose newest revision crashes behind surge pods.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import (
    BYTES_A_TOKEN,
    Peer,
    Result,
    Row,
    Skipped,
    interleaved,
    medians,
    ours,
    scratch,
    spoken,
    wire_bytes,
)
from tests.support.cluster import AVAILABLE, WHY_NOT, Shop, connected, fresh_namespace, shop

REPETITIONS = 7
COLD_REPETITIONS = 3
PUBLISHED_S = 0.07
"""Seconds in which the fastest peer collects the picture with a two-line log (peers.md)."""
PUBLISHED_BYTES = 25_695
"""Bytes of the smallest peer's picture with a noisy log (peers.md)."""


def run() -> Iterator[Result]:
    if not AVAILABLE:
        yield Skipped("investigate", WHY_NOT)
        return
    yield from asyncio.run(_on_the_cluster())


async def _on_the_cluster() -> list[Result]:
    async with connected() as admin:
        cluster = await admin.cluster()
        async with (
            fresh_namespace(cluster) as namespace,
            shop(cluster, "bench", namespace=namespace) as made,
        ):
            await made.set_env(VERSION="v2", CRASH_AFTER_S="2")
            await made.restarted(2)
            failing = await _failing_pod(made)
            return await asyncio.to_thread(_compare, made.namespace, made.name, failing)


async def _failing_pod(made: Shop) -> str:
    pods = await made.pods()
    restarts: dict[str, int] = {
        p["metadata"]["name"]: sum(
            c.get("restartCount", 0) for c in p["status"].get("containerStatuses", ())
        )
        for p in pods
    }
    return max(restarts, key=lambda name: restarts[name])


def kubectl_commands(namespace: str, workload: str, pod: str) -> list[list[str]]:
    """What a person types to see the same."""
    label = ("-l", f"app={workload}")
    return [
        ["get", "deployment", workload, "-o", "json"],
        ["get", "replicasets", *label, "-o", "json"],
        ["get", "pods", *label, "-o", "json"],
        ["describe", "pod", pod],
        ["logs", pod, "--tail=100", "--previous"],
        ["rollout", "status", f"deployment/{workload}", "--watch=false"],
        ["rollout", "history", f"deployment/{workload}"],
        ["get", "events"],
    ]


def _kubectl(namespace: str, commands: Sequence[Sequence[str]]) -> tuple[float, int]:
    begun, size = time.perf_counter(), 0
    for command in commands:
        # A container that runs at this moment has no previous log: not an error of the comparison.
        done = subprocess.run(
            ["kubectl", "-n", namespace, *command], capture_output=True, check=False, timeout=30
        )
        size += len(done.stdout)
    return time.perf_counter() - begun, size


def _compare(namespace: str, workload: str, pod: str) -> list[Result]:
    arguments = {"namespace": namespace, "workload": workload}
    variables = {"KUBECONFIG": os.environ["KUBECONFIG"]}
    if url := os.environ.get("PROMETHEUS_URL"):
        variables["MCP_DEVOPS_PROMETHEUS__URL"] = url
    commands = kubectl_commands(namespace, workload, pod)
    answers: list[dict[str, Any]] = []
    sizes: list[int] = []

    def kubectl() -> float:
        took, size = _kubectl(namespace, commands)
        sizes.append(size)
        return took

    def ask(peer: Peer) -> float:
        begun = time.perf_counter()
        answers.append(peer.call("incident_investigate", arguments))
        return time.perf_counter() - begun

    def first(folder: Path) -> float:
        with spoken(*ours(folder, **variables)) as peer:
            peer.ask("tools/list")
            return ask(peer)

    with scratch() as folder:
        with spoken(*ours(folder, **variables)) as peer:
            ask(peer)
            warm = medians(
                interleaved({"ours": lambda: ask(peer), "kubectl": kubectl}, REPETITIONS)
            )
        cold = medians(
            interleaved({"ours": lambda: first(folder), "kubectl": kubectl}, COLD_REPETITIONS)
        )
    by_hand = f"{len(commands)} kubectl commands"
    size, theirs = wire_bytes(answers[-1]), sorted(sizes)[len(sizes) // 2]
    rows = [
        Row(
            "investigate", "incident_investigate, warm", warm["ours"], warm["kubectl"], by_hand,
            "s", 1.0, f"the fastest peer published: {PUBLISHED_S} s on an idle machine",
        ),
        Row(
            "investigate", "incident_investigate, first call", cold["ours"], cold["kubectl"],
            by_hand, "s", 1.0, "with the import of the Kubernetes client and the connection",
        ),
        Row(
            "investigate", "bytes of the answer", size, theirs, by_hand, "bytes", 1.0,
            f"about {size // BYTES_A_TOKEN} tokens against {theirs // BYTES_A_TOKEN};"
            f" smallest peer's picture: {PUBLISHED_BYTES} bytes",
        ),
    ]  # fmt: skip
    return list(rows)
