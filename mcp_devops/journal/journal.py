"""The journal: written once, read often, never changed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Final

from anyio import to_thread

from mcp_devops.errors import NotFound
from mcp_devops.journal.chain import ChainReport, parse_anchor, verify_chain
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import FINISHES, GENESIS, Entry, EntryKind, hash_of, stamp
from mcp_devops.model.record import Record, canonical_json
from mcp_devops.text.budget import NOTES_LIMIT_CHARS, compact_json, cut_middle, shrink
from mcp_devops.text.clean import clean, clean_data
from mcp_devops.text.secrets import Redactor

BODY_LIMIT_CHARS = 65_536
"""Characters of compact JSON that one body has at most: 64 K. A verdict with all its findings has
about a tenth of that."""

LABEL_LIMIT_CHARS = 500
"""Characters of an actor, a subject or an id that are kept."""

PAGE_LIMIT = 1_000
"""Entries one page has at most."""

_NO_SEQ = 2**63 - 1
_NEED_CALL_ID = frozenset({*FINISHES, *FINISHES.values()})


class Page(Record):
    """A stretch of the journal."""

    entries: tuple[Entry, ...]
    """The entries, in the order that was asked for."""
    next_cursor: int | None
    """Pass it as `cursor` to go on; null: this was the last page."""


class Journal:
    """Writes and reads the journal of one state.

    Args:
        db: The open state.
        redactor: Takes secrets out of everything before it is written.
        clock: Gives the present moment, with a zone.
    """

    def __init__(self, db: Database, redactor: Redactor, clock: Callable[[], datetime]) -> None:
        self._db: Final = db
        self._redactor: Final = redactor
        self._clock: Final = clock

    async def append(
        self,
        kind: EntryKind,
        *,
        actor: str,
        subject: str,
        body: Mapping[str, Any],
        incident_id: str | None = None,
        call_id: str | None = None,
    ) -> Entry:
        """Write one entry; when this returns, it is on the disk.

        Args:
            kind: What it is about. Starts and finishes of calls and actions need a `call_id`.
            actor: Who did it.
            subject: What it was done to.
            body: JSON-like particulars; cleaned and cut to `BODY_LIMIT_CHARS` first, and then
                `_cut` in it says what was cut.
            incident_id: The incident it belongs to.
            call_id: The tool call it belongs to.

        Raises:
            UpstreamUnavailable: The state is locked, down, or its disk fails; nothing was written.
            OutcomeUnknown: As for `Database.run`.
            ValueError: A start or finish has no `call_id`.
        """
        draft = await to_thread.run_sync(
            lambda: self._draft(kind, actor, subject, body, incident_id, call_id)
        )
        return await self._db.run(lambda connection: self._insert(connection, draft))

    def append_in(
        self,
        connection: Connection,
        kind: EntryKind,
        *,
        actor: str,
        subject: str,
        body: Mapping[str, Any],
        incident_id: str | None = None,
        call_id: str | None = None,
    ) -> Entry:
        """Write one entry inside a transaction of `Database.run`, to commit with what it records.

        Raises:
            ValueError: No transaction is open, or a start or finish has no `call_id`.
        """
        if not connection.in_transaction:
            raise ValueError("append_in belongs inside Database.run")
        draft = self._draft(kind, actor, subject, body, incident_id, call_id)
        return self._insert(connection, draft)

    async def get(self, seq: int) -> Entry:
        """One entry by its number.

        Raises:
            NotFound: There is no such entry.
        """
        row = await self._db.read(
            lambda connection: connection.execute(
                "SELECT * FROM entries WHERE seq = ?", (seq,)
            ).fetchone()
        )
        if row is None:
            raise NotFound(
                f"The journal has no entry {seq}.",
                fix="List the journal to see which numbers there are.",
                source="journal",
            )
        return _entry(row)

    async def list(
        self,
        *,
        kind: EntryKind | Collection[EntryKind] | None = None,
        incident_id: str | None = None,
        call_id: str | None = None,
        actor: str | None = None,
        subject: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        cursor: int | None = None,
        limit: int = 100,
        newest_first: bool = False,
    ) -> Page:
        """Entries that fit all given filters, a page at a time.

        Args:
            kind: One kind, or several of which one must fit.
            incident_id: Exactly this incident.
            call_id: Exactly this call.
            actor: Exactly this actor.
            subject: Exactly this subject.
            since: Written at or after this moment.
            until: Written before this moment.
            cursor: `next_cursor` of the page before.
            limit: Entries of the page, 1 to `PAGE_LIMIT`.
            newest_first: Whether to go backwards.
        """
        kinds = [kind] if isinstance(kind, EntryKind) else sorted(kind or ())
        conditions: dict[str, object] = {
            "incident_id = ?": incident_id,
            "call_id = ?": call_id,
            "actor = ?": actor,
            "subject = ?": subject,
            "at >= ?": since and stamp(since),
            "at < ?": until and stamp(until),
            f"seq {'<' if newest_first else '>'} ?": cursor,
        }
        given = {sql: value for sql, value in conditions.items() if value is not None}
        clauses = [*given]
        if kind is not None:
            clauses.append(f"kind IN ({', '.join('?' * len(kinds)) or 'NULL'})")
        size = min(max(limit, 1), PAGE_LIMIT)
        # Only our own column names and question marks are put together here.
        query = (
            f"SELECT * FROM entries WHERE {' AND '.join(clauses) or '1 = 1'}"  # noqa: S608
            f" ORDER BY seq {'DESC' if newest_first else 'ASC'} LIMIT ?"
        )
        values = (*given.values(), *(one.value for one in kinds), size + 1)
        rows = await self._db.read(lambda connection: connection.execute(query, values).fetchall())
        entries = tuple(map(_entry, rows[:size]))
        return Page(entries=entries, next_cursor=entries[-1].seq if len(rows) > size else None)

    async def stream(self, **filters: Any) -> AsyncIterator[Entry]:
        """All entries that fit the filters of `list`, oldest first, fetched page by page."""
        cursor: int | None = None
        while True:
            page = await self.list(**{**filters, "cursor": cursor, "limit": PAGE_LIMIT})
            for entry in page.entries:
                yield entry
            cursor = page.next_cursor
            if cursor is None:
                return

    async def unfinished(self, *, before: int | None = None) -> tuple[Entry, ...]:
        """Calls and actions that were started and never finished.

        A crash leaves such entries, and so does what still runs.

        Args:
            before: Only entries below this number, such as the `server_started` entry of the
                present process, to leave out what it runs itself.

        Returns:
            The entries of the starts, oldest first.
        """
        pairs = " OR ".join("(s.kind = ? AND f.kind = ?)" for _ in FINISHES)
        query = (
            "SELECT s.* FROM entries AS s"  # noqa: S608
            f" WHERE s.kind IN ({', '.join('?' * len(FINISHES))}) AND s.seq < ?"
            " AND NOT EXISTS (SELECT 1 FROM entries AS f"
            f" WHERE f.call_id = s.call_id AND f.seq > s.seq AND ({pairs})) ORDER BY s.seq"
        )
        values = (
            *(start.value for start in FINISHES),
            _NO_SEQ if before is None else before,
            *(kind.value for pair in FINISHES.items() for kind in pair),
        )
        rows = await self._db.read(lambda connection: connection.execute(query, values).fetchall())
        return tuple(map(_entry, rows))

    async def verify(self, anchor: str | None = None) -> ChainReport:
        """Check that no entry was changed, removed or moved since it was written.

        Args:
            anchor: `seq:hash`, the `head` of an earlier report kept outside this file. Only with
                one can a cut-off end, or a chain rewritten as a whole, be told.

        Raises:
            InvalidArguments: The anchor is malformed.
        """
        parsed = parse_anchor(anchor) if anchor is not None else None
        return await self._db.read(lambda connection: verify_chain(connection, parsed))

    def _draft(
        self,
        kind: EntryKind,
        actor: str,
        subject: str,
        body: Mapping[str, Any],
        incident_id: str | None,
        call_id: str | None,
    ) -> dict[str, Any]:
        """All of an entry that does not depend on its place."""
        if kind in _NEED_CALL_ID and not call_id:
            raise ValueError(f"{kind} needs the call id that ties start and finish together")
        return {
            "kind": kind.value,
            "actor": self._label(actor),
            "subject": self._label(subject),
            "incident_id": None if incident_id is None else self._label(incident_id),
            "call_id": None if call_id is None else self._label(call_id),
            "body": self._body(body),
        }

    def _insert(self, connection: Connection, draft: dict[str, Any]) -> Entry:
        last = connection.execute(
            "SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        row = {
            **draft,
            "seq": last["seq"] + 1 if last else 1,
            "at": stamp(self._clock()),
            "prev_hash": last["hash"] if last else GENESIS,
        }
        row["hash"] = hash_of(row)
        connection.execute(
            "INSERT INTO entries"
            " (seq, at, kind, actor, subject, incident_id, call_id, body, prev_hash, hash)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row["seq"], row["at"], row["kind"], row["actor"], row["subject"],
                row["incident_id"], row["call_id"], canonical_json(row["body"]).decode(),
                row["prev_hash"], row["hash"],
            ),
        )  # fmt: skip
        return Entry.model_validate(row)

    def _label(self, text: str) -> str:
        one_line = clean(text, self._redactor).replace("\n", " ")
        return cut_middle(one_line, LABEL_LIMIT_CHARS)

    def _body(self, body: Mapping[str, Any]) -> dict[str, Any]:
        cleaned: dict[str, Any] = clean_data(body, self._redactor)
        if len(compact_json(cleaned)) <= BODY_LIMIT_CHARS:
            return cleaned
        # Quotes around and commas between the notes, beside the notes themselves.
        cut, notes = shrink(cleaned, BODY_LIMIT_CHARS - 2 * NOTES_LIMIT_CHARS)
        return {**cut, "_cut": notes}


def _entry(row: Any) -> Entry:
    return Entry.model_validate({**dict(row), "body": json.loads(row["body"])})
