"""A cluster in which many deployments roll out at once, as a process of its own on loopback.

`python -m tests.support.many_deployments --count 200 --within 60 --bad 10` prints its address. It
answers what a Kubernetes API and a Prometheus are asked, and POST /control/begin, /control/drop
(every watch is closed), /control/expire (and its version too old), GET /control/state.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mcp_devops.scenarios.patching import patched
from mcp_devops.scenarios.replay_kubernetes import KINDS
from mcp_devops.scenarios.selecting import chosen
from tests.support.many_metrics import answered
from tests.support.many_objects import HEALTHY, Change, Deployment, many

Json = dict[str, Any]

LOG = "2026-11-20T13:11:33Z panic: required key PAYMENT_URL is missing\n"


@dataclass
class Kept:
    """An object with its text."""

    thing: Json
    raw: bytes


class World:
    """All deployments, and what the server was asked."""

    def __init__(self, deployments: Iterable[Deployment]) -> None:
        self.deployments = {(d.namespace, d.name): d for d in deployments}
        self.version = 1
        self.floor = 0
        self.objects: dict[str, dict[str, Kept]] = {kind: {} for kind in KINDS}
        self.happened: dict[str, list[tuple[int, Json, bytes]]] = {kind: [] for kind in KINDS}
        self.requests: Counter[str] = Counter()
        self.rolled_out: dict[str, float] = {}
        self.dropped = 0
        self._moved = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._rollouts: dict[tuple[str, str], asyncio.Task[None]] = {}
        now = time.time()
        for deployment in self.deployments.values():
            for collection, thing in deployment.settle(now):
                self._keep(collection, thing)

    def begin(self) -> None:
        """Let time run."""
        self._spawn(self._begin())

    async def _begin(self) -> None:
        start = time.time()
        for key, deployment in self.deployments.items():
            await asyncio.sleep(max(0.0, start + deployment.begins_s - time.time()))
            changes = deployment.roll_out(time.time())
            self._rollouts[key] = self._spawn(self._play(changes))
            self.rolled_out[deployment.uid] = time.time()

    async def _play(self, changes: Iterable[Change]) -> None:
        start = time.time()
        for after, group in groupby(changes, key=lambda change: change[0]):
            made = list(group)
            await asyncio.sleep(max(0.0, start + after - time.time()))
            for _, collection, kind, thing in made:
                self.take(collection, kind, thing)

    def roll_back(self, deployment: Deployment) -> None:
        """Go back, as the controller would."""
        self._rollouts[deployment.namespace, deployment.name].cancel()
        self._spawn(self._play(deployment.roll_back(time.time())))

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def take(self, collection: str, kind: str, thing: Json) -> Json:
        """One change."""
        kept = self._keep(collection, thing, gone=kind == "DELETED")
        line = b'{"type":"%s","object":%s}\n' % (kind.encode(), kept.raw)
        self.happened[collection].append((self.version, kept.thing, line))
        self.stir()
        return kept.thing

    def _keep(self, collection: str, thing: Json, *, gone: bool = False) -> Kept:
        self.version += 1
        meta = {**thing["metadata"], "resourceVersion": str(self.version)}
        name, api = KINDS[collection]
        thing = {**thing, "kind": name, "apiVersion": api, "metadata": meta}
        kept = Kept(thing, json.dumps(thing).encode())
        if gone:
            self.objects[collection].pop(meta["uid"], None)
        else:
            self.objects[collection][meta["uid"]] = kept
        return kept

    def stir(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def drop(self, *, expire: bool) -> None:
        """Close every watch; with `expire`, what they had seen is too old to go on from."""
        if expire:
            self.version += 1
            self.floor = self.version
        self.dropped += 1
        self.stir()

    def find(self, collection: str, place: str | None, name: str) -> Kept | None:
        return next(
            (
                k
                for k in self.objects[collection].values()
                if k.thing["metadata"]["name"] == name and k.thing["metadata"]["namespace"] == place
            ),
            None,
        )

    async def watch(
        self, collection: str, place: str | None, query: Mapping[str, str]
    ) -> AsyncIterator[bytes]:
        """Lines of a watch."""
        version, dropped = int(query["resourceVersion"]), self.dropped
        if version < self.floor:
            yield b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}\n'
            return
        history = self.happened[collection]
        at = next((i for i in range(len(history), 0, -1) if history[i - 1][0] <= version), 0)
        while self.dropped == dropped:
            moved, fresh = self._moved, history[at:]
            at += len(fresh)
            for _, thing, line in fresh:
                if place in (None, thing["metadata"]["namespace"]) and chosen(thing, query):
                    yield line
            if not fresh:
                await moved.wait()


class Server:
    """Speaks as much HTTP as the clients need."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split(" ", 2)
                headers = {}
                while (raw := (await reader.readline()).strip()) != b"":
                    key, _, value = raw.decode().partition(":")
                    headers[key.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if not await self._answer(method, target, headers, body, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Answer one request; gives whether the connection stays."""
        url = urlsplit(target)
        path = unquote(url.path)
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        *_, last = path.split("/")
        if query.get("watch"):
            self.world.requests[f"watch {last}"] += 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
            writer.write(b"connection: close\r\n\r\n")
            async for line in self.world.watch(last, _place(path), query):
                writer.write(line)
                await writer.drain()
            return False
        code, answer = self._answered(method, path, query, headers, body)
        length = b"content-length: %d\r\n\r\n" % len(answer)
        writer.write(
            b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n" % code + length + answer
        )
        await writer.drain()
        return True

    def _answered(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> tuple[int, bytes]:
        world = self.world
        parts = path.strip("/").split("/")
        if parts[0] == "control":
            return 200, self._control(parts[1])
        if parts[2] in ("series", "query", "query_range"):
            world.requests[f"prometheus {parts[2]}"] += 1
            form = {k: v[0] for k, v in parse_qs(body.decode()).items()} | dict(query)
            silent = {d.name for d in world.deployments.values() if d.kind != HEALTHY}
            names = {d.name: d.namespace for d in world.deployments.values()}
            return 200, json.dumps(answered(path, form, names, silent)).encode()
        if parts[-1] == "selfsubjectaccessreviews":
            world.requests["access review"] += 1
            return 201, b'{"status":{"allowed":true}}'
        if parts[-1] == "log":
            world.requests["log"] += 1
            return 200, LOG.encode()
        place = _place(path)
        rest = parts[parts.index("namespaces") + 2 :] if place else parts[-1:]
        collection = rest[0]
        if collection not in KINDS:
            return 404, b'{"kind":"Status","code":404,"reason":"NotFound"}'
        if len(rest) > 1:
            world.requests[f"{method} one of {collection}"] += 1
            return self._one(method, collection, place, rest[1], query, headers, body)
        world.requests[f"list {collection}" + (" selected" if len(query) > 1 else "")] += 1
        found = [
            kept.raw
            for kept in world.objects[collection].values()
            if place in (None, kept.thing["metadata"]["namespace"]) and chosen(kept.thing, query)
        ]
        meta = b'{"metadata":{"resourceVersion":"%d"},"items":[' % world.version
        return 200, meta + b",".join(found) + b"]}"

    def _one(
        self,
        method: str,
        collection: str,
        place: str | None,
        name: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> tuple[int, bytes]:
        kept = self.world.find(collection, place, name)
        if kept is None:
            return 404, b'{"kind":"Status","code":404,"reason":"NotFound"}'
        if method != "PATCH":
            return 200, kept.raw
        deployment = self.world.deployments[place or "", name]
        changed = patched(kept.thing, json.loads(body), headers["content-type"])
        changed["metadata"]["generation"] += 1
        if "dryRun" in query:
            return 200, json.dumps(changed).encode()
        deployment.object = changed
        self.world.roll_back(deployment)
        return 200, json.dumps(self.world.take("deployments", "MODIFIED", changed)).encode()

    def _control(self, what: str) -> bytes:
        world = self.world
        if what == "begin":
            world.begin()
        elif what in ("drop", "expire"):
            world.drop(expire=what == "expire")
        return json.dumps(
            {
                "requests": world.requests,
                "rollouts": [
                    {
                        "namespace": d.namespace,
                        "name": d.name,
                        "uid": d.uid,
                        "kind": d.kind,
                        "at": world.rolled_out.get(d.uid),
                        "rolled_back": d.rolled_back,
                    }
                    for d in world.deployments.values()
                ],
            }
        ).encode()


def _place(path: str) -> str | None:
    _, found, rest = path.partition("/namespaces/")
    return rest.split("/")[0] if found else None


class Remote:
    """The process, as a test holds it."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def control(self, what: str) -> Json:
        import httpx2

        async with httpx2.AsyncClient(timeout=30) as http:
            found: Json = (await http.get(f"{self.url}/control/{what}")).json()
            return found


@asynccontextmanager
async def many_deployments(
    count: int, within_s: float, bad: int, namespaces: int = 8
) -> AsyncIterator[Remote]:
    """The world as a process; its deployments roll out once it is told to begin."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.many_deployments", "--count", str(count)),
        *("--within", str(within_s), "--bad", str(bad), "--namespaces", str(namespaces)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            url = (await process.stdout.readline()).decode().strip()
        yield Remote(url)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _main(arguments: argparse.Namespace) -> None:
    a = arguments
    world = World(many(a.count, a.within, a.bad, a.namespaces))
    server = await asyncio.start_server(Server(world).serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sys.stdout.write(f"http://127.0.0.1:{port}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--within", type=float, default=60)
    parser.add_argument("--bad", type=int, default=10)
    parser.add_argument("--namespaces", type=int, default=8)
    asyncio.run(_main(parser.parse_args()))
