"""One container's log: the right run of it, its newest end, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from mcp_devops.errors import DevOpsError, InvalidArguments, NotFound
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.podstate import Termination, exit_words, words
from mcp_devops.integrations.kubernetes.revisions import Json, metadata_of, moment
from mcp_devops.text.logs import LogLine

NOT_RETRIEVED = b"unable to retrieve container logs for"
"""Body of a 200 that the kubelet sends when the container is already removed: no log."""


class Run(StrEnum):
    """Which run of a container."""

    AUTO = "auto"
    """The crashed one of a container that crashed, else the running one."""
    CURRENT = "current"
    PREVIOUS = "previous"


@dataclass(frozen=True)
class LogWish:
    """What to read of each container."""

    tail: int
    run: Run = Run.AUTO
    since_s: int | None = None
    since: datetime | None = None
    keep_bytes: int = 256 * 1024
    """Newest bytes kept of a stream. `limitBytes` would keep the oldest and lose the crash."""


@dataclass(frozen=True)
class ContainerLog:
    """What was read of one container."""

    pod: str
    container: str
    run: str
    """Which run it is, in words."""
    lines: tuple[LogLine, ...] = ()
    """Raw lines, oldest first: not cleaned yet."""
    cut_bytes: int = 0
    """Older bytes that were read and dropped."""
    why_none: str = ""
    """Why there is no log; empty where there is one."""


def container_status(pod: Json, container: str) -> Json:
    """The status entry of a container; empty before there is one."""
    status = pod.get("status") or {}
    for key in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for entry in status.get(key) or ():
            if entry.get("name") == container:
                found: Json = entry
                return found
    return {}


def last_end(entry: Json) -> Termination | None:
    """How the container's newest finished run ended."""
    for state in (entry.get("state") or {}, entry.get("lastState") or {}):
        end = state.get("terminated")
        if end:
            return Termination(
                container=str(entry.get("name", "")),
                exit_code=int(end.get("exitCode") or 0),
                reason=str(end.get("reason", "")),
                message="",
                started_at=moment(end.get("startedAt")),
                finished_at=moment(end.get("finishedAt")),
            )
    return None


def runs_to_try(entry: Json, run: Run, *, failing: bool) -> list[tuple[bool, str]]:
    """(previous, description) in the order to try; the second where the first has no log.

    While a container waits or has just ended, its newest finished run is the current one; once it
    runs again, the finished run is the previous one. The kubelet may have removed either.

    Args:
        entry: The container's status.
        run: What the caller wants.
        failing: Whether the pod is in trouble, so that its crash is what matters.
    """
    end = last_end(entry)
    crashed = f"finished run: {exit_words(end)}" if end else "previous run"
    if run is Run.PREVIOUS:
        if "running" not in (entry.get("state") or {}) and end:
            return [(True, crashed), (False, crashed)]
        return [(True, crashed)]
    running = "running" in (entry.get("state") or {})
    if run is Run.CURRENT:
        return [(False, "current run" if running else crashed if end else "current run")]
    if running:
        if end and failing:
            return [(True, crashed), (False, "current run, the crashed one is gone")]
        return [(False, "current run")]
    return [(False, crashed), (True, crashed)] if end else [(False, "current run")]


async def read_container(
    cluster: Cluster, pod: Json, container: str, wish: LogWish, *, failing: bool
) -> ContainerLog:
    """Read one container's log, falling back to its other run.

    Raises:
        PermissionDenied: And every other failure that is not "there is no log".
    """
    name = str(metadata_of(pod).get("name", ""))
    entry = container_status(pod, container)
    why = ""
    run = ""
    for previous, run in runs_to_try(entry, wish.run, failing=failing):
        try:
            raw, cut = await _read(cluster, pod, container, wish, previous=previous)
        except (InvalidArguments, NotFound) as no_log:
            # The first reason is about the run that was wanted.
            why = why or words(no_log.upstream or no_log.what)
            continue
        if raw.lstrip().startswith(NOT_RETRIEVED):
            why = why or "the container of that run is already removed"
            continue
        if not raw.strip():
            why = why or _nothing(pod, entry, wish)
            continue
        return ContainerLog(name, container, run, tuple(parse_lines(raw, bool(cut))), cut)
    return ContainerLog(name, container, run, why_none=why)


def _nothing(pod: Json, entry: Json, wish: LogWish) -> str:
    if not (pod.get("spec") or {}).get("nodeName"):
        return "the pod has no node yet"
    waiting = (entry.get("state") or {}).get("waiting") or {}
    if waiting.get("reason") and not last_end(entry):
        return f"the container has not started ({waiting['reason']})"
    if wish.since or wish.since_s:
        return "nothing was written in that time"
    return "nothing was written"


async def _read(
    cluster: Cluster, pod: Json, container: str, wish: LogWish, *, previous: bool
) -> tuple[bytes, int]:
    meta = metadata_of(pod)
    params: dict[str, str | int] = {
        "container": container,
        "tailLines": wish.tail,
        "timestamps": "true",
    }
    if previous:
        params["previous"] = "true"
    if wish.since is not None:
        params["sinceTime"] = wish.since.isoformat().replace("+00:00", "Z")
    elif wish.since_s is not None:
        params["sinceSeconds"] = wish.since_s
    path = path_of("pods", namespace=meta["namespace"], name=meta["name"], subresource="log")
    held = bytearray()
    total = 0
    async with cluster.stream(path, params) as stream:
        async for chunk in stream.chunks:
            held += chunk
            total += len(chunk)
            # Trimmed in large steps: moving the bytes for every chunk would be quadratic.
            if len(held) > 2 * wish.keep_bytes:
                del held[: len(held) - wish.keep_bytes]
    if len(held) > wish.keep_bytes:
        del held[: len(held) - wish.keep_bytes]
    return bytes(held), total - len(held)


def parse_lines(raw: bytes, cut: bool) -> list[LogLine]:
    """Split a log into lines and take the kubelet's time off each.

    Args:
        raw: Bytes of the log; any bytes.
        cut: Whether older bytes are missing before it: then the first line is a rest, and is
            dropped unless it is all there is.
    """
    parts = raw.split(b"\n")
    if parts and not parts[-1]:
        parts.pop()
    if cut and parts:
        # The first line lost its beginning, and with it perhaps the name before a secret.
        parts = parts[1:] if len(parts) > 1 else [parts[0].partition(b" ")[2] or parts[0]]
    return [_line(part.decode("utf-8", "replace").rstrip("\r")) for part in parts]


def _line(text: str) -> LogLine:
    head, space, rest = text.partition(" ")
    if 20 <= len(head) <= 35 and head[4:5] == "-" and "T" in head:
        at = moment(_micro(head))
        if at is not None:
            return LogLine(rest if space else "", at)
    return LogLine(text)


def _micro(stamp: str) -> str:
    """Nanoseconds cut to the microseconds that a datetime holds."""
    whole, dot, rest = stamp.partition(".")
    if not dot:
        return stamp
    digits = rest[: next((i for i, c in enumerate(rest) if not c.isdigit()), len(rest))]
    return f"{whole}.{digits[:6]}{rest[len(digits) :]}"


def containers_of(pod: Json, wanted: str | None) -> list[str]:
    """Containers whose log tells something: the init ones that failed, else all app containers.

    Raises:
        InvalidArguments: `wanted` is not a container of this pod.
    """
    spec = pod.get("spec") or {}
    apps = [str(c["name"]) for c in spec.get("containers") or ()]
    inits = [str(c["name"]) for c in spec.get("initContainers") or ()]
    ephemeral = [str(c["name"]) for c in spec.get("ephemeralContainers") or ()]
    known = [*apps, *inits, *ephemeral]
    if wanted is not None:
        if wanted not in known:
            raise InvalidArguments(
                f"container: pod {metadata_of(pod).get('name')} has no container {wanted!r}.",
                fix=f"Its containers: {', '.join(known)}.",
                field="container",
                known=known,
            )
        return [wanted]
    broken = [c for c in inits if _init_failed(container_status(pod, c))]
    return broken or apps


def _init_failed(entry: Json) -> bool:
    end = last_end(entry)
    return end is not None and end.exit_code != 0 and not entry.get("ready")


async def crash_lines(
    cluster: Cluster, chosen: Sequence[tuple[Json, str]], tail: int = 60
) -> dict[str, str]:
    """The most telling log line of some failing pods, by pod name; pods without one are left out.

    Args:
        cluster: Where.
        chosen: Pod and container.
        tail: Lines to look at.

    Raises:
        DevOpsError: The first failure, where not one log could be read.
    """
    from mcp_devops.integrations.kubernetes.together import together
    from mcp_devops.text.clean import clean_lines
    from mcp_devops.text.logs import most_telling_line

    wish = LogWish(tail=tail, keep_bytes=64 * 1024)
    logs: list[Any] = await together(
        [read_container(cluster, pod, c, wish, failing=True) for pod, c in chosen]
    )
    found: dict[str, str] = {}
    for log in logs:
        if isinstance(log, ContainerLog) and log.lines:
            cleaned, _ = clean_lines([line.text for line in log.lines])
            if line := most_telling_line(cleaned):
                found[log.pod] = line[:300]
    failures = [log for log in logs if isinstance(log, DevOpsError)]
    if failures and len(failures) == len(logs):
        raise failures[0]
    return found
