"""One cluster: requests with deadlines, retries where they are safe, and errors in our words."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from mcp_devops import __version__
from mcp_devops.errors import (
    CredentialsRejected,
    DevOpsError,
    NotConfigured,
    NotFound,
    PreconditionFailed,
    RateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mcp_devops.integrations.kubernetes import answers
from mcp_devops.integrations.kubernetes.answers import SOURCE
from mcp_devops.integrations.kubernetes.credentials import Credential, fetch
from mcp_devops.integrations.kubernetes.kubeconfig import IN_CLUSTER, ContextEntry
from mcp_devops.integrations.kubernetes.paths import Target, path_of, target_of
from mcp_devops.integrations.kubernetes.sharing import Shared
from mcp_devops.integrations.kubernetes.transport import (
    Deadline,
    TransportErrors,
    lines,
    ssl_context,
    timed_out,
)

if TYPE_CHECKING:
    import httpx2

    from mcp_devops.integrations.kubernetes.settings import KubernetesSettings
    from mcp_devops.toolkit.clock import Clock

T = TypeVar("T")
Json = dict[str, Any]
"""A decoded JSON object, as the API answered it."""

PAGE_SIZE = 500
"""Objects asked for at once, as kubectl does (its --chunk-size)."""
READ_TRIES = 3
"""Tries of a read that is answered 429."""
LONGEST_PAUSE_S = 5.0
"""A longer Retry-After is told to the caller instead of being waited for."""
KEEPALIVE_S = 30.0
"""Idle seconds before a connection is dropped: below the idle limit of common load balancers,
so that a write rarely meets a connection that the other side has just closed."""
WATCH_S = 290
"""Seconds of one watch request before it is renewed."""
ERROR_BODY_LIMIT = 64 * 1024
LINE_LIMIT = 16 * 1024 * 1024
"""Bytes of one watch event; etcd stores objects up to 1.5 MB."""
RELISTS = 3
"""Times that a list starts again because its continue token expired."""


@dataclass(frozen=True)
class Identity:
    """A credential, and the HTTP client whose TLS side fits it."""

    credential: Credential = field(repr=False)
    http: httpx2.AsyncClient


@dataclass(frozen=True)
class Stream:
    """An open answer: its status and its bytes as they come."""

    status: int
    chunks: AsyncIterator[bytes]


class Cluster:
    """One API server, as one identity.

    Methods take API paths (`paths.path_of` builds them) and return decoded JSON as it came. Each
    request has `request_timeout_s` seconds. All raise, besides what they name: CredentialsRejected,
    PermissionDenied (with the grant), NotFound, RateLimited, UpstreamTimeout, UpstreamUnavailable.
    """

    def __init__(self, entry: ContextEntry, settings: KubernetesSettings, clock: Clock) -> None:
        self.entry = entry
        self.settings = settings
        self.clock = clock
        self._credential: Credential | None = None
        self._http: httpx2.AsyncClient | None = None
        self._http_for: tuple[object, ...] = ()
        self._retired: list[tuple[float, httpx2.AsyncClient]] = []
        self._lock = anyio.Lock()
        self.remembered: dict[tuple[str, ...], float] = {}
        """Monotonic second until which a positive access review counts (`access.py`)."""
        self.shared = Shared()
        """Readings of surroundings that many calls of the same seconds need."""

    @property
    def name(self) -> str:
        """The context's name."""
        return self.entry.name

    @property
    def context(self) -> str:
        """What `Workload.cluster` holds: the context's name, empty in a pod."""
        return "" if self.entry.name == IN_CLUSTER else self.entry.name

    @property
    def namespace(self) -> str:
        """Namespace for calls that name none."""
        return self.settings.namespace or self.entry.namespace or "default"

    async def aclose(self) -> None:
        """Close the connections."""
        clients = [http for _, http in self._retired]
        if self._http is not None:
            clients.append(self._http)
        self._http, self._retired = None, []
        for http in clients:
            await http.aclose()

    # Reads

    async def get(
        self, path: str, params: Mapping[str, str | int] | None = None, *, accept: str | None = None
    ) -> Json:
        """GET one object or one page."""
        return await self._json("GET", path, params, accept=accept)

    async def find(self, resource: str, group: str, namespace: str | None, name: str) -> Json:
        """GET an object by name.

        Raises:
            NotFound: It is not there; `details["near"]` holds up to three similar names.
        """
        try:
            return await self.get(path_of(resource, group, namespace=namespace, name=name))
        except NotFound as missing:
            near = await self._similar(resource, group, namespace, name)
            if not near:
                raise
            missing.fix = f"Did you mean {', '.join(near)}? {missing.fix}"
            missing.details["near"] = near
            raise

    async def list_all(
        self, path: str, params: Mapping[str, str | int] | None = None
    ) -> list[Json]:
        """All items of a collection, page by page; begun again when it expires on the way."""
        return (await self.list_from(path, params))[0]

    async def list_from(
        self, path: str, params: Mapping[str, str | int] | None = None
    ) -> tuple[list[Json], str]:
        """All items, and the resourceVersion from which a watch goes on."""
        tries = 0
        items: list[Json] = []
        token = ""
        while True:
            query = {**(params or {}), "limit": PAGE_SIZE}
            if token:
                query["continue"] = token
            try:
                body = await self._json("GET", path, query)
            except PreconditionFailed as expired:
                tries += 1
                if expired.details.get("status") != 410 or tries > RELISTS:
                    raise
                items, token = [], ""
                continue
            items += body.get("items") or []
            meta = body.get("metadata") or {}
            token = meta.get("continue") or ""
            if not token:
                return items, str(meta.get("resourceVersion", ""))

    async def _similar(
        self, resource: str, group: str, namespace: str | None, name: str
    ) -> list[str]:
        import difflib

        try:
            body = await self.get(
                path_of(resource, group, namespace=namespace),
                {"limit": PAGE_SIZE},
                accept="application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,"
                "application/json",
            )
        except DevOpsError:
            # The names are a courtesy; that the object is missing is the answer.
            return []
        names = [str(i["metadata"]["name"]) for i in body.get("items") or []]
        return difflib.get_close_matches(name, names, n=3, cutoff=0.5)

    # Writes

    async def post(
        self,
        path: str,
        body: Json,
        params: Mapping[str, str | int] | None = None,
        *,
        changes: bool = True,
    ) -> Json:
        """POST a body.

        Args:
            path: API path.
            body: The object.
            params: Query.
            changes: False for reviews, which store nothing: those may be repeated.

        Raises:
            OutcomeUnknown: It changes something and the answer never came.
            PreconditionFailed: 409 or 422, with `details["causes"]`.
        """
        return await self._json("POST", path, params, body=body, changes=changes)

    async def patch(
        self,
        path: str,
        body: Any,
        content_type: str,
        params: Mapping[str, str | int] | None = None,
    ) -> Json:
        """PATCH an object; with `dryRun=All` in params nothing is stored.

        Raises:
            OutcomeUnknown: The answer never came.
            PreconditionFailed: 409 (it changed meanwhile) or 422, with `details["causes"]`.
        """
        return await self._json(
            "PATCH", path, params, body=body, content_type=content_type,
            changes="dryRun" not in (params or {}),
        )  # fmt: skip

    async def delete(
        self, path: str, body: Json | None = None, params: Mapping[str, str | int] | None = None
    ) -> Json:
        """DELETE an object; `body` is DeleteOptions, with preconditions where it matters.

        Raises:
            OutcomeUnknown: The answer never came.
            PreconditionFailed: A precondition did not hold.
        """
        return await self._json(
            "DELETE", path, params, body=body, changes="dryRun" not in (params or {})
        )

    # Streams

    @asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, str | int] | None = None
    ) -> AsyncIterator[Stream]:
        """Open an answer whose body is no JSON, or too long to hold: a log.

        The block has `request_timeout_s` seconds from the first byte of the answer on. Refusals
        raise as everywhere.
        """
        target = target_of("GET", path)

        async def ask(identity: Identity) -> httpx2.Response:
            return await self._send("GET", path, params, target=target, identity=identity)

        response = await self._retrying(ask, target, changes=False)
        with self._deadline(target, False), self._transport_errors(target, False):
            try:
                yield Stream(response.status_code, response.aiter_bytes())
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()

    async def watch(
        self, path: str, params: Mapping[str, str | int] | None = None
    ) -> AsyncGenerator[tuple[str, Any]]:
        """Follow a collection: ("SYNC", items) after every list, then (type, object) per change.

        A SYNC replaces the whole view. It ends only by an error that repeating cannot cure; dropped
        connections are renewed after 1, 2, 4, ... 30 seconds. Close it with `aclosing`.
        """
        version = ""
        pause = 0.0
        while True:
            try:
                if not version:
                    items, version = await self.list_from(path, params)
                    yield "SYNC", items
                async with aclosing(self._watch_once(path, params, version)) as events:
                    async for kind, thing in events:
                        version = thing.get("metadata", {}).get("resourceVersion", version)
                        pause = 0.0
                        if kind != "BOOKMARK":
                            yield kind, thing
            except PreconditionFailed as expired:
                if expired.details.get("status") != 410:
                    raise
                version = ""
            except (UpstreamUnavailable, UpstreamTimeout, RateLimited):
                pause = min(30.0, pause * 2 or 1.0)
                await anyio.sleep(pause)

    async def _watch_once(
        self, path: str, params: Mapping[str, str | int] | None, version: str
    ) -> AsyncGenerator[tuple[str, Json]]:
        query = {
            **(params or {}),
            "watch": 1,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": WATCH_S,
        }
        target = target_of("GET", path, watch=True)

        async def ask(identity: Identity) -> httpx2.Response:
            return await self._send(
                "GET", path, query, target=target, identity=identity, read_s=WATCH_S + 10
            )

        response = await self._retrying(ask, target, changes=False)
        with self._transport_errors(target, False):
            try:
                async for line in lines(response.aiter_bytes(), LINE_LIMIT):
                    event = self._decode(line, target, response)
                    thing = event.get("object") or {}
                    if event.get("type") == "ERROR":
                        raise answers.refusal(
                            int(thing.get("code") or 500), json.dumps(thing).encode(), {}, target,
                            context=self.name, sent_change=False,
                        )  # fmt: skip
                    yield str(event.get("type")), thing
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()

    # One request

    async def _json(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        body: Any = None,
        content_type: str = "application/json",
        accept: str | None = None,
        changes: bool | None = None,
    ) -> Json:
        changes = method != "GET" if changes is None else changes
        target = target_of(method, path)

        async def ask(identity: Identity) -> Json:
            response = await self._send(
                method, path, params, target=target, identity=identity, changes=changes,
                accept=accept, content=None if body is None else json.dumps(body).encode(),
                content_type=content_type,
            )  # fmt: skip
            try:
                raw = await self._read(response, target)
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
            return self._decode(raw, target, response)

        return await self._retrying(ask, target, changes)

    async def _retrying(
        self, ask: Callable[[Identity], Awaitable[T]], target: Target, changes: bool
    ) -> T:
        """Ask, and ask again where nothing can have happened.

        That is: once after a 401 with renewed credentials, up to `READ_TRIES` times a read that is
        answered 429, and once a read whose connection broke. Each try has its own deadline; the
        time that a credential plug-in takes is not part of it.
        """
        import httpx2

        broke = (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)
        rejected: Credential | None = None
        resets = tries = 0
        while True:
            identity = await self._ready(rejected)
            try:
                with self._deadline(target, changes), self._transport_errors(target, changes):
                    return await ask(identity)
            except CredentialsRejected as refused:
                if rejected is not None or refused.details.get("status") != 401:
                    raise
                rejected = identity.credential
            except UpstreamUnavailable as problem:
                resets += 1
                if changes or resets > 1 or not isinstance(problem.__cause__, broke):
                    raise
            except RateLimited as limited:
                tries += 1
                pause = float(limited.details.get("retry_after_s", 1.0))
                if changes or tries >= READ_TRIES or pause > LONGEST_PAUSE_S:
                    raise
                await anyio.sleep(pause)

    async def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int] | None,
        *,
        target: Target,
        identity: Identity,
        changes: bool = False,
        content: bytes | None = None,
        content_type: str = "application/json",
        accept: str | None = None,
        read_s: float | None = None,
    ) -> httpx2.Response:
        """Send once, and raise for anything but a success."""
        headers = {"accept": accept or "application/json"}
        if identity.credential.authorization:
            headers["authorization"] = identity.credential.authorization
        if content is not None:
            headers["content-type"] = content_type
        extensions: dict[str, Any] = {}
        if self.entry.tls_server_name:
            extensions["sni_hostname"] = self.entry.tls_server_name
        if read_s is not None:
            extensions["timeout"] = self._timeouts(read_s)
        request = identity.http.build_request(
            method, self.entry.server + path, params=params, headers=headers,
            content=content, extensions=extensions,
        )  # fmt: skip
        response = await identity.http.send(request, stream=True)
        if response.is_success:
            return response
        try:
            body = await self._read(response, target, ERROR_BODY_LIMIT)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()
        raise answers.refusal(
            response.status_code, body, response.headers, target,
            context=self.name, sent_change=changes,
        )  # fmt: skip

    async def _read(
        self, response: httpx2.Response, target: Target, cut: int | None = None
    ) -> bytes:
        limit = cut or self.settings.max_answer_mb * 1024 * 1024
        held = bytearray()
        async for chunk in response.aiter_bytes():
            held += chunk
            if len(held) > limit:
                if cut:
                    return bytes(held[:cut])
                raise UpstreamUnavailable(
                    f"The answer to {target} is larger than {self.settings.max_answer_mb} MB.",
                    fix="Narrow the question, or raise [kubernetes] max_answer_mb.",
                    source=SOURCE,
                )
        return bytes(held)

    def _decode(self, raw: bytes, target: Target, response: httpx2.Response) -> Json:
        try:
            decoded = json.loads(raw)
        except ValueError:
            decoded = None
        if not isinstance(decoded, dict):
            raise answers.not_the_api(
                target, self.name, response.headers.get("content-type", ""), response.status_code
            )
        return decoded

    def _deadline(self, target: Target, changes: bool) -> Deadline:
        seconds = self.settings.request_timeout_s
        return Deadline(
            seconds,
            lambda: (
                answers.outcome_unknown(target, f"no answer within {seconds:g} s")
                if changes
                else timed_out(target, self.name, seconds)
            ),
        )

    def _transport_errors(self, target: Target, changes: bool) -> TransportErrors:
        return TransportErrors(self.entry, target, changes, self.settings.request_timeout_s)

    # Identity and connection

    async def _ready(self, rejected: Credential | None) -> Identity:
        """The credential in force and a client whose TLS identity fits it.

        Args:
            rejected: The credential that was just answered 401; it is renewed, unless another
                request has done that already.
        """
        async with self._lock:
            held = self._credential
            due = held is not None and (
                held.renew_at is not None and self.clock.monotonic() >= held.renew_at
            )
            if held is None or due or held is rejected:
                held = await fetch(self.entry, self.clock, self.settings.exec_timeout_s)
                self._credential = held
            material = (held.certificate, held.key)
            # Certificate files rotate under the same name, so a rejection opens them again.
            stale = self._http_for != material or (rejected is not None and held.certificate)
            if self._http is None or stale:
                await self._retire()
                self._http = await self._connect(held)
                self._http_for = material
            return Identity(held, self._http)

    async def _retire(self) -> None:
        """Put the client aside; requests that still use it may end before it is closed."""
        now = self.clock.monotonic()
        if self._http is not None:
            self._retired.append((now, self._http))
            self._http = None
        for retired_at, http in list(self._retired):
            if now - retired_at > self.settings.request_timeout_s:
                self._retired.remove((retired_at, http))
                await http.aclose()

    async def _connect(self, credential: Credential) -> httpx2.AsyncClient:
        import httpx2

        context: ssl.SSLContext | bool = False
        if self.entry.server.startswith("https"):
            try:
                context = await anyio.to_thread.run_sync(
                    ssl_context, self.entry, credential, abandon_on_cancel=True
                )
            except (OSError, ssl.SSLError, ValueError) as e:
                raise NotConfigured(
                    f"The certificates of context {self.name} cannot be used"
                    f" ({type(e).__name__}: {getattr(e, 'strerror', None) or 'malformed'}).",
                    fix="Check certificate-authority, client-certificate and client-key.",
                    source=SOURCE,
                ) from e
        size = self.settings.max_connections
        try:
            return httpx2.AsyncClient(
                verify=context,
                proxy=self.entry.proxy_url,
                limits=httpx2.Limits(
                    max_connections=size,
                    max_keepalive_connections=size,
                    keepalive_expiry=KEEPALIVE_S,
                ),
                timeout=httpx2.Timeout(**self._timeouts(self.settings.request_timeout_s)),
                follow_redirects=False,
                headers={"user-agent": f"mcp-devops/{__version__}"},
            )
        except (ValueError, ImportError, httpx2.InvalidURL) as e:
            # The message would quote the URL, which may hold the proxy's password.
            raise NotConfigured(
                f"The proxy for context {self.name} cannot be used ({type(e).__name__}).",
                fix="Check proxy-url in the kubeconfig, or HTTPS_PROXY: http://host:port.",
                source=SOURCE,
            ) from None

    def _timeouts(self, read_s: float) -> dict[str, float | None]:
        return {
            "connect": self.settings.connect_timeout_s,
            "read": read_s,
            "write": self.settings.request_timeout_s,
            "pool": self.settings.request_timeout_s,
        }


__all__ = ["Cluster", "Json", "Stream"]
