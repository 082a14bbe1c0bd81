"""The audit bundle: what it tells, and that nothing in it can be changed unseen."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.errors import InvalidArguments, NotFound, Unsupported
from mcp_devops.journal import clock_source
from mcp_devops.journal.bundle import Bundle, Selection, write_bundle
from mcp_devops.journal.bundle_check import FILES, verify_bundle
from mcp_devops.journal.bundle_facts import lines
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database, open_database
from mcp_devops.journal.entry import EntryKind, hash_of
from mcp_devops.journal.journal import Journal
from mcp_devops.model.record import canonical_json
from mcp_devops.text.secrets import Redactor
from tests.rooms.journal.conftest import Ticking

NOW = datetime(2026, 3, 1, 13, 0, tzinfo=UTC)
PLAN = {
    "summary": "Roll cart back | 8 -> 7\n# not a heading",
    "reason": "errors <b>12 %</b>",
    "verdict_id": "v-1",
    "confidence": 0.93,
    "evidence_complete": True,
}
VERDICT = {
    "id": "v-1",
    "action": "roll_back",
    "confidence": 0.93,
    "headline": "The deployment did it",
    "policy_version": "default-0123456789ab",
    "findings": [{"rule": "errors", "says": "12 % against 0.1 %, limit 1 %"}],
    "vetoes": [{"code": "v", "says": "a veto"}],
}


async def night(journal: Journal) -> None:
    """One incident from its opening to its end, beside another, with a server start before."""

    async def add(kind: EntryKind, actor: str, incident: str | None = "inc-1", **more: Any) -> None:
        call = {"call_id": more.pop("call")} if "call" in more else {}
        subject = more.pop("subject", "Deployment shop/cart")
        await journal.append(
            kind, actor=actor, subject=subject, incident_id=incident, body=more, **call
        )

    ids = {"approval_id": "apr-1", "plan_digest": "d" * 64}
    await add(EntryKind.SERVER_STARTED, "stdio", None, version="0")
    await add(EntryKind.SERVER_STARTED, "stdio", None, version="1", allow_writes=["shop"])
    await add(EntryKind.CALL_STARTED, "ann", None, call="c-1", subject="incident_decide")
    await add(EntryKind.INCIDENT_CHANGED, "ann", status="investigating", what="opened")
    await add(EntryKind.DECISION, "engine", call="c-1", verdict=VERDICT)
    await add(EntryKind.CALL_FINISHED, "ann", None, call="c-1", outcome="ok")
    await add(EntryKind.NOTE, "bob", "inc-2", what="of another incident")
    await add(EntryKind.APPROVAL_REQUESTED, "ann", plan=PLAN, expires_at="soon", **ids)
    await add(
        EntryKind.APPROVAL_ANSWERED, "bob", status="approved", channel="terminal", note="", **ids
    )
    await add(EntryKind.ACTION_STARTED, "ann", call="c-2", plan=PLAN, approved_by="bob", **ids)
    await add(
        EntryKind.ACTION_FINISHED, "ann", call="c-2", status="done", outcome={"seen": "healthy"}
    )
    await add(EntryKind.INCIDENT_CHANGED, "engine", status="recovered", what="errors are gone")
    await add(EntryKind.SERVER_STOPPED, "stdio", None)


ENTRIES = 13
OF_INCIDENT = [2, 3, 4, 5, 6, 8, 9, 10, 11, 12]


async def bundled(db: Database, path: Path, **chosen: Any) -> Bundle:
    return await write_bundle(
        db, path, Selection(**chosen), redactor=Redactor(()), now=NOW, version="1.2.3"
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A bundle of one incident; the zip does not depend on the database it came from."""
    folder = tmp_path_factory.mktemp("bundle")

    async def make() -> bytes:
        async with open_database(folder / "state.db") as db:
            await night(Journal(db, Redactor(()), Ticking()))
            await bundled(db, folder / "bundle.zip", incident="inc-1")
        return (folder / "bundle.zip").read_bytes()

    return asyncio.run(make())


@pytest.fixture
def made(original: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "made.zip"
    path.write_bytes(original)
    return path


def read(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def records(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


def rewrite(path: Path, files: dict[str, bytes], *, honest: bool = False) -> None:
    """Put other content in; honest: with a manifest that fits it again."""
    if honest:
        manifest = json.loads(files["manifest.json"])
        for name in manifest["files"].keys() & files.keys():
            manifest["files"][name]["sha256"] = hashlib.sha256(files[name]).hexdigest()
        files["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


async def test_a_bundle_of_an_incident_holds_all_that_belongs_to_it(
    db: Database, journal: Journal, tmp_path: Path
) -> None:
    await night(journal)
    path = tmp_path / "bundle.zip"
    made = await bundled(db, path, incident="inc-1")
    files = read(path)
    assert set(files) == {*FILES, "manifest.json"}
    assert [e["seq"] for e in records(files["entries.jsonl"])] == OF_INCIDENT
    assert [e["seq"] for e in records(files["chain.jsonl"])] == list(range(2, ENTRIES + 1))
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path).count("bundle.zip.part") == 0
    report = verify_bundle(path)
    assert report.ok and report.entries == len(OF_INCIDENT) and report.chain_was_whole, report
    assert report.fingerprint == made.fingerprint
    assert b"of another incident" not in b"".join(files.values())


def test_it_tells_who_approved_what_on_which_evidence_and_how_it_ended(made: Path) -> None:
    files = read(made)
    (approval,) = records(files["approvals.jsonl"])
    assert approval["what"] == PLAN["summary"] and approval["requested_by"] == "ann"
    assert (approval["verdict_id"], approval["verdict_seq"]) == ("v-1", 5)
    assert [(a["by"], a["status"], a["channel"]) for a in approval["answers"]] == [
        ("bob", "approved", "terminal")
    ]
    assert approval["used_by"] == [10]
    (action,) = records(files["actions.jsonl"])
    assert (action["by"], action["approved_by"], action["verdict_seq"]) == ("ann", "bob", 5)
    assert action["finished"]["outcome"] == {"seen": "healthy"}
    (verdict,) = records(files["verdicts.jsonl"])
    assert verdict["verdict"] == VERDICT
    (incident,) = records(files["incidents.jsonl"])
    assert incident["last_status"] == "recovered" and len(incident["changes"]) == 2
    manifest = json.loads(files["manifest.json"])
    assert manifest["clock"]["source"].startswith("system clock")
    assert manifest["selection"]["incident"] == "inc-1" and manifest["made_by"] == "1.2.3"
    controls = {c["control"] for c in json.loads(files["controls.json"])["controls"]}
    assert {"SOC 2 CC7.2", "SOC 2 CC8.1", "PCI DSS 10.2", "PCI DSS 12.10"} <= controls


def test_the_summary_is_for_people_and_no_text_poses_as_markup(made: Path) -> None:
    text = read(made)["summary.md"].decode()
    for said in ("roll\\_back: The deployment did it", "93.0%", "bob", "terminal", "recovered"):
        assert said in text, said
    assert "\n# not a heading" not in text and "<b>" not in text
    assert "cart back \\| 8" in text and "default-0123456789ab" in text and "a veto" in text
    assert "12 % against 0.1 %, limit 1 %" in text


def test_the_recipe_of_the_readme_checks_it_without_the_program(made: Path, tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", read(made)["README.md"].decode(), re.DOTALL)
    assert found
    recipe = tmp_path / "check.py"
    recipe.write_text(found[1], encoding="utf-8")
    command = [sys.executable, "-I", str(recipe), str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"whole: {len(OF_INCIDENT)} entries" in done.stdout
    assert verify_bundle(made).fingerprint in done.stdout
    files = read(made)
    files["entries.jsonl"] = files["entries.jsonl"].replace(b"bob", b"eve")
    rewrite(made, files, honest=True)
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


async def test_a_stretch_of_time_and_the_whole_journal_can_be_bundled(
    db: Database, journal: Journal, tmp_path: Path
) -> None:
    await night(journal)
    start = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    async def seqs(**chosen: Any) -> list[int]:
        path = tmp_path / "some.zip"
        await bundled(db, path, **chosen)
        assert verify_bundle(path).ok
        return [e["seq"] for e in records(read(path)["entries.jsonl"])]

    assert await seqs() == list(range(1, ENTRIES + 1))
    assert await seqs(since=start + timedelta(seconds=10)) == [10, 11, 12, 13]
    assert await seqs(since=start, until=start + timedelta(seconds=3)) == [1, 2]
    assert await seqs(since=start + timedelta(days=1)) == []


async def test_an_approval_from_before_the_stretch_is_known_by_its_id(
    db: Database, journal: Journal, tmp_path: Path
) -> None:
    await night(journal)
    path = tmp_path / "late.zip"
    await bundled(db, path, since=datetime(2026, 3, 1, 12, 0, 9, tzinfo=UTC))
    (approval,) = records(read(path)["approvals.jsonl"])
    assert approval["approval_id"] == "apr-1" and approval["used_by"] == [10]
    path2 = tmp_path / "later.zip"
    await bundled(db, path2, since=datetime(2026, 3, 1, 12, 0, 11, tzinfo=UTC))
    (action,) = records(read(path2)["actions.jsonl"])
    assert action["finished"]["status"] == "done"
    assert verify_bundle(path).ok and verify_bundle(path2).ok


async def test_an_incident_that_nobody_knows_makes_no_file(db: Database, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await bundled(db, tmp_path / "b.zip", incident="inc-none")
    with pytest.raises(InvalidArguments):
        await bundled(db, tmp_path / "b.zip", incident="inc-1", since=NOW)
    with pytest.raises(InvalidArguments):
        await bundled(db, tmp_path / "no" / "folder" / "b.zip")
    assert [n for n in os.listdir(tmp_path) if n.startswith("b.zip")] == []


async def test_evidence_and_later_judgement_of_an_incident_are_in_it(
    db: Database, journal: Journal, tmp_path: Path
) -> None:
    await night(journal)

    def keep(connection: Connection) -> None:
        body = {"incident": {}, "context": {"pods": 3, "env": [{"name": "DB_PASSWORD",
                "value": "hunter2-x9"}]}}  # fmt: skip
        connection.execute(
            "INSERT INTO incidents (id, namespace, name, status, opened_at, updated_at, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            ("inc-1", "shop", "cart", "recovered", "then", "now", json.dumps(body)),
        )
        connection.execute(
            "INSERT INTO outcomes (incident_id, verdict_id, target, automatic, was_right, by_whom,"
            " note, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            ("inc-1", "v-1", "shop/cart", False, True, "ann", "", "later"),
        )

    await db.run(keep)
    path = tmp_path / "b.zip"
    await bundled(db, path, incident="inc-1")
    (held,) = records(read(path)["evidence.jsonl"])
    assert held["evidence"]["pods"] == 3 and held["judged_afterwards"]["was_right"] == 1
    assert b"hunter2" not in b"".join(read(path).values())


async def test_what_is_a_secret_by_now_is_taken_out_and_told(
    db: Database, journal: Journal, tmp_path: Path
) -> None:
    await night(journal)
    path = tmp_path / "b.zip"
    redactor = Redactor(["healthy"])
    await write_bundle(db, path, Selection(), redactor=redactor, now=NOW, version="1")
    files = read(path)
    assert b"healthy" not in b"".join(files.values())
    report = verify_bundle(path)
    assert report.ok and report.unproven == (11,) and "cannot be proven" in report.says


CHANGES: dict[str, Callable[[dict[str, bytes]], None]] = {}


def change(name: str) -> Callable[[Callable[[dict[str, bytes]], None]], None]:
    return lambda do: CHANGES.update({name: do})


def edit(files: dict[str, bytes], name: str, do: Callable[[list[Any]], Any]) -> None:
    rows = records(files[name])
    do(rows)
    files[name] = lines(rows)


@change("an entry is changed")
def _(files: dict[str, bytes]) -> None:
    edit(files, "entries.jsonl", lambda rows: rows[3].update(actor="eve"))


@change("an entry is changed and hashed anew")
def _(files: dict[str, bytes]) -> None:
    def do(rows: list[Any]) -> None:
        rows[3]["actor"] = "eve"
        rows[3]["hash"] = hash_of(rows[3])

    edit(files, "entries.jsonl", do)


@change("an entry is removed")
def _(files: dict[str, bytes]) -> None:
    edit(files, "entries.jsonl", lambda rows: rows.pop(4))


@change("entries are swapped")
def _(files: dict[str, bytes]) -> None:
    edit(files, "entries.jsonl", lambda rows: rows.insert(2, rows.pop(3)))


@change("an entry is there twice")
def _(files: dict[str, bytes]) -> None:
    edit(files, "entries.jsonl", lambda rows: rows.insert(2, rows[2]))


@change("an entry is put in")
def _(files: dict[str, bytes]) -> None:
    def do(rows: list[Any]) -> None:
        made = {**rows[-1], "seq": 7, "actor": "eve"}
        rows.insert(5, {**made, "hash": hash_of(made)})

    edit(files, "entries.jsonl", do)


@change("an entry is no entry")
def _(files: dict[str, bytes]) -> None:
    edit(files, "entries.jsonl", lambda rows: rows.append({"seq": 99}))


@change("an entry is no object")
def _(files: dict[str, bytes]) -> None:
    files["entries.jsonl"] += b"[]\nnonsense\n"


@change("an entry has spaces")
def _(files: dict[str, bytes]) -> None:
    files["entries.jsonl"] = files["entries.jsonl"].replace(b'"actor":', b'"actor": ', 1)


@change("a link is removed")
def _(files: dict[str, bytes]) -> None:
    edit(files, "chain.jsonl", lambda rows: rows.pop(3))


@change("links are swapped")
def _(files: dict[str, bytes]) -> None:
    edit(files, "chain.jsonl", lambda rows: rows.insert(2, rows.pop(3)))


@change("the end is cut off")
def _(files: dict[str, bytes]) -> None:
    edit(files, "chain.jsonl", lambda rows: rows.pop())


@change("a link has no number")
def _(files: dict[str, bytes]) -> None:
    edit(files, "chain.jsonl", lambda rows: rows[3].pop("seq"))


@change("an approval is changed")
def _(files: dict[str, bytes]) -> None:
    files["approvals.jsonl"] = files["approvals.jsonl"].replace(b"bob", b"eve")


@change("a verdict is removed")
def _(files: dict[str, bytes]) -> None:
    files["verdicts.jsonl"] = b""


@change("an action is put in")
def _(files: dict[str, bytes]) -> None:
    files["actions.jsonl"] += files["actions.jsonl"]


@pytest.mark.parametrize("honest", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_also_under_a_manifest_that_was_made_anew(
    made: Path, name: str, honest: bool
) -> None:
    files = read(made)
    CHANGES[name](files)
    rewrite(made, files, honest=honest)
    report = verify_bundle(made)
    assert not report.ok and report.problems and report.problems[0] in report.says


@pytest.mark.parametrize("name", sorted({*FILES} - {"manifest.json"}))
def test_a_file_that_is_gone_changed_or_twice_is_found(made: Path, name: str) -> None:
    whole = read(made)
    gone = {n: c for n, c in whole.items() if n != name}
    rewrite(made, gone)
    assert f"{name} is missing." in verify_bundle(made).problems
    rewrite(made, {**whole, name: whole[name] + b" "})
    assert not verify_bundle(made).ok
    rewrite(made, whole)
    assert verify_bundle(made).ok
    with zipfile.ZipFile(made, "a") as archive, pytest.warns(UserWarning):
        archive.writestr(name, b"")
    assert f"{name} is there more than once." in verify_bundle(made).problems
    rewrite(made, {**whole, "more.txt": b""})
    assert "more.txt was added." in verify_bundle(made).problems


def test_one_flipped_byte_anywhere_never_passes(made: Path, tmp_path: Path) -> None:
    whole = made.read_bytes()
    flipped = tmp_path / "flipped.zip"
    before = read(made)
    for place in range(0, len(whole), max(1, len(whole) // 150)):
        flipped.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            report = verify_bundle(flipped)
        except (InvalidArguments, Unsupported):
            continue
        assert not report.ok or read(flipped) == before, place


async def test_what_was_kept_elsewhere_shows_a_bundle_made_anew(
    db: Database, journal: Journal, tmp_path: Path
) -> None:
    await night(journal)
    made = tmp_path / "made.zip"
    await bundled(db, made, incident="inc-1")
    report = verify_bundle(made)
    assert report.head
    assert verify_bundle(made, anchor=report.head, fingerprint=report.fingerprint.upper()).ok
    await journal.append(EntryKind.NOTE, actor="a", subject="s", body={})
    again = tmp_path / "again.zip"
    await bundled(db, again, incident="inc-1")
    assert verify_bundle(again, anchor=report.head).ok
    assert not verify_bundle(again, fingerprint=report.fingerprint).ok
    assert not verify_bundle(made, anchor=verify_bundle(again).head).ok
    with pytest.raises(InvalidArguments):
        verify_bundle(made, anchor="yesterday")


async def test_a_broken_journal_is_bundled_and_says_so(
    db: Database, journal: Journal, tmp_path: Path, tamper: Callable[[str], None]
) -> None:
    await night(journal)
    tamper("UPDATE entries SET actor = 'eve' WHERE seq = 9; UPDATE entries SET body = 'gone'"
           " WHERE seq = 11")  # fmt: skip
    path = tmp_path / "b.zip"
    made = await bundled(db, path)
    assert not made.chain.ok and made.chain.broken_seq == 9
    assert "Entry 9" in read(path)["summary.md"].decode()
    report = verify_bundle(path)
    assert not report.ok and not report.chain_was_whole


async def test_times_that_run_backwards_are_counted(db: Database, tmp_path: Path) -> None:
    times = iter([5, 3, 4, 1])
    journal = Journal(db, Redactor(()), lambda: NOW + timedelta(seconds=next(times)))
    for _ in range(4):
        await journal.append(EntryKind.NOTE, actor="a", subject="s", body={})
    path = tmp_path / "b.zip"
    await bundled(db, path)
    assert json.loads(read(path)["manifest.json"])["clock"]["steps_back"] == 2
    assert verify_bundle(path).ok


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    with pytest.raises(InvalidArguments):
        verify_bundle(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(InvalidArguments):
        verify_bundle(path)
    for manifest in (None, b"nonsense", b"\xff"):
        rewrite(path, {"other": b""} if manifest is None else {"manifest.json": manifest})
        with pytest.raises(InvalidArguments):
            verify_bundle(path)
    for manifest in (b"[]", b'{"format_version": 2}', b'{"format_version": true}'):
        rewrite(path, {"manifest.json": manifest})
        with pytest.raises(Unsupported):
            verify_bundle(path)
    rewrite(path, {"manifest.json": b'{"format_version": 1, "redacted_again": {}}'})
    assert not verify_bundle(path).ok


def test_a_bundle_that_was_cut_in_transport_is_refused(made: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.zip"
    shutil.copy(made, cut)
    cut.write_bytes(cut.read_bytes()[:-40])
    with pytest.raises(InvalidArguments):
        verify_bundle(cut)


def test_the_kernels_word_on_the_clock_is_read() -> None:
    status = clock_source.clock_status()
    assert status.source.startswith("system clock")
    assert "System clock" in status.says


@pytest.mark.parametrize(
    ("state", "flags", "offset", "synchronised", "offset_s"),
    [
        (0, 0x2001, 1_500, True, 1.5e-6),
        (0, 0x0001, 1_500, True, 1.5e-3),
        (5, 0x0001, 0, False, None),
        (0, 0x0041, 0, False, None),
    ],
)
def test_a_clock_that_nothing_keeps_right_is_never_called_right(
    state: int, flags: int, offset: int, synchronised: bool, offset_s: float | None
) -> None:
    status = clock_source.status_of(state, flags, offset, 2_000)
    assert (status.synchronised, status.offset_s) == (synchronised, offset_s)
    assert ("not verified" in status.says) is not synchronised


def test_where_nobody_can_tell_nothing_is_claimed() -> None:
    status = clock_source.unknown("no such call")
    assert status.synchronised is None and "not verified" in status.says


def test_lines_are_canonical() -> None:
    assert lines([{"b": 1, "a": "é"}]) == canonical_json({"a": "é", "b": 1}) + b"\n"
