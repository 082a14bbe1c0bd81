"""Appends to a journal until it is told to stop, or killed. Run as a program by the tests."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

from mcp_devops.journal.database import open_database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.text.secrets import Redactor


async def main(path: str, actor: str, times: int) -> None:
    async with open_database(path) as db:
        journal = Journal(db, Redactor(), lambda: datetime.now(UTC))
        for number in range(times):
            entry = await journal.append(
                EntryKind.CALL_STARTED,
                actor=actor,
                subject="kubernetes_get_rollout",
                body={"number": number, "padding": "x" * 500},
                call_id=f"{actor}-{number}",
            )
            print(entry.seq, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
