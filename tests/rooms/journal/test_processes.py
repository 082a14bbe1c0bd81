"""The journal under several processes, and under kill -9."""

from __future__ import annotations

import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from mcp_devops.journal.database import Database, open_database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import PAGE_LIMIT, Journal
from mcp_devops.text.secrets import Redactor

ROOT = Path(__file__).parents[3]
APPENDER = Path(__file__).with_name("appender.py")


async def appender(where: Path | str, actor: str, times: int) -> Process:
    return await anyio.open_process(
        [sys.executable, str(APPENDER), str(where), actor, str(times)],
        stderr=None,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )


def journal_of(db: Database) -> Journal:
    return Journal(db, Redactor(), lambda: datetime(2026, 3, 1, tzinfo=UTC))


@pytest.mark.parametrize("lines", [1, 7, 40])
async def test_a_journal_survives_kill_9_in_the_middle_of_writing(
    where: Path | str, lines: int
) -> None:
    with anyio.fail_after(60):
        process = await appender(where, "doomed", 1_000_000)
        acknowledged = ""
        assert process.stdout
        async for text in TextReceiveStream(process.stdout):
            acknowledged += text
            if acknowledged.count("\n") >= lines:
                break
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await process.aclose()
    last = int(acknowledged[: acknowledged.rindex("\n")].split("\n")[-1])

    async with open_database(where) as db:
        journal = journal_of(db)
        report = await journal.verify()
        assert report.ok, report.says
        assert report.entries >= last
        started = await journal.unfinished()
        assert len(started) == report.entries
        added = await journal.append(EntryKind.NOTE, actor="a", subject="s", body={})
        assert added.seq == report.entries + 1
        assert (await journal.verify(report.head)).ok


async def test_processes_that_append_at_once_make_one_sound_chain(where: Path | str) -> None:
    async def run(actor: str) -> None:
        process = await appender(where, actor, 60)
        assert process.stdout
        async for _ in TextReceiveStream(process.stdout):
            pass
        assert await process.wait() == 0
        await process.aclose()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for actor in ("one", "two", "three"):
                tasks.start_soon(run, actor)

    async with open_database(where) as db:
        journal = journal_of(db)
        report = await journal.verify()
        assert report.ok, report.says
        assert report.entries == 180
        page = await journal.list(actor="two", limit=PAGE_LIMIT)
        assert [entry.body["number"] for entry in page.entries] == list(range(60))
