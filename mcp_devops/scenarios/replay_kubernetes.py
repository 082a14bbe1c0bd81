"""A Kubernetes API server that plays a recording: reads, watches, logs, reviews, and one patch."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from mcp_devops.scenarios.patching import BadPatch, Stale, patched
from mcp_devops.scenarios.selecting import chosen
from mcp_devops.scenarios.world import World

Json = dict[str, Any]

KINDS = {
    "deployments": ("Deployment", "apps/v1"),
    "statefulsets": ("StatefulSet", "apps/v1"),
    "daemonsets": ("DaemonSet", "apps/v1"),
    "replicasets": ("ReplicaSet", "apps/v1"),
    "controllerrevisions": ("ControllerRevision", "apps/v1"),
    "pods": ("Pod", "v1"),
    "events": ("Event", "v1"),
    "horizontalpodautoscalers": ("HorizontalPodAutoscaler", "autoscaling/v1"),
}
"""What can be read; what was not recorded is empty."""
WAKE_S = 0.25
"""Seconds between repetitions in hurried time. A client that waits by the machine's clock for a
rollout to stay calm would oversleep; an event that repeats what it knows makes it look again."""
USER = "demo-agent"
REASONS = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound",
    405: "MethodNotAllowed", 409: "Conflict", 422: "Invalid",
}  # fmt: skip


def kubernetes_app(world: World, token: str) -> Starlette:
    """The API of the recorded cluster, for clients that show the token."""
    return Starlette(
        routes=[
            Route("/version", _Guarded(world, token, _version)),
            Route(
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                _Guarded(world, token, _review),
                methods=["POST"],
            ),
            Route("/api/v1/namespaces/{namespace}/pods/{name}/log", _Guarded(world, token, _log)),
            *(
                Route(f"{prefix}{rest}", _Guarded(world, token, serve), methods=methods)
                for prefix in ("/api/{version}", "/apis/{group}/{version}")
                for rest, serve, methods in (
                    ("/namespaces/{namespace}/{collection}", _list, ["GET", "POST", "DELETE"]),
                    (
                        "/namespaces/{namespace}/{collection}/{name}",
                        _object,
                        ["GET", "PATCH", "PUT", "DELETE"],
                    ),
                    ("/{collection}", _list, ["GET", "POST"]),
                )
            ),
            Route(
                "/{rest:path}",
                _Guarded(world, token, _unknown),
                methods=["GET", "POST", "PATCH", "PUT", "DELETE"],
            ),
        ]
    )


class _Guarded:
    """An endpoint that asks for the token first."""

    def __init__(self, world: World, token: str, serve: Any) -> None:
        self._world, self._token, self._serve = world, token, serve

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        if request.headers.get("authorization") != f"Bearer {self._token}":
            response: Response = status(401, "Unauthorized")
        else:
            response = await self._serve(self._world, request)
        await response(scope, receive, send)


def status(code: int, message: str, **details: Any) -> JSONResponse:
    """A failure as the API server words it."""
    return JSONResponse(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": REASONS.get(code, "InternalError"),
            "details": details,
            "code": code,
        },
        code,
    )


async def _version(world: World, request: Request) -> Response:
    return JSONResponse(world.scenario.cluster["version"])


async def _unknown(world: World, request: Request) -> Response:
    return status(404, "the server could not find the requested resource")


async def _review(world: World, request: Request) -> Response:
    body = await request.json()
    asked = (body.get("spec") or {}).get("resourceAttributes") or {}
    allowed = asked.get("namespace") == world.namespace
    reason = "the demo's user may do everything in its own namespace" if allowed else ""
    return JSONResponse({**body, "status": {"allowed": allowed, "reason": reason}}, 201)


def _refusal(world: World, request: Request) -> Response | None:
    """Why this request cannot be served, before anything is looked up."""
    collection = request.path_params["collection"]
    namespace = request.path_params.get("namespace")
    group = request.path_params.get("group", "")
    # Events of nodes lie in "default"; the recorded cluster's node had none.
    open_too = collection == "events" and namespace == "default" and request.method == "GET"
    if namespace != world.namespace and not open_too:
        verb = "get" if "name" in request.path_params else "list"
        where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
        return status(
            403,
            f'{collection} is forbidden: User "{USER}" cannot {verb} resource "{collection}" in'
            f' API group "{group}" {where}',
            kind=collection,
        )
    if collection not in KINDS:
        return status(404, "the server could not find the requested resource")
    if request.method not in ("GET", "PATCH"):
        return status(
            405,
            "this is a recorded cluster: it can be read, and the one rollback can be made",
            kind=collection,
        )
    return None


async def _list(world: World, request: Request) -> Response:
    if refusal := _refusal(world, request):
        return refusal
    collection, query = request.path_params["collection"], request.query_params
    if request.path_params["namespace"] != world.namespace:
        return _collection(collection, [], 1)
    if query.get("watch") in ("1", "true"):
        return StreamingResponse(_watch(world, collection, query), media_type="application/json")
    found = [t for t in world.objects(collection) if chosen(t, query)]
    return _collection(collection, found, world.version(collection))


def _collection(collection: str, items: list[Json], version: int) -> Response:
    kind, api = KINDS[collection]
    meta = {"resourceVersion": str(version)}
    return JSONResponse(
        {"kind": f"{kind}List", "apiVersion": api, "metadata": meta, "items": items}
    )


async def _watch(world: World, collection: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
    """Changes after the asked resourceVersion, as they happen, until the time asked for is up."""
    kind, api = KINDS[collection]
    since = query.get("resourceVersion", "")
    version = int(since) if since.isdecimal() else world.version(collection)
    ends = world.clock.monotonic() + float(query.get("timeoutSeconds", "1800"))
    sent = 0
    last: Json | None = None
    while world.clock.monotonic() < ends:
        changes = world.happened.get(collection, [])
        fresh = [c for c in changes[sent:] if c.version > version and chosen(c.thing, query)]
        sent = len(changes)
        for change in fresh:
            last = None if change.kind == "DELETED" else change.thing
            yield _event(change.kind, {"kind": kind, "apiVersion": api, **change.thing})
        if not fresh and last is not None and world.clock.speed > 1:
            yield _event("MODIFIED", {"kind": kind, "apiVersion": api, **last})
        hurried = world.clock.speed > 1
        if sent == len(world.happened.get(collection, [])):
            await world.wait(WAKE_S if hurried else 30.0)


def _event(kind: str, thing: Json) -> bytes:
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


async def _object(world: World, request: Request) -> Response:
    if refusal := _refusal(world, request):
        return refusal
    collection, name = request.path_params["collection"], request.path_params["name"]
    found = world.find(collection, name)
    if found is None:
        return status(404, f'{collection} "{name}" not found', name=name, kind=collection)
    kind, api = KINDS[collection]
    whole = {"kind": kind, "apiVersion": api, **found}
    if request.method == "GET":
        return JSONResponse(whole)
    return await _patch(world, request, whole)


async def _patch(world: World, request: Request, live: Json) -> Response:
    collection, name = request.path_params["collection"], request.path_params["name"]
    try:
        body = json.loads(await request.body())
        content_type = request.headers.get("content-type", "").partition(";")[0].strip()
        result = patched(live, body, content_type)
    except Stale as stale:
        return status(
            409,
            f'Operation cannot be fulfilled on {collection} "{name}": the object has been modified;'
            f" please apply your changes to the latest version and try again ({stale})",
            name=name,
            kind=collection,
        )
    except (BadPatch, json.JSONDecodeError) as bad:
        return status(422, f"the server rejected our request: {bad}", name=name, kind=collection)
    wanted = world.scenario.cluster["answer"]
    if result["spec"] == live["spec"]:
        return JSONResponse(live)
    same = {**result["spec"], "template": None} == {**live["spec"], "template": None}
    if world.turned_at is not None or not (
        same and name == wanted["metadata"]["name"]
        and result["spec"]["template"] == wanted["spec"]["template"]
    ):  # fmt: skip
        return status(
            422,
            f"this is a recording: it holds what happened after {wanted['metadata']['name']} was"
            " returned to its previous template, once, and nothing else",
            name=name,
            kind=collection,
            causes=[{"reason": "FieldValueInvalid", "message": "not recorded", "field": "spec"}],
        )
    if request.query_params.get("dryRun") == "All":
        result["metadata"]["generation"] = live["metadata"]["generation"] + 1
        return JSONResponse(result)
    answer = world.roll_back()
    return JSONResponse({**answer, "kind": live["kind"], "apiVersion": live["apiVersion"]})


async def _log(world: World, request: Request) -> Response:
    name, query = request.path_params["name"], request.query_params
    pod = world.find("pods", name)
    if request.path_params["namespace"] != world.namespace or pod is None:
        return status(404, f'pods "{name}" not found', name=name, kind="pods")
    containers = [c["name"] for c in pod["spec"]["containers"]]
    container = query.get("container", containers[0])
    if container not in containers:
        return status(400, f"container {container} is not valid for pod {name}")
    found = world.log(name, query.get("previous") == "true")
    if found is None:
        return status(400, f'container "{container}" in pod "{name}" is waiting to start')
    if "text" not in found:
        return status(int(found["code"]), str(found["message"]))
    lines = [line for line in found["text"].splitlines() if _second(line) <= world.now()]
    if "tailLines" in query:
        count = int(query["tailLines"])
        lines = lines[-count:] if count else []
    since = _since(world, query)
    if since is not None:
        lines = [line for line in lines if _second(line) >= since]
    if query.get("timestamps") != "true":
        lines = [line.partition(" ")[2] for line in lines]
    return PlainTextResponse("".join(f"{line}\n" for line in lines))


def _second(line: str) -> float:
    stamp = line.partition(" ")[0]
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", stamp)).timestamp()
    except ValueError:
        return 0.0


def _since(world: World, query: Mapping[str, str]) -> float | None:
    if "sinceSeconds" in query:
        return world.now() - float(query["sinceSeconds"])
    if "sinceTime" in query:
        return datetime.fromisoformat(query["sinceTime"]).timestamp()
    return None
