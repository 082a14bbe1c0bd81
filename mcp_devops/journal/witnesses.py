"""Holds the other tables against the journal: what they know of, some entry must have told.

Each of their rows is written in one transaction with its entry, so a row without one shows that
the end of the journal was cut off, which its chain alone cannot show, or that the row was changed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from mcp_devops.journal.connection import Connection
from mcp_devops.journal.entry import EntryKind

_OF_INCIDENTS = (EntryKind.INCIDENT_CHANGED.value, EntryKind.NOTE.value)


class Witnesses:
    """What the entries told, to be compared with the tables. Memory grows with their rows."""

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._answers: dict[str, str] = {}
        self._spent: set[str] = set()
        self._begun: set[str] = set()
        self._ended: dict[str, str] = {}
        self._lines: Counter[str] = Counter()
        self._judged: dict[str, bool] = {}

    def hear(self, kind: str, incident_id: str | None, body: Any) -> None:
        """Take one entry in, oldest first."""
        if not isinstance(body, Mapping):
            return
        approval, digest = str(body.get("approval_id")), str(body.get("plan_digest"))
        match kind:
            case EntryKind.APPROVAL_REQUESTED:
                self._asked.add(approval)
            case EntryKind.APPROVAL_ANSWERED:
                self._answers[approval] = str(body.get("status"))
            case EntryKind.ACTION_STARTED:
                self._spent.add(approval)
                self._begun.add(digest)
                self._ended.pop(digest, None)
            case EntryKind.ACTION_FINISHED:
                self._ended[digest] = str(body.get("status"))
        if incident_id is not None and kind in _OF_INCIDENTS:
            # Other notes about an incident are no lines of its timeline, and have no status.
            ours = "status" in body and "what" in body and "approval_id" not in body
            self._lines[incident_id] += ours
            if "was_right" in body:
                self._judged[incident_id] = bool(body["was_right"])

    def contradiction(self, connection: Connection) -> str | None:
        """The first row of a table that the entries do not bear out, in words; None: there is none.

        Args:
            connection: Of the same transaction as the entries were read in.
        """
        tables = (self._approvals, self._actions, self._incidents, self._outcomes)
        return next((said for table in tables for said in table(connection)), None)

    def _approvals(self, connection: Connection) -> Iterator[str]:
        for row in connection.stream("SELECT id, status FROM approvals ORDER BY requested_at, id"):
            name, status = row["id"], row["status"]
            told = self._answers.get(name, "pending" if name in self._asked else None)
            if told is None:
                yield f"Approval {name} was asked for, and no entry tells of it"
            elif told != ("approved" if status == "used" else status):
                yield f"Approval {name} is {status} in its table, and {told} by the entries"
            elif status == "used" and name not in self._spent:
                yield f"Approval {name} was used, and no entry tells of the change"

    def _actions(self, connection: Connection) -> Iterator[str]:
        for row in connection.stream("SELECT digest, status FROM actions ORDER BY started_at"):
            digest, status = row["digest"], row["status"]
            told = self._ended.get(digest, "started" if digest in self._begun else None)
            if told is None:
                yield f"The change of plan {digest[:12]} was begun, and no entry tells of it"
            elif told != status:
                yield (
                    f"The change of plan {digest[:12]} is {status} in its table, and {told} by the"
                    " entries"
                )

    def _incidents(self, connection: Connection) -> Iterator[str]:
        for row in connection.stream("SELECT id, body FROM incidents ORDER BY opened_at, id"):
            lines, told = _timeline(row["body"]), self._lines[row["id"]]
            if lines > told:
                yield (
                    f"Incident {row['id']} has {lines} lines in its timeline, and the entries tell"
                    f" of {told}"
                )

    def _outcomes(self, connection: Connection) -> Iterator[str]:
        for row in connection.stream("SELECT incident_id, was_right FROM outcomes ORDER BY at"):
            if self._judged.get(row["incident_id"]) is not bool(row["was_right"]):
                yield f"The judgement on {row['incident_id']} is not the one that the entries tell"


def _timeline(body: str) -> int:
    """Lines of an incident's timeline; 0 where the row is none any more."""
    try:
        return len(json.loads(body)["incident"]["timeline"])
    except (ValueError, KeyError, TypeError):
        return 0
