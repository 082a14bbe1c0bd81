"""Counts what only grows in the state, each time from where the last look ended."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.run_times import SECONDS, TIMES, Kept, deleted_times_in, times_of
from mcp_devops.model.incident import IncidentStatus
from mcp_devops.model.verdict import Action, Cause
from mcp_devops.server.families import Buckets, Labels

PAGE = 200
"""Entries of one look into the journal: some hold a whole investigation."""
PAGES = 20
"""Pages of one kind that one scrape reads; a long journal takes several after a start."""
MARGIN = timedelta(hours=1)
"""How far the clocks of replicas may differ before a run that ended is counted late or not."""
MOST_SOURCES = 30
OTHER = "other"
"""Label of what is not known by name, so that no text from outside makes a series."""
CONFIDENCE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)
"""Finer above 0.8, from where on something may be done alone."""

_NAMED = {
    "it was deleted": "deleted",
    "another rollout replaced it": "replaced",
    "nothing collected": "nothing_collected",
}
_KNOWN = {status.value for status in IncidentStatus} | {
    *("observing", "healthy", "recorded", "paged", "refused", "stopped", "not_approved"),
    *_NAMED.values(),
}
_LABEL = re.compile(r"[a-z][a-z0-9_]{0,63}")


def label(text: object) -> str:
    """A value of ours as a label; what does not look like one is `other`."""
    return str(text) if _LABEL.fullmatch(str(text)) else OTHER


def yes(value: object) -> str:
    """A truth as a label."""
    return "yes" if value else "no"


def run_status(status: str) -> str:
    """How a run ended, in one of a few words."""
    if status.startswith("not approved"):
        return "not_approved"
    word = _NAMED.get(status, status)
    return word if word in _KNOWN else OTHER


class RunFold:
    """Seconds that runs took, counted once a run, those that were deleted among them."""

    def __init__(self) -> None:
        self.times = {name: Buckets(SECONDS) for name in TIMES}
        self._begun = False
        self._since = ""
        self._seen: dict[str, str] = {}

    async def read(self, database: Database) -> None:
        """Count the runs that ended since the last look.

        Raises:
            UpstreamUnavailable: The state cannot be read.
        """
        rows, deleted = await database.read(
            lambda c: (_ended_since(c, self._since), deleted_times_in(c))
        )
        if not self._begun:
            # What is deleted later was counted here before.
            self._add(deleted)
            self._begun = True
        for run_id, status, updated_at, body in rows:
            if run_id not in self._seen:
                for name, seconds in times_of(status, body):
                    self.times[name].observe(seconds)
                self._seen[run_id] = updated_at
        if self._seen:
            newest = datetime.fromisoformat(max(self._seen.values()))
            self._since = (newest - MARGIN).isoformat()
            self._seen = {k: at for k, at in self._seen.items() if at >= self._since}

    def _add(self, deleted: Kept) -> None:
        for name, told in deleted.items():
            if (buckets := self.times.get(name)) is None:
                continue
            buckets.total += told.get("sum", 0.0)
            for bound, count in told.items():
                if bound != "sum":
                    buckets.add(float(bound), int(count))


class JournalFold:
    """Decisions and missing evidence, counted from the journal."""

    def __init__(self) -> None:
        self.complete = False
        """Whether the journal was read to its end once."""
        self.decisions: dict[Labels, float] = defaultdict(float)
        self.confidence: dict[Labels, Buckets] = {}
        self.missing: dict[Labels, float] = defaultdict(float)
        self._sources: set[str] = set()
        self._read: dict[str, int] = {}

    async def read(self, database: Database) -> None:
        """Read on, a bounded number of pages.

        Raises:
            UpstreamUnavailable: The state cannot be read.
        """
        ends = [
            await self._read_on(database, EntryKind.DECISION.value),
            await self._read_on(database, EntryKind.INCIDENT_CHANGED.value),
        ]
        self.complete = self.complete or all(ends)

    async def _read_on(self, database: Database, kind: str) -> bool:
        """Returns whether the end was reached."""
        for _ in range(PAGES):
            after = self._read.get(kind, 0)
            rows = await database.read(lambda c, after=after: _facts_after(c, kind, after))  # type: ignore[misc]
            for seq, verdict, gaps in rows:
                self._read[kind] = seq
                if verdict is not None:
                    self._decided(verdict)
                for gap in gaps:
                    self._missed(gap)
            if len(rows) < PAGE:
                return True
        return False

    def _decided(self, verdict: Mapping[str, Any]) -> None:
        action = _one_of(Action, verdict.get("action"))
        self.decisions[action, _one_of(Cause, verdict.get("cause"))] += 1
        confidence = verdict.get("confidence")
        if isinstance(confidence, int | float):
            self.confidence.setdefault((action,), Buckets(CONFIDENCE)).observe(confidence)

    def _missed(self, gap: Mapping[str, Any]) -> None:
        source = label(gap.get("source"))
        if source not in self._sources:
            if len(self._sources) >= MOST_SOURCES:
                source = OTHER
            self._sources.add(source)
        self.missing[source, yes(gap.get("needed"))] += 1


def _ended_since(connection: Connection, since: str) -> list[tuple[str, str, str, str]]:
    rows = connection.execute(
        "SELECT id, status, updated_at, body FROM runs WHERE body <> '{}' AND updated_at >= ?"
        " ORDER BY updated_at",
        (since,),
    ).fetchall()
    return [tuple(row) for row in rows]


_Facts = tuple[int, Mapping[str, Any] | None, list[Mapping[str, Any]]]


def _facts_after(connection: Connection, kind: str, after: int) -> list[_Facts]:
    """Verdict and gaps of the next entries; what is large stays off the event loop's thread."""
    rows = connection.execute(
        "SELECT seq, body FROM entries WHERE kind = ? AND seq > ? ORDER BY seq LIMIT ?",
        (kind, after, PAGE),
    ).fetchall()
    return [(int(row["seq"]), *_facts(row["body"])) for row in rows]


def _facts(text: str) -> tuple[Mapping[str, Any] | None, list[Mapping[str, Any]]]:
    body = _object(text)
    verdict, evidence = body.get("verdict"), body.get("evidence")
    gaps = evidence.get("missing") if isinstance(evidence, dict) else None
    return (
        verdict if isinstance(verdict, dict) else None,
        [gap for gap in gaps if isinstance(gap, dict)] if isinstance(gaps, list) else [],
    )


def _object(text: str) -> Mapping[str, Any]:
    found = json.loads(text)
    return found if isinstance(found, dict) else {}


def _one_of(kind: type[Action] | type[Cause], value: object) -> str:
    return value if isinstance(value, str) and value in set(kind) else OTHER
