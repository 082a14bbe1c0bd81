"""The whole account of one incident, put together from its record: what a page or a draft tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, TypeVar, cast

from anyio import to_thread

from mcp_devops.incidents.store import IncidentStore
from mcp_devops.journal.chain import ChainReport
from mcp_devops.journal.entry import Entry, EntryKind, hash_of
from mcp_devops.journal.journal import Journal
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.evidence import DiagnosticContext
from mcp_devops.model.incident import Incident, IncidentStatus
from mcp_devops.model.record import Moment, Record
from mcp_devops.text.budget import cut_middle
from mcp_devops.text.clean import clean
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.context import Services

TEXT_CHARS = 1_200
"""Characters of one text that are kept: the longest sentence of the engine has about half."""
PAGE = 200
"""Journal entries that are looked at in one piece."""
MOST_ENTRIES = 2_000
"""Newest journal entries of the incident that are looked at; a long night has about a hundred."""
UNATTENDED = "(watch)"
"""How the name ends of who opened an incident, where it was the server itself."""
ROLL_BACK = "incident_roll_back"
"""Its steps stand in the incident's own timeline already."""

T = TypeVar("T")


class Sort(StrEnum):
    """What sort of thing happened."""

    DEPLOYMENT = "deployment"
    SIGN = "sign"
    CAPACITY = "capacity"
    INCIDENT = "incident"
    VERDICT = "verdict"
    APPROVAL = "approval"
    ACTION = "action"


class Happening(Record):
    """One thing that happened, from the incident's timeline, the journal or the evidence."""

    at: Moment
    """When."""
    what: str
    """What, in one line."""
    who: str
    """The person, client or component."""
    sort: Sort
    """What sort of thing."""


class Consent(Record):
    """One question to a person, and what became of it, as the journal has it."""

    id: str
    """apr-<10 hex>."""
    asked_by: str
    """Who wanted it."""
    asked_at: Moment
    """When it was asked."""
    summary: str
    """What was asked for."""
    plan_digest: str
    """SHA-256 of the exact plan."""
    status: str = "pending"
    """approved, denied, dismissed, expired, or pending: no answer is in the journal."""
    answered_by: str | None = None
    """Who answered."""
    answered_at: Moment | None = None
    """When."""
    channel: str | None = None
    """elicitation, terminal, policy or clock."""
    note: str | None = None
    """What the person added."""


class Judged(Record):
    """A person's word, afterwards, on whether the decision was right."""

    was_right: bool
    """What the person says."""
    by_whom: str
    """Who."""
    at: Moment
    """When."""
    note: str = ""
    """What they add."""


class Proof(Record):
    """What the journal holds of the incident."""

    entries: int
    """Its entries that were looked at."""
    all_of_them: bool
    """Whether there are no older ones."""
    changed: tuple[int, ...]
    """Numbers of those whose content does not give their own hash: altered since."""
    head: str | None
    """`seq:hash` of the journal's newest entry."""
    chain: ChainReport | None = None
    """The whole chain, walked; null: it was not walked for this."""


class Account(Record):
    """Everything that is known of one incident, cleaned and redacted."""

    incident: Incident
    """As it stands."""
    evidence: DiagnosticContext | None
    """The newest evidence."""
    plan: ActionPlan | None
    """The plan that was carried out, or is."""
    consents: tuple[Consent, ...]
    """Questions to people, oldest first."""
    happenings: tuple[Happening, ...]
    """What happened, oldest first."""
    rolled_back_at: Moment | None
    """When the restored template was live; null: no rollback is recorded."""
    proof: Proof
    """What the journal holds."""
    judged: Judged | None = None
    """The newest judgement; null: nobody has judged it."""


async def account_of(services: Services, incident_id: str, *, walk_chain: bool = False) -> Account:
    """Put an incident's account together from its record; asks no outside system.

    Args:
        services: Gives the store, the journal and the redactor.
        incident_id: inc-<8 hex>.
        walk_chain: Whether to verify the whole journal, which takes time with its length.

    Raises:
        NotFound: There is no such incident.
    """
    store = await services.get(IncidentStore)
    journal = await services.get(Journal)
    redactor = await services.get(Redactor)
    stored = await store.get(incident_id)
    entries, proof = await _entries(journal, stored.incident.id)
    if walk_chain:
        report = await journal.verify()
        proof = proof.model_copy(update={"chain": report, "head": report.head})
    consents = consents_in(entries)
    judgements = judgements_in(entries)
    made = Account(
        incident=stored.incident,
        evidence=stored.context,
        plan=stored.plan,
        consents=consents,
        happenings=tuple(
            sorted(
                [
                    *_happenings(stored.incident, stored.context, consents, entries),
                    *map(_judging, judgements),
                ],
                key=lambda one: one.at,
            )
        ),
        rolled_back_at=_rolled_back_at(entries),
        proof=proof,
        judged=judgements[-1] if judgements else None,
    )
    return await to_thread.run_sync(cleaned, made, redactor)


def cleaned(value: T, redactor: Redactor) -> T:
    """The same data with every text in one line, without escapes and secrets, and bounded."""
    return cast(T, _cleaned(value, redactor))


def _cleaned(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, str) and not isinstance(value, Enum):
        return cut_middle(" ".join(clean(value, redactor).split()), TEXT_CHARS)
    if isinstance(value, Record):
        fields = type(value).model_fields
        return value.model_copy(
            update={name: _cleaned(getattr(value, name), redactor) for name in fields}
        )
    if isinstance(value, tuple):
        return tuple(_cleaned(item, redactor) for item in value)
    if isinstance(value, Mapping):
        return {_cleaned(k, redactor): _cleaned(v, redactor) for k, v in value.items()}
    return value


async def _entries(journal: Journal, incident_id: str) -> tuple[list[Entry], Proof]:
    """The incident's entries, oldest first, without what only the hash needs."""
    found: list[Entry] = []
    changed: list[int] = []
    cursor: int | None = None
    while True:
        page = await journal.list(
            incident_id=incident_id, limit=PAGE, cursor=cursor, newest_first=True
        )
        changed += await to_thread.run_sync(altered, page.entries)
        found += [_slim(e) for e in page.entries]
        cursor = page.next_cursor
        if cursor is None or len(found) >= MOST_ENTRIES:
            break
    newest = (await journal.list(limit=1, newest_first=True)).entries
    proof = Proof(
        entries=len(found),
        all_of_them=cursor is None,
        changed=tuple(sorted(changed)),
        head=f"{newest[0].seq}:{newest[0].hash}" if newest else None,
    )
    return found[::-1], proof


def altered(entries: Sequence[Entry]) -> list[int]:
    """Numbers of the entries whose content does not give their own hash."""
    return [e.seq for e in entries if hash_of(e.row()) != e.hash]


def _slim(entry: Entry) -> Entry:
    """Without the evidence, so that a night of investigations is not held in memory at once."""
    kept = {k: v for k, v in entry.body.items() if k not in ("evidence", "verdict")}
    return entry.model_copy(update={"body": kept})


def consents_in(entries: Sequence[Entry]) -> tuple[Consent, ...]:
    """The questions to people in some journal entries, with their newest answers."""
    found: dict[str, Consent] = {}
    for entry in entries:
        body = entry.body
        name = str(body.get("approval_id"))
        if entry.kind is EntryKind.APPROVAL_REQUESTED:
            plan = body.get("plan")
            found[name] = Consent(
                id=name,
                asked_by=entry.actor,
                asked_at=entry.at,
                summary=str(plan.get("summary", "")) if isinstance(plan, dict) else "",
                plan_digest=str(body.get("plan_digest", "")),
            )
        elif entry.kind is EntryKind.APPROVAL_ANSWERED and name in found:
            found[name] = found[name].model_copy(
                update={
                    "status": str(body.get("status", "unknown")),
                    "answered_by": entry.actor,
                    "answered_at": entry.at,
                    "channel": str(body.get("channel", "")) or None,
                    "note": str(body.get("note", "")) or None,
                }
            )
    return tuple(found.values())


def judgements_in(entries: Sequence[Entry]) -> tuple[Judged, ...]:
    """What people said of the decision, oldest first; the newest counts."""
    return tuple(
        Judged(
            was_right=bool(entry.body["was_right"]),
            by_whom=entry.actor,
            at=entry.at,
            note=str(entry.body.get("note") or ""),
        )
        for entry in entries
        if entry.kind is EntryKind.NOTE and "was_right" in entry.body
    )


def _judging(judged: Judged) -> Happening:
    said = "right" if judged.was_right else "wrong"
    note = f": {judged.note}" if judged.note else ""
    return Happening(
        at=judged.at, what=f"decision judged {said}{note}", who=judged.by_whom, sort=Sort.VERDICT
    )


def _rolled_back_at(entries: Sequence[Entry]) -> datetime | None:
    return next(
        (
            e.at
            for e in reversed(entries)
            if e.kind is EntryKind.INCIDENT_CHANGED
            and e.body.get("status") == IncidentStatus.VERIFYING.value
        ),
        None,
    )


def _happenings(
    incident: Incident,
    evidence: DiagnosticContext | None,
    consents: Sequence[Consent],
    entries: Sequence[Entry],
) -> list[Happening]:
    found = [*_before(incident, evidence)]
    found += [
        Happening(
            at=t.at,
            what=t.what,
            who=t.who,
            sort=Sort.VERDICT if t.what.startswith("verdict ") else Sort.INCIDENT,
        )
        for t in incident.timeline
    ]
    for asked in consents:
        what = f"approval {asked.id} asked for: {asked.summary}"
        found.append(
            Happening(at=asked.asked_at, what=what, who=asked.asked_by, sort=Sort.APPROVAL)
        )
        if asked.answered_at is not None:
            via = f" through {asked.channel}" if asked.channel else ""
            note = f": {asked.note}" if asked.note else ""
            what = f"approval {asked.id} {asked.status}{via}{note}"
            who = asked.answered_by or ""
            found.append(Happening(at=asked.answered_at, what=what, who=who, sort=Sort.APPROVAL))
    for entry in entries:
        if entry.subject == ROLL_BACK:
            continue
        if entry.kind is EntryKind.ACTION_STARTED:
            what = f"{entry.subject} started"
        elif entry.kind is EntryKind.ACTION_FINISHED:
            what = f"{entry.subject}: {entry.body.get('status', 'ended')}"
        else:
            continue
        found.append(Happening(at=entry.at, what=what, who=entry.actor, sort=Sort.ACTION))
    return found


def _before(incident: Incident, evidence: DiagnosticContext | None) -> list[Happening]:
    """What the evidence knows of: the deployment, the first sign of trouble, capacity."""
    found = []
    if evidence is not None and evidence.change is not None:
        change = evidence.change
        images = ", ".join(change.revision.images)
        what = f"revision {change.revision.number} began to roll out"
        found.append(
            Happening(
                at=change.started_at,
                what=f"{what}: {images}" if images else what,
                who=str(change.workload),
                sort=Sort.DEPLOYMENT,
            )
        )
    found += [
        Happening(at=e.at, what=e.what, who=e.source, sort=Sort.CAPACITY)
        for e in (evidence.scaling if evidence else ())
    ]
    blamed = [
        f
        for f in (incident.verdict.findings if incident.verdict else ())
        if f.counted and f.weight > 0 and f.first_seen_at is not None
    ]
    if blamed:
        first = min(blamed, key=lambda f: f.first_seen_at or incident.opened_at)
        found.append(
            Happening(
                at=first.first_seen_at or incident.opened_at,
                what=f"first sign, found later: {first.says}",
                who="engine, from the evidence",
                sort=Sort.SIGN,
            )
        )
    return found
