"""Events: newest first, repeats folded, times by the rules that two API generations need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.kubernetes.client import KubernetesClient
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.names import ObjectName, Place
from mcp_devops.integrations.kubernetes.paths import path_of
from mcp_devops.integrations.kubernetes.podstate import words
from mcp_devops.integrations.kubernetes.revisions import Json, metadata_of, moment
from mcp_devops.integrations.kubernetes.together import together
from mcp_devops.model.record import Moment, Record
from mcp_devops.text.people import ago, plural
from mcp_devops.text.severity import normalised
from mcp_devops.toolkit.answer import Answer
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.paging import page
from mcp_devops.toolkit.risk import Rbac, Risk
from mcp_devops.toolkit.spec import tool

LIST_EVENTS = Rbac("list", "events")
SINGLY = 2
"""Objects whose events are asked for one by one."""


class EventLine(Record):
    """One kind of event on one object, however often it came."""

    at: Moment
    """When it came last."""
    object: str
    """Kind/name it is about."""
    reason: str
    """Machine-readable reason."""
    message: str
    """What was said: data, redacted."""
    warning: bool = False
    """Whether it is a warning."""
    count: int = 1
    """How often; the API merges and drops repeats, so at least this often."""
    first_at: Moment | None = None
    """When it came first, where that differs."""
    also: int = 0
    """Other objects of that kind with the same event."""

    def line(self, now: datetime) -> str:
        """For people."""
        times = f" x{self.count}" if self.count > 1 else ""
        others = f" and {self.also} more" if self.also else ""
        sign = "!" if self.warning else "-"
        when = ago((now - self.at).total_seconds())
        return f"{sign} {when}{times} {self.object}{others} {self.reason}: {self.message}"


def event_time(event: Json) -> datetime | None:
    """When an event came last: the series, then the old fields, then the new one, then creation."""
    series = event.get("series") or {}
    for text in (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("deprecatedLastTimestamp"),
        event.get("eventTime"),
        event.get("firstTimestamp"),
        metadata_of(event).get("creationTimestamp"),
    ):
        if at := moment(text):
            return at
    return None


def event_count(event: Json) -> int:
    """How often it came, as far as the API counted."""
    series = event.get("series") or {}
    return int(series.get("count") or event.get("count") or event.get("deprecatedCount") or 1)


def event_object(event: Json) -> Json:
    """The reference to what it is about, in either API generation."""
    found: Json = event.get("involvedObject") or event.get("regarding") or {}
    return found


def fold_events(events: Iterable[Json], *, warnings_first: bool = False) -> list[EventLine]:
    """Fold events that say the same about objects of one kind, newest first.

    Args:
        events: Raw events.
        warnings_first: Put warnings before all others.
    """
    groups: dict[tuple[str, str, str], list[tuple[datetime, Json, str]]] = {}
    # Cleaning is what costs here, and most events say what another has said.
    cleaned: dict[str, str] = {}
    for event in events:
        at = event_time(event)
        if at is None:
            continue
        about = event_object(event)
        raw = str(event.get("message") or event.get("note") or "")
        message = cleaned.get(raw)
        if message is None:
            message = cleaned[raw] = words(raw)
        name = str(about.get("name", ""))
        # The object's own name in the message must not keep equal events apart.
        said = normalised(message.replace(name, "*") if name else message)
        key = (str(about.get("kind", "")), str(event.get("reason", "")), said)
        groups.setdefault(key, []).append((at, event, message))
    lines = [_folded(key, group) for key, group in groups.items()]
    lines.sort(key=lambda e: (not e.warning if warnings_first else False, -e.at.timestamp()))
    return lines


def _folded(key: tuple[str, str, str], group: Sequence[tuple[datetime, Json, str]]) -> EventLine:
    at, newest, message = max(group, key=lambda g: g[0])
    about = event_object(newest)
    firsts = [moment(e.get("firstTimestamp")) or t for t, e, _ in group]
    first = min(firsts)
    return EventLine(
        at=at,
        object=f"{key[0]}/{about.get('name', '')}",
        reason=key[1],
        message=message,
        warning=newest.get("type") == "Warning",
        count=sum(event_count(e) for _, e, _ in group),
        first_at=first if first != at else None,
        also=len({event_object(e).get("name") for _, e, _ in group}) - 1,
    )


async def events_of(cluster: Cluster, namespace: str, uid: str) -> list[dict[str, Any]]:
    """Events of one object by uid (names are reused), oldest first."""
    found = await cluster.list_all(
        path_of("events", namespace=namespace), {"fieldSelector": f"involvedObject.uid={uid}"}
    )
    return sorted(found, key=lambda e: str(event_time(e) or ""))


async def events_by_uid(
    cluster: Cluster, namespace: str, uids: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Events of several objects, oldest first.

    The API server reads all events of a namespace for each question (measured: 22 ms for 2,100
    events), so that more than `SINGLY` objects are asked for at once: then only warnings of pods.

    Raises:
        DevOpsError: They could not be read.
    """
    if len(uids) <= SINGLY:
        answers = await together([events_of(cluster, namespace, uid) for uid in uids])
        for answer in answers:
            if isinstance(answer, DevOpsError):
                raise answer
        return {
            uid: answer
            for uid, answer in zip(uids, answers, strict=True)
            if not isinstance(answer, DevOpsError)
        }
    found = await cluster.list_all(
        path_of("events", namespace=namespace),
        {"fieldSelector": "type=Warning,involvedObject.kind=Pod"},
    )
    grouped: dict[str, list[dict[str, Any]]] = {uid: [] for uid in uids}
    for event in sorted(found, key=lambda e: str(event_time(e) or "")):
        uid = str(event_object(event).get("uid"))
        if uid in grouped:
            grouped[uid].append(event)
    return grouped


class ListEventsInput(Place):
    """What to list."""

    name: ObjectName | None = None
    """Only events of objects with this name."""
    object_kind: str | None = Field(None, pattern="^[A-Z][A-Za-z]{1,62}$")
    """Only of this kind: Pod, ReplicaSet, Deployment, Node."""
    warnings_only: bool = False
    """Leave out normal events."""
    warnings_first: bool = True
    """Warnings before newer normal events."""
    since_s: int = Field(3600, ge=1, le=86_400)
    """Seconds back; clusters commonly keep an hour."""
    all_namespaces: bool = False
    """Look everywhere."""
    limit: int = Field(30, ge=1, le=200)
    """Lines per page."""
    cursor: str | None = None
    """next_cursor of the page before."""


class EventList(Answer):
    """Events, folded."""

    events: tuple[EventLine, ...] = ()
    """What happened."""
    total: int = 0
    """Events before folding."""
    next_cursor: str | None = None
    """Pass it to see more."""
    at: Moment
    """When it was read."""

    def text(self) -> str:
        """One line each."""
        return "\n".join([self.headline, *(e.line(self.at) for e in self.events)])


@tool(
    name="kubernetes_list_events",
    title="Kubernetes events",
    risk=Risk.READ,
    needs=(LIST_EVENTS,),
)
async def list_events(args: ListEventsInput, context: ToolContext[KubernetesClient]) -> EventList:
    """List the events of a namespace or object, repeats folded, newest or warnings first.

    For why a pod is not scheduled, killed, unhealthy or not created. For one workload's pods with
    their events start with kubernetes_describe_pods.
    """
    cluster = await context.client.cluster(args.context)
    namespace = None if args.all_namespaces else args.namespace or cluster.namespace
    wanted: Mapping[str, str | None] = {
        "involvedObject.name": args.name,
        "involvedObject.kind": args.object_kind,
        "type": "Warning" if args.warnings_only else None,
    }
    selector = ",".join(f"{k}={v}" for k, v in wanted.items() if v)
    params: dict[str, str | int] = {"fieldSelector": selector} if selector else {}
    found = await cluster.list_all(path_of("events", namespace=namespace), params)
    now = context.clock.now()
    oldest = now - timedelta(seconds=args.since_s)
    recent = [e for e in found if (at := event_time(e)) is not None and at >= oldest]
    lines = fold_events(recent, warnings_first=args.warnings_first)
    shown, cursor = page(lines, args, args.cursor, args.limit)
    warnings = sum(line.warning for line in lines)
    where = f"namespace {namespace}" if namespace else "all namespaces"
    return EventList(
        headline=f"{plural(len(recent), 'event')} in {where} of context {cluster.name} within"
        f" {args.since_s} s, folded to {len(lines)}, {plural(warnings, 'warning')} among them.",
        events=tuple(shown),
        total=len(recent),
        next_cursor=cursor,
        at=now,
    )
