"""One entry of the journal, and how its hash is made."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from mcp_devops.model.record import Moment, Record, canonical_json

GENESIS = "0" * 64
"""What the first entry names as its predecessor's hash."""


class EntryKind(StrEnum):
    """What an entry is about."""

    CALL_STARTED = "call_started"
    """A tool was called; written before it runs."""
    CALL_FINISHED = "call_finished"
    """A tool call ended, well or not."""
    DECISION = "decision"
    """The engine or a policy said something."""
    APPROVAL_REQUESTED = "approval_requested"
    """A plan was stored and a person was asked."""
    APPROVAL_ANSWERED = "approval_answered"
    """A person answered, or the time was up."""
    ACTION_STARTED = "action_started"
    """A change is about to be sent; written before it is."""
    ACTION_FINISHED = "action_finished"
    """What is known of a change's outcome."""
    INCIDENT_CHANGED = "incident_changed"
    """An incident was opened, moved or closed."""
    SERVER_STARTED = "server_started"
    """A server process began."""
    SERVER_STOPPED = "server_stopped"
    """A server process ended in order."""
    NOTE = "note"
    """Anything else worth keeping."""


FINISHES = {
    EntryKind.CALL_STARTED: EntryKind.CALL_FINISHED,
    EntryKind.ACTION_STARTED: EntryKind.ACTION_FINISHED,
}
"""Which kind ends which; both carry the same call id."""


class Entry(Record):
    """One thing that happened. Never changed, never deleted."""

    seq: int
    """Place in the journal, from 1, without gaps."""
    at: Moment
    """When it was written down, in UTC, to the microsecond."""
    kind: EntryKind
    """What it is about."""
    actor: str
    """Who did it: a person, a client, a component."""
    subject: str
    """What it was done to: a tool's name, a workload."""
    incident_id: str | None = None
    """The incident it belongs to."""
    call_id: str | None = None
    """The tool call it belongs to; the same on start and finish."""
    body: dict[str, Any]
    """The particulars, redacted and bounded before they were written."""
    prev_hash: str
    """Hash of the entry before; `GENESIS` for the first."""
    hash: str
    """SHA-256 in hex of all other fields."""

    def row(self) -> dict[str, Any]:
        """The entry as JSON-like data, as it is hashed and exported."""
        return {
            "seq": self.seq,
            "at": stamp(self.at),
            "kind": self.kind.value,
            "actor": self.actor,
            "subject": self.subject,
            "incident_id": self.incident_id,
            "call_id": self.call_id,
            "body": self.body,
            "prev_hash": self.prev_hash,
            "hash": self.hash,
        }


def stamp(moment: datetime) -> str:
    """A moment in UTC with six decimals: text of fixed width, which sorts as time does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def hash_of(row: dict[str, Any]) -> str:
    """SHA-256 in hex over the canonical JSON of a row without its own hash."""
    fields = {name: value for name, value in row.items() if name != "hash"}
    return hashlib.sha256(canonical_json(fields)).hexdigest()
