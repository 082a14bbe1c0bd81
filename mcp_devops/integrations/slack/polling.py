"""Answers where Slack cannot reach us: reactions and replies under the bot's own question."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from mcp_devops.errors import DevOpsError, UpstreamError
from mcp_devops.integrations.slack.approvals import APPROVAL_ID
from mcp_devops.integrations.slack.client import SlackClient
from mcp_devops.integrations.slack.records import Decision, MessageRef, Spoken

REACTIONS = {
    "white_check_mark": Decision.APPROVE,
    "heavy_check_mark": Decision.APPROVE,
    "x": Decision.REJECT,
    "no_entry": Decision.REJECT,
    "no_entry_sign": Decision.REJECT,
}
"""Reactions that are an answer; the skin tone after `::` is ignored. A thumb is not an answer:
people put it under messages that they have only read."""
MAX_PAGES = 5
PAGE_SIZE = 200
_WORDS = re.compile(
    rf"\W*(?P<word>approve|reject|deny)(?:\s+(?P<id>{APPROVAL_ID.pattern}))?\W*", re.IGNORECASE
)
_USER = re.compile(r"[A-Z0-9]{1,64}")


async def look(client: SlackClient, question: MessageRef, approval_id: str) -> tuple[Spoken, ...]:
    """Who has answered so far, rejections first: any of them outweighs a yes.

    Args:
        client: Needs channels:history (groups:history in a private channel).
        question: The bot's own message that asked.
        approval_id: The approval it asked for.

    Raises:
        As SlackClient.call.
    """
    own = await client.own_id()
    messages: list[Any] = []
    cursor = ""
    for _ in range(MAX_PAGES):
        form = {"channel": question.channel, "ts": question.ts, "limit": str(PAGE_SIZE)}
        if cursor:
            form["cursor"] = cursor
        body = await client.call("conversations.replies", form, form=True)
        found = body.get("messages")
        messages += found if isinstance(found, list) else []
        more = body.get("response_metadata")
        cursor = str(more.get("next_cursor") or "") if isinstance(more, Mapping) else ""
        if not cursor:
            break
    return answers_in(messages, question.ts, approval_id, own)


def answers_in(
    messages: Sequence[Any], question_ts: str, approval_id: str, own_user_id: str
) -> tuple[Spoken, ...]:
    """The answers in a thread, rejections first. Pure: junk among the messages is passed over.

    A reaction counts on the question only. A reply counts if it says nothing but `approve`,
    `reject` or `deny`, alone or with this approval's id; alone only in the question's own thread.
    """
    spoken: list[Spoken] = []
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("ts"), str):
            continue
        if message["ts"] == question_ts:
            spoken += _reactions(message, approval_id, own_user_id)
        elif reply := _reply(message, question_ts, approval_id, own_user_id):
            spoken.append(reply)
    unique = {(s.decision, s.user_id, s.by, s.ts): s for s in spoken}
    return tuple(sorted(unique.values(), key=lambda s: (s.decision is Decision.APPROVE, s.ts)))


async def watch(
    client: SlackClient, question: MessageRef, approval_id: str, *, until: datetime
) -> AsyncIterator[Spoken]:
    """Each new answer as it is seen, until the time is over; looks every poll_s seconds.

    A look that fails in passing is repeated at the next turn.

    Raises:
        As look, for what waiting does not mend; and the last failure if no look ever worked.
    """
    told: set[tuple[str, str, str, str]] = set()
    worked, last = False, None
    while client.clock.now() < until:
        try:
            found = await look(client, question, approval_id)
        except UpstreamError as passing:
            found, last = (), passing
        else:
            worked = True
        for answer in found:
            key = (answer.decision.value, answer.user_id, answer.by, answer.ts)
            if key not in told:
                told.add(key)
                yield answer
        await client.pause(client.settings.poll_s)
    if not worked and isinstance(last, DevOpsError):
        raise last


def _reactions(message: Mapping[str, Any], approval_id: str, own: str) -> list[Spoken]:
    listed = message.get("reactions")
    spoken = []
    for reaction in listed if isinstance(listed, list) else []:
        if not isinstance(reaction, Mapping):
            continue
        decision = REACTIONS.get(str(reaction.get("name"))[:100].split("::")[0])
        users = reaction.get("users")
        if decision is None or not isinstance(users, list):
            continue
        spoken += [
            Spoken(
                decision=decision,
                approval_id=approval_id,
                user_id=user,
                by="reaction",
                ts=message["ts"],
            )
            for user in users
            if _is_person(user, own)
        ]
    return spoken


def _reply(message: Mapping[str, Any], thread: str, approval_id: str, own: str) -> Spoken | None:
    user, text = message.get("user"), message.get("text")
    if message.get("bot_id") or message.get("subtype") or not _is_person(user, own):
        return None
    match = _WORDS.fullmatch(text) if isinstance(text, str) and len(text) <= 200 else None
    if match is None:
        return None
    if match["id"] is None and message.get("thread_ts") != thread:
        return None
    if match["id"] is not None and match["id"] != approval_id:
        return None
    return Spoken(
        decision=Decision.APPROVE if match["word"].lower() == "approve" else Decision.REJECT,
        approval_id=approval_id,
        user_id=str(user),
        by="reply",
        ts=message["ts"],
    )


def _is_person(user: Any, own: str) -> bool:
    return isinstance(user, str) and user != own and bool(_USER.fullmatch(user))
