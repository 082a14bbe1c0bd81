"""A small workload controller behind a loopback Kubernetes API: objects in memory, real sockets.

It stores what is patched, checks resourceVersions, makes ReplicaSets or ControllerRevisions and
renumbers them as the real controllers do. Pods are ready at once.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.revisions import REVISION, REVISION_HISTORY, template_of
from mcp_devops.model.target import Workload, WorkloadKind
from tests.support.kubernetes_api import Asked, Reply, client_of, ok, serving, status
from tests.support.kubernetes_api import write_kubeconfig as write_config

Json = dict[str, Any]
NAME = "checkout"
CREATED = "2026-11-20T10:00:{:02d}Z"
WATCH_S = 2.0
"""Seconds a watch stays open without an event; it is renewed then, as after a real one's end."""


def template(**container: Any) -> Json:
    return {
        "metadata": {"labels": {"app": NAME}},
        "spec": {"containers": [{"name": NAME, "image": "shop:1", **container}]},
    }


class Workshop:
    """One workload, its revisions and its pods."""

    def __init__(self, kind: WorkloadKind = WorkloadKind.DEPLOYMENT, **spec: Any) -> None:
        self.kind = kind
        self.target = Workload(cluster="test", namespace="shop", kind=kind, name=NAME)
        self.version = 100
        self.holders: list[Json] = []
        self.pods: list[Json] = []
        self.patches: list[Asked] = []
        self.answer: Callable[[Asked], Reply | None] = lambda _: None
        """Called before any request is looked at; a Reply is answered instead."""
        self.on_patch: Callable[[Asked], Reply | None] = lambda _: None
        """Called before a patch is looked at; a Reply is answered instead."""
        self.after_patch: Callable[[Asked], Reply | None] = lambda _: None
        """Called after a patch was stored; a Reply is answered instead of the object."""
        self._moved = asyncio.Event()
        self.object: Json = {
            "metadata": {
                "name": NAME, "namespace": "shop", "uid": "u-1", "generation": 1,
                "resourceVersion": "100", "annotations": {},
            },
            "spec": {
                "selector": {"matchLabels": {"app": NAME}}, "template": template(), **spec,
            },
            "status": {},
        }  # fmt: skip
        if kind is not WorkloadKind.DAEMON_SET:
            self.object["spec"].setdefault("replicas", 2)
        self.control()

    @property
    def sent(self) -> list[Asked]:
        """Patches that were no dry run."""
        return [p for p in self.patches if "dryRun" not in p.query]

    def deploy(self, **container: Any) -> None:
        """Somebody rolls out another template."""
        self.object["spec"]["template"] = template(**container)
        self.object["metadata"]["generation"] += 1
        self.control()

    def touch(self) -> None:
        """Something else about the object moves, as each status write does."""
        self.version += 1
        self.object["metadata"]["resourceVersion"] = str(self.version)
        self._moved.set()
        self._moved = asyncio.Event()

    def control(self) -> None:
        """What the controller does: number the template, count the pods."""
        if not self.object["spec"].get("paused"):
            number = self._number()
            self.object["metadata"]["annotations"][REVISION] = str(number)
        count = 1 if self.kind is WorkloadKind.DAEMON_SET else self.object["spec"]["replicas"]
        self.object["status"] = {
            "observedGeneration": self.object["metadata"]["generation"],
            "replicas": count, "updatedReplicas": count, "readyReplicas": count,
            "availableReplicas": count, "desiredNumberScheduled": count, "numberReady": count,
            "updatedNumberScheduled": count, "numberAvailable": count,
            "currentNumberScheduled": count,
        }  # fmt: skip
        self.touch()

    def _number(self) -> int:
        live = template_of(self.object)
        newest = max((self._of(h) for h in self.holders), default=0)
        held = next((h for h in self.holders if template_of(h) == live), None)
        if held is not None and self._of(held) == newest:
            return newest
        if held is None:
            held = self._holder()
            self.holders.append(held)
        self._renumber(held, newest + 1)
        self._pods(held)
        return newest + 1

    def _of(self, holder: Json) -> int:
        return int(holder.get("revision") or holder["metadata"]["annotations"].get(REVISION, 0))

    def _renumber(self, holder: Json, number: int) -> None:
        old = self._of(holder)
        if self.kind is not WorkloadKind.DEPLOYMENT:
            holder["revision"] = number
            return
        notes = holder["metadata"]["annotations"]
        if old:
            notes[REVISION_HISTORY] = str(old)
        notes[REVISION] = str(number)

    def _holder(self) -> Json:
        number = len(self.holders) + 1
        owner = {"kind": self.kind.value, "name": NAME, "uid": "u-1", "controller": True}
        made = copy.deepcopy(self.object["spec"]["template"])
        meta: Json = {
            "name": f"{NAME}-{number}", "uid": f"h-{number}", "ownerReferences": [owner],
            "creationTimestamp": CREATED.format(number), "annotations": {"team": f"v{number}"},
            "labels": {"controller-revision-hash": f"{NAME}-{number}"},
        }  # fmt: skip
        if self.kind is WorkloadKind.DEPLOYMENT:
            made["metadata"]["labels"]["pod-template-hash"] = f"hash{number}"
            return {"metadata": meta, "spec": {"template": made}, "status": {}}
        return {"metadata": meta, "data": {"spec": {"template": {**made, "$patch": "replace"}}}}

    def _pods(self, holder: Json) -> None:
        deployment = self.kind is WorkloadKind.DEPLOYMENT
        owner = holder if deployment else self.object
        count = self.object["spec"].get("replicas", 1)
        self.pods = [
            {
                "metadata": {
                    "name": f"{holder['metadata']['name']}-{i}",
                    "uid": f"p-{holder['metadata']['uid']}-{i}",
                    "creationTimestamp": holder["metadata"]["creationTimestamp"],
                    "labels": {"controller-revision-hash": holder["metadata"]["name"]},
                    "ownerReferences": [{"uid": owner["metadata"]["uid"], "controller": True}],
                },
                "status": {
                    "phase": "Running",
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "containerStatuses": [{"name": NAME, "restartCount": 0, "ready": True}],
                },
            }
            for i in range(count)
        ]

    # HTTP

    async def __call__(self, asked: Asked) -> Reply:
        if (instead := self.answer(asked)) is not None:
            return instead
        resource = self.kind.resource
        if asked.path.endswith(f"/{resource}/{NAME}"):
            return self._patch(asked) if asked.method == "PATCH" else ok(self.object)
        if asked.method != "GET":
            return status(405, "no such method")
        lists = {
            resource: [self.object],
            "replicasets": self.holders,
            "controllerrevisions": self.holders,
            "pods": self.pods,
            "horizontalpodautoscalers": [],
            "events": [],
        }
        last = asked.path.rsplit("/", 1)[-1]
        if last not in lists:
            return status(404, f"{asked.path} not found", "NotFound")
        if "watch" in asked.query:
            return await self._watched(asked, lists[last])
        return ok({"items": lists[last], "metadata": {"resourceVersion": str(self.version)}})

    async def _watched(self, asked: Asked, items: list[Json]) -> Reply:
        if asked.query["resourceVersion"] == str(self.version):
            try:
                async with asyncio.timeout(WATCH_S):
                    await self._moved.wait()
            except TimeoutError:
                return Reply(body=b"")
        latest = [copy.deepcopy(i) for i in items]
        for item in latest:
            item["metadata"]["resourceVersion"] = str(self.version)
        lines = [json.dumps({"type": "MODIFIED", "object": i}) for i in latest]
        return Reply(body="\n".join(lines).encode())

    def _patch(self, asked: Asked) -> Reply:
        self.patches.append(asked)
        if (instead := self.on_patch(asked)) is not None:
            return instead
        changed = patched(self.object, asked)
        if changed["metadata"]["resourceVersion"] != self.object["metadata"]["resourceVersion"]:
            return status(409, "the object has been modified", "Conflict")
        if changed["spec"] != self.object["spec"]:
            changed["metadata"]["generation"] += 1
        if "dryRun" in asked.query:
            return ok(changed)
        self.object = changed
        answer = copy.deepcopy(changed)
        self.control()
        return self.after_patch(asked) or ok(answer)


def patched(thing: Json, asked: Asked) -> Json:
    """The object after a patch of the three kinds, as far as these tests send them."""
    result = copy.deepcopy(thing)
    if asked.headers["content-type"] == "application/json-patch+json":
        for operation in asked.json:
            *way, last = operation["path"].strip("/").split("/")
            place = result
            for step in way:
                place = place[step]
            place[last] = operation["value"]
    else:
        merge(result, asked.json)
    return result


def merge(into: Json, change: Json) -> None:
    for key, value in change.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and value.get("$patch") == "replace":
            into[key] = {k: v for k, v in value.items() if k != "$patch"}
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


@asynccontextmanager
async def cluster_of(shop: Workshop, tmp_path: Path, **settings: Any) -> AsyncIterator[Cluster]:
    """A cluster that this workshop serves."""
    async with (
        serving(shop) as api,
        client_of(write_config(tmp_path, api.url), **settings) as client,
    ):
        cluster: Cluster = await client.cluster()
        yield cluster
