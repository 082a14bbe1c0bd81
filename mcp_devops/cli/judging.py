"""`mcp-devops outcome`: a person's word, afterwards, on whether a decision was right."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_devops.cli.recording import AsJson, open_records, tell
from mcp_devops.cli.serving import StateDir
from mcp_devops.toolkit.local_user import local_user

if TYPE_CHECKING:
    from mcp_devops.decision.policy import ChangeHistory
    from mcp_devops.incidents.outcomes import Judgement


class Word(StrEnum):
    """What a person says of a decision."""

    RIGHT = "right"
    WRONG = "wrong"


def outcome(
    incident_id: Annotated[str, typer.Argument(metavar="ID", help="inc-<8 hex>.")],
    word: Annotated[Word, typer.Argument(metavar="right|wrong", help="Was the verdict right?")],
    note: Annotated[str, typer.Option("--note", help="How you know; goes into the record.")] = "",
    as_json: AsJson = False,
    state_dir: StateDir = None,
) -> None:
    """Say whether the decision on an incident was right. Say it again to correct it.

    The server's right to act alone rests on these: "rolled back, errors stayed" is wrong.
    """

    async def judge() -> tuple[Judgement, ChangeHistory]:
        from mcp_devops.incidents.outcomes import history_of, record_outcome

        async with open_records(state_dir) as records:
            said = await record_outcome(
                records.database,
                records.journal,
                await records.incidents.get(incident_id),
                was_right=word is Word.RIGHT,
                who=local_user(),
                now=records.now,
                note=note,
            )
            return said, await history_of(records.database, said.target)

    said, history = asyncio.run(judge())
    before = ""
    if said.before is not None:
        was = Word.RIGHT if said.before else Word.WRONG
        before = f" Before it was judged {was.value}; both are in the journal."
    kind = "The automatic decision" if said.automatic else "The decision, one for a person,"
    text = (
        f"{kind} on {said.incident_id} ({said.target}) is judged {word.value}.{before}\n"
        f"Automatic decisions of this workload: {history.right} of {history.judged} right."
    )
    data = {"judgement": said.model_dump(mode="json"), "history": history.model_dump(mode="json")}
    tell(text, data, as_json=as_json)
