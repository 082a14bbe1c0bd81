"""What somebody who makes the manifest fit again could try, and how far it gets them."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.errors import Unsupported
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.journal.bundle_check import verify_bundle
from mcp_devops.journal.bundle_facts import lines
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.toolkit.clock import ShiftedClock
from tests.rooms.journal.conftest import START
from tests.rooms.journal.test_bundle import bundled, edit, made, night, original, read, rewrite
from tests.support import evidence as ev
from tests.support.response import CART, NOW

__all__ = ["made", "original"]

Files = dict[str, bytes]


@pytest.mark.parametrize("name", ["summary.md", "README.md", "controls.json"])
def test_a_page_for_people_that_says_otherwise_is_found(made: Path, name: str) -> None:
    files = read(made)
    for told, instead in ((b"approved", b"denied__"), (b"bob", b"eve"), (b"hash", b"cash")):
        files[name] = files[name].replace(told, instead)
    files[name] += b" "
    rewrite(made, files, honest=True)
    report = verify_bundle(made, anchor=verify_bundle(made).head)
    assert report.problems == (f"{name} does not follow from entries.jsonl and the manifest.",)


def manifest_of(files: Files) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files["manifest.json"])
    return found


def left_out(files: Files, place: int) -> None:
    """Leave an entry out, and let all that follows from the entries follow again."""
    from mcp_devops.journal.bundle_facts import Facts
    from mcp_devops.journal.bundle_text import pages

    edit(files, "entries.jsonl", lambda rows: rows.pop(place))
    facts, manifest = Facts(), manifest_of(files)
    for line in files["entries.jsonl"].splitlines():
        facts.add(json.loads(line))
    manifest["entries"] -= 1
    files.update(facts.files() | pages(manifest, facts))
    files["manifest.json"] = json.dumps(manifest).encode()


async def test_an_entry_left_out_of_all_or_of_a_stretch_of_time_is_found(
    db: Database, journal: Journal, tmp_path: Path
) -> None:
    await night(journal)
    path = tmp_path / "b.zip"
    for chosen in ({}, {"since": START}):
        await bundled(db, path, **chosen)
        head = verify_bundle(path).head
        files = read(path)
        left_out(files, 8)
        rewrite(path, files, honest=True)
        assert verify_bundle(path, anchor=head).problems == ("Entry 9 was left out.",)


async def test_an_entry_left_out_of_an_incident_is_shown_by_the_fingerprint_alone(
    made: Path,
) -> None:
    whole = verify_bundle(made)
    files = read(made)
    left_out(files, 6)
    rewrite(made, files, honest=True)
    assert verify_bundle(made, anchor=whole.head).ok
    assert not verify_bundle(made, fingerprint=whole.fingerprint).ok
    assert b"not that they are all" in files["README.md"]


def test_a_bundle_that_calls_its_form_another_one_is_refused(made: Path) -> None:
    for form in (0, -1, 2):
        files = read(made)
        files["manifest.json"] = json.dumps(manifest_of(files) | {"format_version": form}).encode()
        rewrite(made, files)
        with pytest.raises(Unsupported):
            verify_bundle(made)


@pytest.mark.parametrize("lacking", ["journal", "clock", "selection", "made_at"])
def test_a_manifest_without_its_fields_is_none(made: Path, lacking: str) -> None:
    files = read(made)
    kept = {k: v for k, v in manifest_of(files).items() if k != lacking}
    rewrite(made, {**files, "manifest.json": json.dumps(kept).encode()})
    assert not verify_bundle(made).ok


def before(whole: bytes) -> bytes:
    return b"PK\3\4 another summary" + whole


def after(whole: bytes) -> bytes:
    return whole + b"another summary"


def comment(whole: bytes) -> bytes:
    return whole[:-2] + struct.pack("<H", 5) + b"hello"


def between(whole: bytes) -> bytes:
    """A member that no directory names: a program that reads from the front unpacks it."""
    end = bytearray(whole[-22:])
    (start,) = struct.unpack_from("<L", end, 16)
    name, content = b"summary.md", b"approved by nobody"
    sizes = (0, len(content), len(content), len(name), 0)
    hidden = b"PK\3\4" + struct.pack("<HHHHHLLLHH", 20, 0, 0, 0, 0, *sizes) + name + content
    struct.pack_into("<L", end, 16, start + len(hidden))
    return whole[:start] + hidden + whole[start:-22] + bytes(end)


@pytest.mark.parametrize("hide", [before, after, comment, between])
def test_what_a_zip_hides_beside_its_files_is_found(
    made: Path, hide: Callable[[bytes], bytes]
) -> None:
    assert verify_bundle(made).ok
    made.write_bytes(hide(made.read_bytes()))
    assert zipfile.is_zipfile(made)
    assert verify_bundle(made).problems == ("The zip holds something beside its files.",)


def test_what_a_member_hides_in_its_head_is_found(made: Path) -> None:
    files = read(made)
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name)
            member.extra = struct.pack("<HH", 0xCAFE, 60) + b"x" * 60
            archive.writestr(member, content)
    assert "The zip holds something beside its files." in verify_bundle(made).problems


async def investigated(db: Database, journal: Journal) -> str:
    """An incident with evidence, as the store writes it."""
    store = IncidentStore(db, journal, ShiftedClock(NOW))
    stored = await store.open(CART, "ann")
    found = ev.context(ev.baseline(), judged=ev.change()).model_copy(update={"target": CART})
    told = found.model_dump(mode="json", exclude_defaults=True)
    await store.save(stored.model_copy(update={"context": found}), "seen", "ann", evidence=told)
    return stored.incident.id


async def test_evidence_is_held_against_the_entry_that_tells_of_it(
    db: Database, journal: Journal, tmp_path: Path
) -> None:
    incident = await investigated(db, journal)
    path = tmp_path / "b.zip"
    await bundled(db, path, incident=incident)
    files = read(path)
    (held,) = [json.loads(line) for line in files["evidence.jsonl"].splitlines()]
    report = verify_bundle(path)
    assert report.ok and held["proven_by"] == 2 and report.unproven_evidence == ()

    series = {**held["evidence"]["requests"][0], "source": "nobody"}
    forged = {**held, "evidence": {**held["evidence"], "requests": [series]}}
    rewrite(path, {**files, "evidence.jsonl": lines([forged])}, honest=True)
    assert verify_bundle(path).problems == (
        "evidence.jsonl has not the evidence that entry 2 tells of.",
    )
    rewrite(path, {**files, "evidence.jsonl": lines([{**forged, "proven_by": None}])}, honest=True)
    report = verify_bundle(path)
    assert report.unproven_evidence == (incident,) and "rests on no entry" in report.says
    rewrite(path, {**files, "evidence.jsonl": b""}, honest=True)
    assert not verify_bundle(path).ok


async def test_the_policys_own_word_is_no_verdict_and_switches_are_told(
    db: Database, journal: Journal, tmp_path: Path
) -> None:
    acts = {"act": "claimed", "what": "acts under the policy"}
    await journal.append(EntryKind.DECISION, actor="policy", subject="shop/cart", body=acts)
    frozen = {"what": "frozen by ann"}
    await journal.append(EntryKind.NOTE, actor="ann", subject="freeze", body=frozen)
    await journal.append(EntryKind.NOTE, actor="eve", subject="read x", body={"what": "read"})
    path = tmp_path / "b.zip"
    await bundled(db, path)
    files = read(path)
    assert files["verdicts.jsonl"] == b"" and verify_bundle(path).ok
    text = files["summary.md"].decode()
    assert "policy: acts under the policy" in text and "freeze: frozen by ann" in text
    assert "eve |" not in text


async def test_a_later_judgement_and_what_people_were_told_follow_from_the_entries(
    db: Database, journal: Journal, tmp_path: Path
) -> None:
    incident = await investigated(db, journal)
    store = IncidentStore(db, journal, ShiftedClock(NOW))
    await store.note(incident, "told in Slack", "people")
    said = {"verdict_id": "v-1", "was_right": False, "note": "it was the database"}
    await journal.append(
        EntryKind.NOTE, actor="ann", subject=str(CART), incident_id=incident, body=said
    )
    path = tmp_path / "b.zip"
    await bundled(db, path, incident=incident)
    files = read(path)
    (record,) = [json.loads(line) for line in files["incidents.jsonl"].splitlines()]
    assert record["judged"]["was_right"] is False and record["judged"]["by"] == "ann"
    assert record["changes"][-1]["what"] == "told in Slack"
    text = files["summary.md"].decode()
    assert "wrong, by ann" in text and "it was the database" in text
    files["incidents.jsonl"] = files["incidents.jsonl"].replace(
        b'"was_right":false', b'"was_right":true'
    )
    rewrite(path, files, honest=True)
    assert not verify_bundle(path).ok


@pytest.mark.parametrize(
    ("name", "content"),
    [("summary.md", b"\0" * 64_000_000), ("entries.jsonl", b"\n" * 64_000_000)],
    ids=["a page of zeros", "lines without content"],
)
def test_a_file_that_was_blown_up_is_found_without_being_held(
    made: Path, name: str, content: bytes
) -> None:
    rewrite(made, {**read(made), name: content}, honest=True)
    assert made.stat().st_size < 1_000_000
    tracemalloc.start()
    try:
        report = verify_bundle(made)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not report.ok
    assert peak < 10_000_000, "bytes"
