"""Writes the audit bundle: one zip that proves what happened to somebody without this program."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from mcp_devops.errors import InvalidArguments, NotFound
from mcp_devops.journal.bundle_facts import Facts, bears_out, lines
from mcp_devops.journal.bundle_text import pages
from mcp_devops.journal.chain import ChainReport, verify_chain
from mcp_devops.journal.clock_source import clock_status
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind, stamp
from mcp_devops.model.record import Record, canonical_json
from mcp_devops.text.clean import clean_data
from mcp_devops.text.secrets import Redactor

FORMAT = 1
"""Version of the bundle's form; a reader of this version reads no later one. The wording of the
pages is part of it: whoever checks a bundle writes them anew and compares."""

_SERVER = (EntryKind.SERVER_STARTED.value, EntryKind.SERVER_STOPPED.value)
_CALLS_AT_ONCE = 200


class Selection(Record):
    """Which entries a bundle holds: one incident, or a stretch of time, or everything."""

    incident: str | None = None
    """Everything of this incident, the calls in it and the server starts around it."""
    since: datetime | None = None
    """Written at or after this moment."""
    until: datetime | None = None
    """Written before this moment."""


class Bundle(Record):
    """What was written."""

    entries: int
    """Entries in it."""
    fingerprint: str
    """SHA-256 of its manifest: kept elsewhere, it shows that all of it is as it was made."""
    chain: ChainReport
    """The state of the whole journal when it was made."""


async def write_bundle(
    database: Database,
    output: Path,
    selection: Selection,
    *,
    redactor: Redactor,
    now: datetime,
    version: str,
) -> Bundle:
    """Write a bundle from one consistent look at the journal.

    A journal whose chain is broken is bundled all the same, and the bundle says so.

    Args:
        database: The open state.
        output: The zip; made with mode 0600, and in its place only when it is whole.
        selection: What goes in.
        redactor: Takes out what an earlier version of its rules let through.
        now: The present moment.
        version: This program's version.

    Raises:
        InvalidArguments: The file cannot be written, or an incident and a time were both given.
        NotFound: The journal has no entry of that incident.
    """
    if selection.incident is not None and (selection.since or selection.until):
        raise InvalidArguments(
            "A bundle is of one incident or of a stretch of time.",
            fix="Leave out --incident, or --since and --until.",
            source="journal",
        )
    part = output.with_name(f"{output.name}.part")
    try:
        bundle = await database.read(
            lambda connection: _Writer(connection, redactor, selection).write(part, now, version)
        )
        part.replace(output)
        return bundle
    except OSError as problem:
        raise InvalidArguments(
            f"{output} cannot be written: {problem.strerror}.", fix="Choose another --output."
        ) from problem
    finally:
        with suppress(OSError):
            part.unlink()


class _Writer:
    """One bundle in the making, inside one read transaction."""

    def __init__(self, connection: Connection, redactor: Redactor, selection: Selection) -> None:
        self._connection = connection
        self._redactor = redactor
        self._selection = selection
        self._facts = Facts()
        self._files: dict[str, dict[str, Any]] = {}
        self._redacted: list[int] = []
        self._count = 0
        self._first: int | None = None

    def write(self, path: Path, now: datetime, version: str) -> Bundle:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            chain = verify_chain(self._connection, None)
            self._member(archive, "entries.jsonl", now, map(_line, self._entries()))
            steps = _Steps()
            self._member(archive, "chain.jsonl", now, map(_line, self._links(steps)))
            if self._selection.incident is not None and not self._count:
                raise NotFound(
                    f"The journal has no entry of incident {self._selection.incident!r}.",
                    fix="`mcp-devops audit list` shows ids; or select by --since and --until.",
                    source="journal",
                )
            for name, content in self._facts.files().items():
                self._member(archive, name, now, [content])
            self._member(archive, "evidence.jsonl", now, self._evidence())
            manifest = self._manifest(chain, steps, now, version)
            for name, content in pages(manifest, self._facts).items():
                self._member(archive, name, now, [content])
            written = _page({**manifest, "files": self._files})
            _write(archive, "manifest.json", now, [written])
        fingerprint = hashlib.sha256(written).hexdigest()
        return Bundle(entries=self._count, fingerprint=fingerprint, chain=chain)

    def _manifest(
        self, chain: ChainReport, steps: _Steps, now: datetime, version: str
    ) -> dict[str, Any]:
        clock = clock_status().model_dump(mode="json") | {"steps_back": steps.back}
        return {
            "format": "mcp-devops audit bundle",
            "format_version": FORMAT,
            "made_at": stamp(now),
            "made_by": version,
            "selection": self._selection.model_dump(mode="json"),
            "entries": self._count,
            "journal": {
                "store": self._connection.dialect,
                "entries": chain.entries,
                "chain_is_whole": chain.ok,
                "broken_seq": chain.broken_seq,
                "says": chain.says,
                "head": steps.head,
            },
            "clock": clock,
            "redacted_again": self._redacted,
        }

    def _entries(self) -> Iterator[dict[str, Any]]:
        for row in self._rows():
            entry = {**dict(row), "body": _parsed(row["body"])}
            safe = self._safe(entry)
            self._count += 1
            self._first = entry["seq"] if self._first is None else self._first
            self._facts.add(safe)
            yield safe

    def _safe(self, entry: dict[str, Any]) -> dict[str, Any]:
        """An entry without what must not leave; its hash then stands for what it was."""
        free = {k: entry[k] for k in ("actor", "subject", "incident_id", "call_id", "body")}
        cleaned: dict[str, Any] = clean_data(free, self._redactor)
        if canonical_json(cleaned) == canonical_json(free):
            return entry
        self._redacted.append(entry["seq"])
        return {**entry, **cleaned}

    def _rows(self) -> Iterable[Any]:
        chosen = self._selection
        if chosen.incident is not None:
            return self._of_incident(chosen.incident)
        since = stamp(chosen.since) if chosen.since else ""
        until = stamp(chosen.until) if chosen.until else "9999"
        return self._connection.stream(
            "SELECT * FROM entries WHERE at >= ? AND at < ? ORDER BY seq", (since, until)
        )

    def _of_incident(self, incident: str) -> Iterable[Any]:
        execute = self._connection.execute
        found = {
            row["seq"]: row
            for row in execute("SELECT * FROM entries WHERE incident_id = ?", (incident,))
        }
        if not found:
            return ()
        calls = sorted({row["call_id"] for row in found.values() if row["call_id"]})
        for start in range(0, len(calls), _CALLS_AT_ONCE):
            some = calls[start : start + _CALLS_AT_ONCE]
            marks = ", ".join("?" * len(some))
            query = f"SELECT * FROM entries WHERE call_id IN ({marks})"  # noqa: S608
            found |= {row["seq"]: row for row in execute(query, some)}
        # The servers that were running: their entries say what was allowed at the time.
        first, last = min(found), max(found)
        before = execute(
            "SELECT max(seq) FROM entries WHERE kind = ? AND seq < ?", (_SERVER[0], first)
        ).fetchone()[0]
        around = execute(
            "SELECT * FROM entries WHERE kind IN (?, ?) AND seq >= ? AND seq <= ?",
            (*_SERVER, before or first, last),
        )
        found |= {row["seq"]: row for row in around}
        return [found[seq] for seq in sorted(found)]

    def _links(self, steps: _Steps) -> Iterator[dict[str, Any]]:
        rows = self._connection.stream(
            "SELECT seq, at, prev_hash, hash FROM entries WHERE seq >= ? ORDER BY seq",
            (self._first or 1,),
        )
        for row in rows:
            steps.add(row)
            yield {name: row[name] for name in ("seq", "prev_hash", "hash")}

    def _evidence(self) -> Iterator[bytes]:
        """What the incidents rest on, as their table holds it now."""
        for incident in self._facts.incidents:
            row = self._connection.execute(
                "SELECT body, updated_at FROM incidents WHERE id = ?", (incident,)
            ).fetchone()
            judged = self._connection.execute(
                "SELECT * FROM outcomes WHERE incident_id = ?", (incident,)
            ).fetchone()
            body = _parsed(row["body"]) if row is not None else None
            held = {
                "incident_id": incident,
                "updated_at": row["updated_at"] if row is not None else None,
                "evidence": body.get("context") if isinstance(body, dict) else None,
                "judged_afterwards": dict(judged) if judged is not None else None,
            }
            held = clean_data(held, self._redactor)
            seq, told = self._facts.evidence.get(incident, (None, None))
            proves = seq is not None and bears_out(told, held["evidence"])
            yield lines([{**held, "proven_by": seq if proves else None}])

    def _member(
        self, archive: zipfile.ZipFile, name: str, now: datetime, parts: Iterable[bytes]
    ) -> None:
        self._files[name] = _write(archive, name, now, parts)


class _Steps:
    """Watches the links go by: the last one, and times that run backwards."""

    def __init__(self) -> None:
        self.head: str | None = None
        self.back = 0
        self._at = ""

    def add(self, row: Any) -> None:
        self.head = f"{row['seq']}:{row['hash']}"
        self.back += row["at"] < self._at
        self._at = row["at"]


def _write(
    archive: zipfile.ZipFile, name: str, now: datetime, parts: Iterable[bytes]
) -> dict[str, Any]:
    """Write one file of the archive; what the manifest says of it."""
    at = now.astimezone(UTC)
    info = zipfile.ZipInfo(name, (at.year, at.month, at.day, at.hour, at.minute, at.second))
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o600 << 16
    summed, size = hashlib.sha256(), 0
    member: IO[bytes]
    with archive.open(info, "w", force_zip64=True) as member:
        for part in parts:
            member.write(part)
            summed.update(part)
            size += len(part)
    return {"sha256": summed.hexdigest(), "bytes": size}


def _line(row: dict[str, Any]) -> bytes:
    return canonical_json(row) + b"\n"


def _page(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def _parsed(text: str) -> Any:
    """A body; one that somebody broke is shown as the text it is now."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, TypeError):
        return text
