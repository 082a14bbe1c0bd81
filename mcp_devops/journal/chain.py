"""Verifies the journal: whether every entry is as it was written, where it was, and still there."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Any

from mcp_devops.errors import InvalidArguments
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.entry import GENESIS, hash_of
from mcp_devops.journal.witnesses import Witnesses
from mcp_devops.model.record import Record, canonical_json

_ANCHOR = re.compile(r"(\d{1,15}):([0-9a-f]{64})")
_NEARBY = 64


class ChainProblem(StrEnum):
    """How a chain is broken."""

    CHANGED = "changed"
    """An entry's content does not give its hash, or its hash is not what its successor names."""
    MISSING = "missing"
    """Entries between two others, or at the beginning, are gone."""
    REORDERED = "reordered"
    """An entry stands at another place than the one it was written at."""
    INSERTED = "inserted"
    """An entry stands where another one stands already, or before the first."""
    TRUNCATED = "truncated"
    """The anchored entry is gone: the end was cut off."""
    REWRITTEN = "rewritten"
    """The chain is sound in itself, but the anchored entry has another hash."""
    CONTRADICTED = "contradicted"
    """The chain is sound in itself, but another table knows of what no entry tells: the end was cut
    off, or that table was changed."""


class ChainReport(Record):
    """What a verification found."""

    ok: bool
    """Whether nothing is wrong."""
    entries: int
    """Entries read."""
    head: str | None
    """`seq:hash` of the last entry. Kept outside, it is the anchor that shows a later truncation:
    a chain that lost its end is sound in itself. Null: the journal is empty."""
    anchored: bool
    """Whether an anchor was compared."""
    problem: ChainProblem | None = None
    """What is wrong first; null: nothing."""
    broken_seq: int | None = None
    """The first number at which it is wrong; null: nothing is, or no entry can be named."""
    says: str
    """One sentence for a person."""


def parse_anchor(anchor: str) -> tuple[int, str]:
    """The number and the hash of `seq:hash`.

    Raises:
        InvalidArguments: It is not of that form.
    """
    match = _ANCHOR.fullmatch(anchor.strip().lower())
    if match is None:
        raise InvalidArguments(
            "An anchor is the number of an entry, a colon, and its hash of 64 hex digits.",
            fix="Pass the `head` of an earlier verification.",
            source="journal",
            field="anchor",
        )
    return int(match[1]), match[2]


def verify_chain(connection: Connection, anchor: tuple[int, str] | None) -> ChainReport:
    """Read all entries in order and stop at the first that is wrong; then ask the other tables.

    Entries are read one by one; what is kept of them grows with approvals, changes and incidents.
    """
    count, last_seq, last_hash = 0, 0, GENESIS
    broken: tuple[ChainProblem, int, str] | None = None
    witnesses = Witnesses()
    for row in connection.stream("SELECT * FROM entries ORDER BY seq"):
        fields = dict(row)
        try:
            fields["body"] = json.loads(row["body"])
        except (json.JSONDecodeError, TypeError):
            broken = ChainProblem.CHANGED, row["seq"], "has a body that is not JSON any more"
            break
        broken = _broken_at(connection, row, fields, last_seq, last_hash)
        if broken is None and anchor and row["seq"] == anchor[0] and row["hash"] != anchor[1]:
            broken = (
                ChainProblem.REWRITTEN,
                row["seq"],
                "has another hash than its anchor: the journal was rewritten up to there",
            )
        if broken:
            break
        witnesses.hear(row["kind"], row["incident_id"], fields["body"])
        count, last_seq, last_hash = count + 1, row["seq"], row["hash"]
    if broken is None and anchor and anchor[0] > last_seq:
        broken = (
            ChainProblem.TRUNCATED,
            last_seq + 1,
            f"is gone, with all after it: the anchor knows of entry {anchor[0]}",
        )
    head = f"{last_seq}:{last_hash}" if count else None
    if broken:
        problem, seq, why = broken
        return ChainReport(
            ok=False, entries=count, head=head, anchored=anchor is not None,
            problem=problem, broken_seq=seq, says=f"Entry {seq} {why}.",
        )  # fmt: skip
    if said := witnesses.contradiction(connection):
        return ChainReport(
            ok=False, entries=count, head=head, anchored=anchor is not None,
            problem=ChainProblem.CONTRADICTED,
            says=f"{said}: the end of the journal was cut off, or that table was changed.",
        )  # fmt: skip
    proof = "up to the anchor and since" if anchor else "; only an anchor shows a cut-off end"
    separator = " " if anchor else ""
    return ChainReport(
        ok=True, entries=count, head=head, anchored=anchor is not None,
        says=f"All {count} entries follow from each other{separator}{proof}.",
    )  # fmt: skip


def _broken_at(
    connection: Connection, row: Any, fields: dict[str, Any], last_seq: int, last_hash: str
) -> tuple[ChainProblem, int, str] | None:
    seq = row["seq"]
    if seq <= last_seq:
        return ChainProblem.INSERTED, seq, "is there twice, or stands before the first"
    if seq != last_seq + 1:
        # A moved entry leaves a hole where it was.
        if place := _written_at(fields, last_seq + 1, connection):
            return _moved(seq, place)
        return ChainProblem.MISSING, last_seq + 1, f"is missing: entry {seq} comes next"
    if hash_of(fields) != row["hash"] or canonical_json(fields["body"]) != _bytes(row["body"]):
        if place := _written_at(fields, seq, connection):
            return _moved(seq, place)
        return ChainProblem.CHANGED, seq, "is not what was written: its hash does not fit"
    if row["prev_hash"] != last_hash:
        return ChainProblem.CHANGED, seq, "does not follow from the entry before it"
    return None


def _moved(seq: int, place: int) -> tuple[ChainProblem, int, str]:
    return ChainProblem.REORDERED, min(seq, place), f"stands at {seq} and was written as {place}"


def _written_at(fields: dict[str, Any], seq: int, connection: Connection) -> int | None:
    """The number under which the entry's hash was made, if that is another one than it has."""
    before = connection.execute(
        "SELECT seq FROM entries WHERE hash = ?", (fields["prev_hash"],)
    ).fetchall()
    # Its predecessor may have moved by one itself, or be gone; then it is looked for nearby.
    numbers = {found["seq"] + offset for found in before for offset in (0, 1, 2)}
    nearby = range(max(seq - _NEARBY, 1), seq + _NEARBY)
    for number in numbers.union(nearby) - {fields["seq"]}:
        if hash_of({**fields, "seq": number}) == fields["hash"]:
            return number
    return None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
