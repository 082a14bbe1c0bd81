"""Pieces of a Slack message within its limits, with foreign text made harmless. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from mcp_devops.integrations.slack.records import Message
from mcp_devops.text.clean import clean

MAX_BLOCKS = 50
"""Blocks of one message."""
SECTION_CHARS = 3000
"""Characters of a section's or context element's text."""
FIELD_CHARS = 2000
"""Characters of a section's field."""
HEADER_CHARS = 150
"""Characters of a header."""
VALUE_CHARS = 255
"""Characters of a button's value that every client carries."""
TOTAL_CHARS = 10_000
"""Characters of all blocks: Slack refuses somewhat over 13,000 and does not document it."""
TEXT_CHARS = 1_000
"""Characters of the fallback text: it is read on a lock screen."""

Block = dict[str, Any]

_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_ELLIPSIS = "\u2026"


def escaped(text: str, max_chars: int = SECTION_CHARS) -> str:
    """Text that Slack shows as it stands, never longer than `max_chars` after escaping.

    `<!channel>` and links in a log line become letters; no entity is cut in half.
    """
    pieces = [_ESCAPED.get(letter, letter) for letter in text[: max(max_chars, 0) + 1]]
    if sum(map(len, pieces)) <= max_chars:
        return "".join(pieces)
    room = max_chars - len(_ELLIPSIS)
    kept: list[str] = []
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            break
        kept.append(piece)
    return "".join(kept) + _ELLIPSIS if max_chars > 0 else ""


def foreign(text: str, max_chars: int = 500) -> str:
    """Foreign text on one line: cleaned, escaped, bounded, and unable to open a code span."""
    return escaped(" ".join(clean(text).split()).replace("`", "'"), max_chars)


def utc(at: datetime, form: str = "%H:%M:%S") -> str:
    """A moment as the messages name it, whatever zone it was told in."""
    return f"{at.astimezone(UTC):{form}}"


def code(text: str, max_chars: int = SECTION_CHARS) -> str:
    """Foreign lines as a block of code that they cannot end; the newest lines survive."""
    tidy = clean(text).replace("`", "'").strip("\n")
    room = max_chars - 8  # the fences and their line ends
    lines: list[str] = []
    for line in reversed(tidy.split("\n")):
        shown = escaped(line, SECTION_CHARS)
        if len(shown) + 1 > room:
            if not lines:
                lines.append(escaped(line, room - 1))
            break
        room -= len(shown) + 1
        lines.append(shown)
    return "```\n" + "\n".join(reversed(lines)) + "\n```"


def mrkdwn(text: str) -> Block:
    """A text object whose names and addresses stay letters; the text is escaped already."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def plain(text: str, max_chars: int) -> Block:
    """A text object without any markup."""
    tidy = " ".join(clean(text).split())
    if len(tidy) > max_chars:
        tidy = tidy[: max_chars - 1] + _ELLIPSIS
    return {"type": "plain_text", "text": tidy or "-", "emoji": False}


def header(text: str) -> Block:
    """A headline."""
    return {"type": "header", "text": plain(text, HEADER_CHARS)}


def section(text: str) -> Block:
    """A paragraph; the text is escaped already and fits."""
    return {"type": "section", "text": mrkdwn(text)}


def fields(pairs: Sequence[tuple[str, str]]) -> Block:
    """Up to ten short facts in two columns: names are ours, values foreign."""
    shown = [mrkdwn(f"*{name}*\n{foreign(value, 300) or '-'}") for name, value in pairs[:10]]
    return {"type": "section", "fields": shown}


def context(text: str) -> Block:
    """A line in small grey letters; the text is escaped already."""
    return {"type": "context", "elements": [mrkdwn(text)]}


def button(label: str, action_id: str, value: str, style: str, confirm: Block | None) -> Block:
    """A button.

    Raises:
        ValueError: The value is longer than Slack carries; cutting it would approve another thing.
    """
    if len(value) > VALUE_CHARS:
        raise ValueError(f"a button's value has at most {VALUE_CHARS} characters")
    made: Block = {
        "type": "button",
        "action_id": action_id,
        "value": value,
        "style": style,
        "text": plain(label, 75),
    }
    return made | ({"confirm": confirm} if confirm else {})


def message(text: str, blocks: Sequence[Block]) -> Message:
    """Put a message together; blocks that do not fit are left out from the end, and it says so."""
    kept: list[Block] = []
    room = TOTAL_CHARS - 100
    for index, block in enumerate(blocks):
        size = _chars(block)
        last = index == len(blocks) - 1
        if size > room or (len(kept) == MAX_BLOCKS - 1 and not last):
            kept.append(context(f"{len(blocks) - index} more parts are left out here."))
            break
        room -= size
        kept.append(block)
    line = " ".join(clean(text).split())
    return Message(text=escaped(line, TEXT_CHARS), blocks=tuple(kept))


def _chars(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_chars(v) for v in value.values())
    return sum(_chars(v) for v in value) if isinstance(value, list | tuple) else 0
