"""Records scenarios from the test cluster: `python -m mcp_devops.scenarios.record NAME...`.

Needs KUBECONFIG (an administrator of namespace shop) and PROMETHEUS_URL, and on the node one image
of the test service under each name that `stories.py` uses:

    docker tag test/shop:1 shop/payments:2.3.1        # and so on; the version comes from VERSION

(The published recordings used a build of it whose error text and request path come from ERROR_TEXT
and REQUEST_PATH.) Stories named together are staged at the same time and share their neighbours.
For each: deploy the old release, let it serve, roll out the new one, wait, list everything, roll
back by the patch that `kubectl rollout undo` sends, follow every change, then read back the raw
samples. What was deployed is deleted at the end.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcp_devops.errors import DevOpsError, NotFound, PreconditionFailed
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.settings import KubernetesSettings
from mcp_devops.scenarios.packing import pack_samples, write_packed
from mcp_devops.scenarios.stories import (
    NAMESPACE,
    STORIES,
    Release,
    Service,
    Story,
    config_map,
    config_name,
    deployment,
    template,
)
from mcp_devops.toolkit.clock import SystemClock

COLLECTIONS = {
    "deployments": "apps",
    "replicasets": "apps",
    "pods": "",
    "events": "",
}
"""What is recorded, with its API group."""
FIXTURES = Path(__file__).parents[2] / "fixtures" / "scenarios"
CLOCK = SystemClock()
Json = dict[str, Any]


def deployments_path(name: str | None = None) -> str:
    """Path of the namespace's Deployments, or of one."""
    return path_of("deployments", "apps", namespace=NAMESPACE, name=name)


class Recording:
    """One story while it is recorded."""

    def __init__(self, cluster: Cluster, story: Story) -> None:
        self.cluster = cluster
        self.story = story
        self.names = {s.name for s in story.services}
        self.lists: dict[str, list[Json]] = {}
        self.changes: list[list[Any]] = []
        self.logs: dict[str, Any] = {}
        self.sent_at = 0.0
        self.rolled_back_at = 0.0
        self.begun_at = 0.0

    def mine(self, collection: str, thing: Json) -> bool:
        """Whether an object belongs to a service of this story."""
        meta = thing["metadata"]
        if collection != "events":
            return (meta.get("labels") or {}).get("app") in self.names
        name = str(thing["involvedObject"].get("name", ""))
        return any(name == n or name.startswith(f"{n}-") for n in self.names)

    async def follow(self, collection: str, listed: asyncio.Event) -> None:
        """Keep the first list, then every change with the second it came."""
        path = path_of(collection, COLLECTIONS[collection], namespace=NAMESPACE)
        async for kind, thing in self.cluster.watch(path):
            if kind == "SYNC":
                if collection in self.lists:
                    raise RuntimeError(f"the watch of {collection} began again: record anew")
                self.lists[collection] = [_slim(t) for t in thing if self.mine(collection, t)]
                listed.set()
            elif self.mine(collection, thing):
                at = round(CLOCK.now().timestamp(), 3)
                self.changes.append([at, collection, kind, _slim(thing)])

    async def read_logs(self, pods: Sequence[Json]) -> None:
        """Read both runs of every container."""
        for pod in pods:
            name = pod["metadata"]["name"]
            tail = 200 if pod["metadata"]["labels"]["app"] == self.story.subject.name else 30
            self.logs[name] = {
                run: await self._log(name, tail, run == "previous")
                for run in ("current", "previous")
            }

    async def _log(self, pod: str, tail: int, previous: bool) -> Json:
        path = path_of("pods", namespace=NAMESPACE, name=pod, subresource="log")
        query: dict[str, str | int] = {"tailLines": tail, "timestamps": "true"}
        if previous:
            query["previous"] = "true"
        try:
            async with self.cluster.stream(path, query) as stream:
                raw = b"".join([chunk async for chunk in stream.chunks])
        except NotFound as gone:
            return {"code": 404, "message": gone.upstream}
        except DevOpsError as refused:
            return {"code": refused.details.get("status", 400), "message": refused.upstream}
        return {"text": raw.decode("utf-8", "replace")}

    async def perform(self) -> None:
        """Play the story and keep what the cluster says."""
        story, subject = self.story, self.story.subject
        self.begun_at = CLOCK.now().timestamp()
        _say(f"{story.name}: serving for {story.warm_up_s:g} s")
        await asyncio.sleep(story.warm_up_s)
        if subject.after is None:
            raise RuntimeError(f"{story.name} has nothing to roll out")
        await self.cluster.patch(
            deployments_path(subject.name),
            {"spec": {"template": template(subject, subject.after)}},
            "application/merge-patch+json",
        )
        _say(f"{story.name}: rolled out {subject.after.version}; {story.bad_s:g} s")
        await self._scaled()
        await asyncio.sleep(story.bad_s - story.scale_at_s)
        listed = {c: asyncio.Event() for c in COLLECTIONS}
        tasks = [asyncio.create_task(self.follow(c, e)) for c, e in listed.items()]
        await asyncio.gather(*(e.wait() for e in listed.values()))
        await self.read_logs(self.lists["pods"])
        answer = await self._undo()
        self.rolled_back_at = answer[0]
        _say(f"{story.name}: rolled back; following for {story.after_s:g} s")
        await asyncio.sleep(story.after_s)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ended:
            if not isinstance(end, asyncio.CancelledError):
                raise RuntimeError(f"{story.name}: a watch ended: {end}")
        path = path_of("pods", namespace=NAMESPACE)
        new = [
            p
            for p in await self.cluster.list_all(path)
            if self.mine("pods", p) and p["metadata"]["name"] not in self.logs
        ]
        await self.read_logs(new)
        await self._write(answer[1], CLOCK.now().timestamp())

    async def _scaled(self) -> None:
        """Take pods away, as somebody's `kubectl scale` would, where the story says so."""
        story = self.story
        await asyncio.sleep(story.scale_at_s)
        if story.scale_to is not None:
            await self.cluster.patch(
                deployments_path(story.subject.name),
                {"spec": {"replicas": story.scale_to}},
                "application/merge-patch+json",
            )
            _say(f"{story.name}: scaled to {story.scale_to}")

    async def _undo(self) -> tuple[float, Json]:
        subject = self.story.subject
        live = await self.cluster.get(deployments_path(subject.name))
        old = next(
            r
            for r in self.lists["replicasets"]
            if r["metadata"]["labels"]["app"] == subject.name
            and r["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
        )
        back = copy.deepcopy(old["spec"]["template"])
        del back["metadata"]["labels"]["pod-template-hash"]
        version = live["metadata"]["resourceVersion"]
        self.sent_at = CLOCK.now().timestamp()
        answer = await self.cluster.patch(
            deployments_path(subject.name),
            [
                {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
                {"op": "replace", "path": "/spec/template", "value": back},
            ],
            "application/json-patch+json",
        )
        return CLOCK.now().timestamp(), _slim(answer)

    async def _write(self, answer: Json, until: float) -> None:
        at = self.rolled_back_at
        self._fold()
        cluster = {
            "version": await self.cluster.get("/version"),
            "namespace": NAMESPACE,
            "rolled_back_at": round(at, 3),
            "lists": self.lists,
            "answer": answer,
            "changes": [[round(t - at, 3), *rest] for t, *rest in self.changes],
            "logs": self.logs,
        }
        folder = FIXTURES / self.story.name
        folder.mkdir(parents=True, exist_ok=True)
        samples = await _samples(self.names, self.begun_at - 30, until)
        packed = pack_samples(samples, self.begun_at, until)
        size = write_packed(folder / "cluster.json.gz", cluster)
        size += write_packed(folder / "metrics.json.gz", packed)
        answers = await real_answers(self.story, at)
        (folder / "answers.json").write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")
        _say(f"{self.story.name}: {len(self.changes)} changes, {size // 1024} KB in {folder.name}/")

    def _fold(self) -> None:
        """Let the lists be those of the moment before the rollback was sent."""
        for _, collection, kind, thing in [c for c in self.changes if c[0] < self.sent_at]:
            uid = thing["metadata"]["uid"]
            others = [t for t in self.lists[collection] if t["metadata"]["uid"] != uid]
            self.lists[collection] = others + ([] if kind == "DELETED" else [thing])
        self.changes = [c for c in self.changes if c[0] >= self.sent_at]


def _slim(thing: Json) -> Json:
    """Without managedFields: half of every object, and nobody reads it."""
    meta = {k: v for k, v in thing["metadata"].items() if k != "managedFields"}
    return {**thing, "metadata": meta}


async def _samples(names: set[str], start: float, end: float) -> list[Json]:
    import httpx2

    services = "|".join(sorted(names))
    kinds = "http_requests_total|http_request_duration_seconds_(bucket|count)"
    seconds = int(end - start)
    queries = [
        f'{{__name__=~"{kinds}",service=~"{services}"}}[{seconds}s]',
        f"prometheus_build_info[{seconds}s]",
    ]
    found: list[Json] = []
    async with httpx2.AsyncClient(base_url=os.environ["PROMETHEUS_URL"], timeout=60) as http:
        for query in queries:
            answer = await http.post("/api/v1/query", data={"query": query, "time": f"{end:.3f}"})
            answer.raise_for_status()
            found += answer.json()["data"]["result"]
    return found


async def real_answers(story: Story, at: float) -> list[Json]:
    """What the real Prometheus answers to queries of the product, to hold the replay against.

    Args:
        story: Whose services.
        at: Second to ask at.
    """
    import httpx2

    own = f'service="{story.subject.name}"'
    counted = f"http_requests_total{{{own}}}"
    slow = f"http_request_duration_seconds_bucket{{{own}"
    everyone = "|".join(s.name for s in story.services)
    queries = [
        f"sum(increase({counted}[10s]))",
        f"sum(increase({counted}[60s]))",
        f'sum(increase(http_requests_total{{{own},status=~"5.."}}[60s]))',
        f'sum by (service) (increase(http_requests_total{{service=~"{everyone}"}}[60s]))',
        f"sum by (le) (increase({slow}}}[60s]))",
        f"1000 * histogram_quantile(0.99, sum by (le) (increase({slow}}}[10s])))",
        f'sum(increase({slow},le="+Inf"}}[20s])) - sum(increase({slow},le="0.1"}}[20s]))',
        f"max(count_over_time({counted}[60s]))",
        f"sum(rate({counted}[30s]))",
    ]
    answers = []
    async with httpx2.AsyncClient(base_url=os.environ["PROMETHEUS_URL"], timeout=60) as http:
        for query in queries:
            for when in (at - 31.7, at):
                form = {"query": query, "time": f"{when:.3f}"}
                answer = await http.post("/api/v1/query", data=form)
                answer.raise_for_status()
                result = answer.json()["data"]["result"]
                answers.append({"query": query, "time": round(when, 3), "result": result})
    return answers


async def _deploy(cluster: Cluster, services: Sequence[Service]) -> None:
    for service in services:
        releases: list[Release] = [service.before, *([service.after] if service.after else [])]
        for release in releases:
            await cluster.post(
                path_of("configmaps", namespace=NAMESPACE), config_map(service, release)
            )
        await cluster.post(deployments_path(), deployment(service))
    for service in services:
        while True:
            status = (await cluster.get(deployments_path(service.name))).get("status") or {}
            if status.get("readyReplicas") == service.replicas:
                break
            await asyncio.sleep(0.5)


async def _remove(cluster: Cluster, services: Sequence[Service]) -> None:
    async def gone(path: str) -> None:
        try:
            await cluster.delete(path, {"propagationPolicy": "Background"})
        except NotFound:
            return

    for service in services:
        await gone(deployments_path(service.name))
        for release in (service.before, service.after):
            if release is not None:
                name = config_name(service, release)
                await gone(path_of("configmaps", namespace=NAMESPACE, name=name))


def _say(text: str) -> None:
    sys.stderr.write(f"{CLOCK.now():%H:%M:%S} {text}\n")


async def record(names: Sequence[str]) -> None:
    """Record stories at the same time.

    Raises:
        KeyError: There is no story of that name.
    """
    stories = [STORIES[n] for n in names]
    services = list({s.name: s for story in stories for s in story.services}.values())
    client = KubernetesClient(KubernetesSettings.load(), CLOCK)
    cluster = await client.cluster()
    try:
        ahead = max(s.ahead_s for s in stories)
        judged = [story.subject for story in stories]
        await _deploy(cluster, [s for s in services if s not in judged])
        if ahead:
            _say(f"neighbours run {ahead:g} s ahead")
            await asyncio.sleep(ahead)
        await _deploy(cluster, judged)
        await asyncio.gather(*(Recording(cluster, s).perform() for s in stories))
    except PreconditionFailed as taken:
        _say(f"refused: {taken} {json.dumps(taken.details, default=str)}")
        raise
    finally:
        await _remove(cluster, services)
        await client.aclose()


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1:] or list(STORIES)))
