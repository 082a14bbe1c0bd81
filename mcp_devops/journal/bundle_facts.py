"""Who approved what on which evidence, and how it ended, drawn from the journal's entries. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mcp_devops.journal.entry import EntryKind
from mcp_devops.model.record import canonical_json

Row = Mapping[str, Any]
"""An entry as `Entry.row` gives it."""


class Facts:
    """Collects what an auditor asks for, entry by entry, oldest first.

    Attributes:
        verdicts: One record a decision, with all its findings.
        approvals: One record an approval, by its id.
        actions: One record a change, by its call id.
        incidents: One record an incident, by its id.
        counts: Entries by kind.
    """

    def __init__(self) -> None:
        self.verdicts: list[dict[str, Any]] = []
        self.approvals: dict[str, dict[str, Any]] = {}
        self.actions: dict[str, dict[str, Any]] = {}
        self.incidents: dict[str, dict[str, Any]] = {}
        self.counts: dict[str, int] = {}
        self._seen_verdicts: dict[str, int] = {}
        self._readers = {
            EntryKind.DECISION: self._decision,
            EntryKind.APPROVAL_REQUESTED: self._requested,
            EntryKind.APPROVAL_ANSWERED: self._answered,
            EntryKind.ACTION_STARTED: self._started,
            EntryKind.ACTION_FINISHED: self._finished,
            EntryKind.INCIDENT_CHANGED: self._changed,
        }

    def add(self, row: Row) -> None:
        """Take one entry in."""
        kind = str(row["kind"])
        self.counts[kind] = self.counts.get(kind, 0) + 1
        body = row["body"]
        for known, read in self._readers.items():
            if known.value == kind and isinstance(body, Mapping):
                read(row, body)

    def files(self) -> dict[str, bytes]:
        """The derived files, as JSON Lines in canonical form: the same entries give the same."""
        return {
            "verdicts.jsonl": lines(self.verdicts),
            "approvals.jsonl": lines(self.approvals.values()),
            "actions.jsonl": lines(self.actions.values()),
            "incidents.jsonl": lines(self.incidents.values()),
        }

    def _decision(self, row: Row, body: Row) -> None:
        verdict = _mapping(body.get("verdict"))
        self.verdicts.append({**_where(row), "target": row["subject"], "verdict": dict(verdict)})
        self._seen_verdicts[str(verdict.get("id"))] = row["seq"]

    def _requested(self, row: Row, body: Row) -> None:
        plan = _mapping(body.get("plan"))
        self.approvals[str(body.get("approval_id"))] = {
            **_where(row),
            "approval_id": body.get("approval_id"),
            "requested_by": row["actor"],
            "expires_at": body.get("expires_at"),
            "plan_digest": body.get("plan_digest"),
            "what": plan.get("summary"),
            "why": plan.get("reason"),
            **self._evidence(plan),
            "answers": [],
            "used_by": [],
        }

    def _answered(self, row: Row, body: Row) -> None:
        answer = {k: body.get(k) for k in ("status", "channel", "note")}
        self._approval(body)["answers"].append({**_where(row), "by": row["actor"], **answer})

    def _started(self, row: Row, body: Row) -> None:
        plan = _mapping(body.get("plan"))
        self.actions[str(row["call_id"])] = {
            **_where(row),
            "call_id": row["call_id"],
            "tool": row["subject"],
            "by": row["actor"],
            "what": plan.get("summary"),
            "plan_digest": body.get("plan_digest"),
            "approval_id": body.get("approval_id"),
            "approved_by": body.get("approved_by"),
            **self._evidence(plan),
            "finished": None,
        }
        if body.get("approval_id"):
            self._approval(body)["used_by"].append(row["seq"])

    def _finished(self, row: Row, body: Row) -> None:
        fallback = {**_where(row), "call_id": row["call_id"], "tool": row["subject"]}
        action = self.actions.setdefault(str(row["call_id"]), fallback)
        outcome = {k: body.get(k) for k in ("status", "outcome")}
        action["finished"] = {**_where(row), **outcome}

    def _changed(self, row: Row, body: Row) -> None:
        change = {**_where(row), "by": row["actor"]}
        change |= {k: body.get(k) for k in ("status", "what")}
        first = {"incident_id": row["incident_id"], "target": row["subject"], "changes": []}
        incident = self.incidents.setdefault(str(row["incident_id"]), first)
        incident["changes"].append(change)
        incident["last_status"] = body.get("status")

    def _approval(self, body: Row) -> dict[str, Any]:
        """An approval; one that was asked for before the selected time is known by id alone."""
        asked: dict[str, Any] = {
            "approval_id": body.get("approval_id"),
            "answers": [],
            "used_by": [],
        }
        return self.approvals.setdefault(str(body.get("approval_id")), asked)

    def _evidence(self, plan: Row) -> dict[str, Any]:
        verdict = plan.get("verdict_id")
        return {
            "verdict_id": verdict,
            "verdict_seq": self._seen_verdicts.get(str(verdict)),
            "confidence": plan.get("confidence"),
            "evidence_complete": plan.get("evidence_complete", False),
        }


def lines(records: Iterable[Any]) -> bytes:
    """One line of canonical JSON a record."""
    return b"".join(canonical_json(record) + b"\n" for record in records)


def _where(row: Row) -> dict[str, Any]:
    return {"seq": row["seq"], "at": row["at"], "incident_id": row["incident_id"]}


def _mapping(value: Any) -> Row:
    return value if isinstance(value, Mapping) else {}
