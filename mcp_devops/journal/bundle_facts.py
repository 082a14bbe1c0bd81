"""Who approved what on which evidence, and how it ended, drawn from the journal's entries. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mcp_devops.journal.entry import EntryKind
from mcp_devops.model.evidence import DiagnosticContext
from mcp_devops.model.record import canonical_json

Row = Mapping[str, Any]
"""An entry as `Entry.row` gives it."""


class Facts:
    """Collects what an auditor asks for, entry by entry, oldest first.

    Attributes:
        verdicts: One record a decision, with all its findings.
        approvals: One record an approval, by its id.
        actions: One record a change, by its call id.
        incidents: One record an incident, by its id, with a person's later judgement, if any.
        evidence: By incident: the newest entry with evidence, its number and what it holds.
        events: What happened in order: (entry, time, incident, who, what).
        counts: Entries by kind.
    """

    def __init__(self) -> None:
        self.verdicts: list[dict[str, Any]] = []
        self.approvals: dict[str, dict[str, Any]] = {}
        self.actions: dict[str, dict[str, Any]] = {}
        self.incidents: dict[str, dict[str, Any]] = {}
        self.evidence: dict[str, tuple[int, Any]] = {}
        self.events: list[tuple[int, str, str | None, str, str]] = []
        self.counts: dict[str, int] = {}
        self._seen_verdicts: dict[str, int] = {}
        self._readers = {
            EntryKind.DECISION: self._decision,
            EntryKind.APPROVAL_REQUESTED: self._requested,
            EntryKind.APPROVAL_ANSWERED: self._answered,
            EntryKind.ACTION_STARTED: self._started,
            EntryKind.ACTION_FINISHED: self._finished,
            EntryKind.INCIDENT_CHANGED: self._changed,
            EntryKind.NOTE: self._noted,
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

    def _tell(self, row: Row, what: str) -> None:
        event = (row["seq"], row["at"], row["incident_id"], str(row["actor"]), what)
        self.events.append(event)

    def _decision(self, row: Row, body: Row) -> None:
        verdict = _mapping(body.get("verdict"))
        if not verdict:
            # The response policy's word on what it does itself: no judgement of a deployment.
            self._tell(row, f"policy: {body.get('what')}")
            return
        self._tell(row, f"verdict {str(verdict.get('id'))[:12]}: {verdict.get('headline')}")
        self.verdicts.append({**_where(row), "target": row["subject"], "verdict": dict(verdict)})
        self._seen_verdicts[str(verdict.get("id"))] = row["seq"]

    def _requested(self, row: Row, body: Row) -> None:
        plan = _mapping(body.get("plan"))
        self._tell(row, f"approval {body.get('approval_id')} asked for: {plan.get('summary')}")
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
        note = f": {answer['note']}" if answer["note"] else ""
        said = f"approval {body.get('approval_id')} {answer['status']} through {answer['channel']}"
        self._tell(row, said + note)
        self._approval(body)["answers"].append({**_where(row), "by": row["actor"], **answer})

    def _started(self, row: Row, body: Row) -> None:
        plan = _mapping(body.get("plan"))
        under = f", approved by {body.get('approved_by')}" if body.get("approved_by") else ""
        self._tell(row, f"change begun{under}: {plan.get('summary') or row['subject']}")
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
        self._tell(row, f"change ended, {outcome['status']}: {row['subject']}")
        action["finished"] = {**_where(row), **outcome}

    def _changed(self, row: Row, body: Row) -> None:
        self._tell(row, f"{str(body.get('status')).replace('_', ' ')}: {body.get('what')}")
        change = {**_where(row), "by": row["actor"]}
        change |= {k: body.get(k) for k in ("status", "what")}
        incident = self._incident(row)
        incident["changes"].append(change)
        if "evidence" in body:
            self.evidence[str(row["incident_id"])] = (row["seq"], body["evidence"])
        incident["last_status"] = body.get("status")

    def _noted(self, row: Row, body: Row) -> None:
        """A line of an incident's timeline, a person's judgement, a switch; not who looked."""
        if row["incident_id"] is not None and "was_right" in body:
            said = "right" if body["was_right"] else "wrong"
            note = body.get("note")
            self._tell(row, f"decision judged {said}" + (f": {note}" if note else ""))
            judged = {"seq": row["seq"], "at": row["at"], "by": row["actor"]}
            judged |= {k: body.get(k) for k in ("verdict_id", "was_right", "note")}
            self._incident(row)["judged"] = judged
        elif row["incident_id"] is not None and "status" in body and "approval_id" not in body:
            self._changed(row, body)
        elif body.get("what") not in (None, "read"):
            self._tell(row, f"{row['subject']}: {body['what']}")

    def _incident(self, row: Row) -> dict[str, Any]:
        first = {
            "incident_id": row["incident_id"],
            "target": row["subject"],
            "changes": [],
            "last_status": None,
            "judged": None,
        }
        return self.incidents.setdefault(str(row["incident_id"]), first)

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


def bears_out(told: Any, held: Any) -> bool:
    """Whether evidence as an entry tells it is evidence as an incident's row holds it.

    An entry leaves out what is as it is by default.
    """
    try:
        whole = DiagnosticContext.model_validate(held)
    except ValueError:
        return False
    return bool(whole.model_dump(mode="json", exclude_defaults=True) == told)


def lines(records: Iterable[Any]) -> bytes:
    """One line of canonical JSON a record."""
    return b"".join(canonical_json(record) + b"\n" for record in records)


def _where(row: Row) -> dict[str, Any]:
    return {"seq": row["seq"], "at": row["at"], "incident_id": row["incident_id"]}


def _mapping(value: Any) -> Row:
    return value if isinstance(value, Mapping) else {}
