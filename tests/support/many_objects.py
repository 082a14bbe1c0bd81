"""One deployment of many: a recorded one under its own name, and what its rollout changes when."""

from __future__ import annotations

import copy
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from mcp_devops.scenarios.recorded import load

Json = dict[str, Any]
Change = tuple[float, str, str, Json]
"""Seconds after the rollout, collection, kind of event, object."""

OLD, NEW = "647499fbb6", "cb7dcbb7"
"""Hashes of the recorded ReplicaSets."""
REPLICAS = 3
AGE_S = 3 * 3600
"""Age of what was there before the rollout."""
HEALTHY, CRASH, PULL = "healthy", "crash loop", "image pull"
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True)
class Recorded:
    """Texts of the recorded objects, with the workload's name in place of NAME."""

    deployment: str
    old_template: Json
    old_set: str
    new_set: str
    pod: str
    stages: tuple[tuple[float, str], ...]
    """Statuses of a pod that turns well: seconds after its creation, JSON."""
    crashed: str
    unpulled: str
    events: tuple[str, ...]
    """Of a pod that starts."""


@cache
def recorded() -> Recorded:
    """The parts, taken out of the recordings once."""
    crash, pull, spike = (load(n).cluster for n in ("crash-loop", "image-pull", "error-spike"))

    def one(cluster: Json, collection: str, start: str) -> Json:
        found = cluster["lists"][collection]
        return next(t for t in found if t["metadata"]["name"].startswith(start))

    def text(thing: Any, name: str) -> str:
        return json.dumps(thing).replace(name, "NAME")

    bad = one(crash, "pods", f"cart-{NEW}")
    stages = [
        (after, text(thing["status"], "payments"))
        for after, collection, _, thing in spike["changes"]
        if collection == "pods" and thing["metadata"]["name"].endswith("hgmm8")
    ]
    return Recorded(
        deployment=text(one(crash, "deployments", "cart"), "cart"),
        old_template=json.loads(text(crash["answer"]["spec"]["template"], "cart")),
        old_set=text(one(crash, "replicasets", f"cart-{OLD}"), "cart"),
        new_set=text(one(crash, "replicasets", f"cart-{NEW}"), "cart"),
        pod=text({**bad, "status": {}}, "cart"),
        stages=tuple(stages),
        crashed=text(bad["status"], "cart"),
        unpulled=text(one(pull, "pods", "search-6ccdc86cc")["status"], "search"),
        events=tuple(
            text(event, "cart")
            for event in crash["lists"]["events"]
            if event["involvedObject"]["name"] == bad["metadata"]["name"]
            and event["reason"] in ("Scheduled", "Pulled", "Created", "Started")
        ),
    )


@dataclass
class Deployment:
    """One of many.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        kind: HEALTHY, CRASH or PULL: what its rollout will be.
        begins_s: Second at which it rolls out.
    """

    namespace: str
    name: str
    kind: str
    begins_s: float
    object: Json = field(default_factory=dict)
    sets: dict[str, Json] = field(default_factory=dict)
    pods: dict[str, Json] = field(default_factory=dict)
    number: int = 1
    rolled_back: int = 0

    @property
    def uid(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.namespace}/{self.name}"))

    def settle(self, now: float) -> Iterator[tuple[str, Json]]:
        """The healthy state of hours ago: the objects that a list gives first."""
        then = now - AGE_S
        self.object = self._made(recorded().deployment, then, self.uid)
        self.object["metadata"]["generation"] = 1
        self.object["spec"]["template"] = self._named(recorded().old_template)
        self.object["status"]["conditions"][1] |= {
            "status": "True",
            "reason": "NewReplicaSetAvailable",
            "message": "",
        }
        self._status(REPLICAS, REPLICAS, REPLICAS)
        yield "deployments", self.object
        yield "replicasets", self._set(OLD, then, REPLICAS, REPLICAS)
        for number in range(REPLICAS):
            yield "pods", self._pod(OLD, f"old0{number}", recorded().stages[-1][1], then)

    def roll_out(self, now: float) -> Iterator[Change]:
        """What happens, from the moment of a new template on."""
        new = json.loads(recorded().deployment.replace("NAME", self.name))
        self.object = copy.deepcopy(self.object)
        self.object["metadata"]["generation"] = 2
        self.object["spec"]["template"] = new["spec"]["template"]
        yield 0.0, "deployments", "MODIFIED", self.object
        self.number = 2
        yield 0.02, "replicasets", "ADDED", self._set(NEW, now, 1, 0)
        yield 0.05, "deployments", "MODIFIED", self._progress(now, 1, REPLICAS)
        yield from self._well(now) if self.kind == HEALTHY else self._badly(now)

    def _well(self, now: float) -> Iterator[Change]:
        for number in range(REPLICAS):
            base = 0.06 + 4.0 * number
            name = f"new0{number}"
            for index, (after, status) in enumerate(recorded().stages):
                kind = "MODIFIED" if index else "ADDED"
                pod = self._pod(NEW, name, status, now + base + after)
                yield base + after, "pods", kind, pod
            for event in self._events(name, now + base):
                yield base + 0.3, "events", "ADDED", event
            old = REPLICAS - 1 - number
            at = base + recorded().stages[-1][0]
            more = min(REPLICAS, number + 2)
            yield at + 0.01, "replicasets", "MODIFIED", self._set(NEW, now, more, number + 1)
            yield at + 0.02, "deployments", "MODIFIED", self._progress(now, number + 1, REPLICAS)
            yield at + 0.03, "replicasets", "MODIFIED", self._set(OLD, now - AGE_S, old, old)
            gone = self.pods[f"{self.name}-{OLD}-old0{old}"]
            gone = {**gone, "metadata": {**gone["metadata"], "deletionTimestamp": _stamp(now + at)}}
            yield at + 0.04, "pods", "MODIFIED", gone
            yield at + 1.2, "pods", "DELETED", gone
        last = 0.06 + 4.0 * REPLICAS
        yield last, "deployments", "MODIFIED", self._progress(now, REPLICAS, REPLICAS, done=True)

    def _badly(self, now: float) -> Iterator[Change]:
        """All pods are replaced at once, and not one of the new ones serves."""
        for name in [n for n in self.pods if OLD in n]:
            yield 0.06, "pods", "DELETED", self.pods.pop(name)
        yield 0.06, "replicasets", "MODIFIED", self._set(OLD, now - AGE_S, 0, 0)
        yield 0.06, "replicasets", "MODIFIED", self._set(NEW, now, REPLICAS, 0)
        yield 0.06, "deployments", "MODIFIED", self._progress(now, REPLICAS, 0)
        names = [f"new0{number}" for number in range(REPLICAS)]
        for index, (after, status) in enumerate(recorded().stages[:3]):
            kind = "MODIFIED" if index else "ADDED"
            for name in names:
                yield 0.1 + after, "pods", kind, self._pod(NEW, name, status, now)
        for name in names:
            for event in self._events(name, now):
                yield 1.0, "events", "ADDED", event
        states = [(2.0, "ErrImagePull", 0), (15.0, "ImagePullBackOff", 0)]
        if self.kind == CRASH:
            states = [(at, "CrashLoopBackOff", n) for n, at in enumerate((4.0, 7.0, 22.0, 48.0))]
        text = recorded().crashed if self.kind == CRASH else recorded().unpulled
        for at, reason, restarts in states:
            for name in names:
                pod = self._waiting(name, text, reason, restarts, now + at)
                yield at, "pods", "MODIFIED", pod

    def roll_back(self, now: float) -> Iterator[Change]:
        """What happens after the old template was asked for again."""
        self.number = 3
        self.rolled_back += 1
        yield 0.01, "replicasets", "MODIFIED", self._set(OLD, now - AGE_S, REPLICAS, 0)
        yield 0.02, "replicasets", "MODIFIED", self._set(NEW, now, 0, 0)
        yield 0.03, "deployments", "MODIFIED", self._progress(now, REPLICAS, 0)
        for name in [n for n in self.pods if NEW in n]:
            yield 0.5, "pods", "DELETED", self.pods.pop(name)
        for index, (after, status) in enumerate(recorded().stages):
            for number in range(REPLICAS):
                pod = self._pod(OLD, f"back0{number}", status, now + after)
                yield 0.5 + after, "pods", "MODIFIED" if index else "ADDED", pod
        yield 4.5, "replicasets", "MODIFIED", self._set(OLD, now - AGE_S, REPLICAS, REPLICAS)
        yield 4.6, "deployments", "MODIFIED", self._progress(now, REPLICAS, REPLICAS, done=True)

    # Objects

    def _named(self, thing: Any) -> Any:
        return json.loads(json.dumps(thing).replace("NAME", self.name))

    def _made(self, text: str, at: float, uid: str) -> Json:
        """A recorded object as ours, with all its times moved to one moment."""
        made: Json = json.loads(_STAMP.sub(_stamp(at), text.replace("NAME", self.name)))
        made["metadata"] |= {"namespace": self.namespace, "uid": uid}
        return made

    def _own(self, name: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.namespace}/{name}"))

    def _owned(self, made: Json, kind: str, uid: str) -> None:
        assert made["metadata"]["ownerReferences"][0]["kind"] == kind
        made["metadata"]["ownerReferences"][0]["uid"] = uid

    def _set(self, which: str, at: float, wanted: int, ready: int) -> Json:
        name = f"{self.name}-{which}"
        text = recorded().old_set if which == OLD else recorded().new_set
        made = self._made(text, at, self._own(name))
        self._owned(made, "Deployment", self.uid)
        number = {NEW: 2, OLD: 3 if self.number == 3 else 1}[which]
        made["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = str(number)
        made["spec"]["replicas"] = wanted
        made["status"] = {
            "replicas": wanted,
            "fullyLabeledReplicas": wanted,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "observedGeneration": 1,
        }
        self.sets[which] = made
        return made

    def _pod(self, which: str, suffix: str, status: str, at: float) -> Json:
        name = f"{self.name}-{which}-{suffix}"
        text = recorded().pod.replace("NAME-cb7dcbb7-vtbr4", name).replace(NEW, which)
        made = self._made(text, at, self._own(name))
        made["metadata"]["name"] = name
        self._owned(made, "ReplicaSet", self._own(f"{self.name}-{which}"))
        made["status"] = json.loads(_STAMP.sub(_stamp(at), status.replace("NAME", self.name)))
        self.pods[name] = made
        return made

    def _events(self, suffix: str, at: float) -> Iterator[Json]:
        name = f"{self.name}-{NEW}-{suffix}"
        for number, text in enumerate(recorded().events):
            called = f"{name}.{number}"
            made = self._made(text.replace("NAME-cb7dcbb7-vtbr4", name), at, self._own(called))
            made["metadata"]["name"] = called
            made["involvedObject"] |= {"namespace": self.namespace, "uid": self._own(name)}
            yield made

    def _waiting(self, name: str, status: str, reason: str, restarts: int, at: float) -> Json:
        made = self._pod(NEW, name, status, at)
        (held,) = made["status"]["containerStatuses"]
        held["state"]["waiting"]["reason"] = reason
        held["restartCount"] = restarts
        return made

    def _progress(self, now: float, updated: int, ready: int, *, done: bool = False) -> Json:
        self.object = copy.deepcopy(self.object)
        notes = self.object["metadata"].setdefault("annotations", {})
        notes["deployment.kubernetes.io/revision"] = str(self.number)
        self.object["status"]["conditions"][1] |= {
            "status": "True",
            "reason": "NewReplicaSetAvailable" if done else "ReplicaSetUpdated",
            "lastUpdateTime": _stamp(now),
        }
        self._status(REPLICAS + (not done and ready > 0), updated, ready)
        return self.object

    def _status(self, replicas: int, updated: int, ready: int) -> None:
        self.object["status"] |= {
            "observedGeneration": self.object["metadata"]["generation"],
            "replicas": replicas,
            "updatedReplicas": updated,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": replicas - ready,
        }


def many(count: int, within_s: float, bad: int, namespaces: int) -> list[Deployment]:
    """Deployments that roll out evenly within so many seconds, bad ones strewn among them."""
    every = count // bad if bad else count + 1
    made = []
    for i in range(count):
        kind = (CRASH, PULL)[(i // every) % 2] if i % every == every // 2 else HEALTHY
        place = f"team-{i % namespaces}"
        made.append(Deployment(place, f"svc-{i:03d}", kind, within_s * i / count))
    return made


def _stamp(at: float) -> str:
    return (datetime.fromtimestamp(0, UTC) + timedelta(seconds=int(at))).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
