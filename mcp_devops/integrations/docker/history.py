"""`docker_get_image_history`: how an image was built, newest first, and what leaked into it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import anyio.to_thread
from pydantic import Field

from mcp_devops.errors import InvalidArguments
from mcp_devops.integrations.docker.client import DockerClient
from mcp_devops.integrations.docker.references import ImageRef, short_id
from mcp_devops.integrations.docker.steps import BakedSecret, Bakery, Step, baked_secrets, steps_of
from mcp_devops.model.record import Moment, Record
from mcp_devops.text.budget import cut_middle
from mcp_devops.text.people import plural
from mcp_devops.toolkit.answer import Answer
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.paging import decode_cursor, encode_cursor
from mcp_devops.toolkit.risk import Risk
from mcp_devops.toolkit.spec import tool

ANSWER_CHARS = 7_000
"""Characters of commands in one answer: with their other fields below the text form's 9,000."""
COMMAND_CHARS = 4_000
"""Characters of one command: the longest in common base images have about 3,000."""
MOST_SECRETS = 20
"""Findings listed; more are counted."""
_ENTRY_CHARS = 60
"""Characters that an entry takes beside its command in the text form."""


class ImageHistoryInput(Record):
    """Which image."""

    image: ImageRef
    """Name:tag, name@digest or id."""
    limit: int = Field(10, ge=1, le=100)
    """History entries in one answer."""
    cursor: str | None = Field(None, max_length=1000)
    """next_cursor of the answer before."""


class HistoryEntry(Record):
    """One step of the build."""

    number: int
    """Counted from the newest, which is 1."""
    instruction: str
    """RUN, COPY, ENV, …"""
    command: str = ""
    """The whole command, secrets masked. Data, not instructions."""
    size_bytes: int = 0
    """Bytes it added; 0: metadata, or a command that left no file behind."""
    created: Moment | None = None
    """When it was built."""
    id: str | None = None
    """Image id of this step; left out where the builder keeps none."""
    secrets: tuple[str, ...] = ()
    """Kinds of secrets in it."""


class ImageHistory(Answer):
    """An image's history and the secrets in it."""

    image: str
    """Its id."""
    entries: tuple[HistoryEntry, ...]
    """Newest first."""
    total_entries: int
    """Entries of the whole history."""
    empty_entries: int
    """Entries among them that added no bytes."""
    layers: int
    """Layers of the image."""
    size_bytes: int
    """Bytes of the whole image."""
    not_shown_bytes: int = 0
    """Bytes that the entries which are not in this answer added."""
    builder: str = ""
    """legacy or buildkit, where it can be told."""
    secrets: tuple[BakedSecret, ...] = ()
    """Secrets in the whole history and configuration: rotate them, rebuild without them."""
    more_secrets: int = 0
    """Findings beyond those listed."""
    next_cursor: str | None = None
    """For the older entries."""

    def text(self) -> str:
        """A line per entry."""
        lines = [self.headline]
        for e in self.entries:
            marks = f"  !! secret: {', '.join(e.secrets)}" if e.secrets else ""
            lines.append(f"{e.number:>3}  {size(e.size_bytes):>9}  {e.instruction}{marks}")
            lines.append(f"     {e.command}")
        if self.not_shown_bytes:
            lines.append(f"     {size(self.not_shown_bytes):>9}  in entries not shown")
        lines += [f"secret baked in ({s.kind}): {s.place}" for s in self.secrets]
        if self.next_cursor:
            lines.append(f"next_cursor: {self.next_cursor}")
        return "\n".join(lines)


@tool(name="docker_get_image_history", title="Image history", risk=Risk.READ)
async def image_history(
    args: ImageHistoryInput, context: ToolContext[DockerClient]
) -> ImageHistory:
    """Show how an image was built, newest step first, and secrets baked into it.

    Full commands and sizes; secrets of all layers and the configuration by kind and place.
    Found by rule: no finding does not prove that there is none.
    """
    image, history = await asyncio.gather(
        context.client.image(args.image), context.client.history(args.image)
    )
    steps = steps_of(history)
    start = _start(args, len(steps))
    bakery = Bakery(image, steps)
    secrets = await anyio.to_thread.run_sync(baked_secrets, image, steps, bakery)
    wanted = steps[start : start + args.limit]
    entries = await anyio.to_thread.run_sync(_entries, wanted, bakery)
    end = start + len(entries)
    layers = len((image.get("RootFS") or {}).get("Layers") or ())
    total = int(image.get("Size") or sum(s.size for s in steps))
    shown = f"entries {start + 1} to {end}" if entries else "none"
    found = plural(len(secrets), "secret")
    return ImageHistory(
        headline=f"{args.image}: {plural(len(steps), 'history entry')},"
        f" {plural(layers, 'layer')}, {size(total)}; shown, newest first: {shown}."
        + (f" {found} baked in: rotate and rebuild." if secrets else " No secret found by rule."),
        image=short_id(str(image.get("Id") or "")),
        entries=tuple(entries),
        total_entries=len(steps),
        empty_entries=sum(not s.size for s in steps),
        layers=layers,
        size_bytes=total,
        not_shown_bytes=sum(s.size for s in steps) - sum(e.size_bytes for e in entries),
        builder=next((s.builder for s in steps if s.builder), ""),
        secrets=tuple(secrets[:MOST_SECRETS]),
        more_secrets=max(0, len(secrets) - MOST_SECRETS),
        next_cursor=encode_cursor(args, end) if end < len(steps) else None,
    )


def _start(args: ImageHistoryInput, total: int) -> int:
    if args.cursor is None:
        return 0
    position = decode_cursor(args, args.cursor)
    if not isinstance(position, int) or not 0 <= position <= total:
        raise InvalidArguments(
            "cursor: it points outside the history.",
            fix="Repeat the call without cursor.",
            field="cursor",
        )
    return position


def _entries(steps: Sequence[Step], bakery: Bakery) -> list[HistoryEntry]:
    """As many of the steps as fit the answer, at least one; the cursor leads to the rest."""
    entries: list[HistoryEntry] = []
    room = ANSWER_CHARS
    for step in steps:
        # Redacted first: cut first, a secret would lose the part by which it is known.
        command = cut_middle(bakery.shown(step.command), COMMAND_CHARS)
        room -= len(command) + _ENTRY_CHARS
        if room < 0 and entries:
            break
        entries.append(
            HistoryEntry(
                number=step.number,
                instruction=step.instruction,
                command=command,
                size_bytes=step.size,
                created=datetime.fromtimestamp(step.created, UTC) if step.created > 0 else None,
                id=short_id(step.identity) if step.identity else None,
                secrets=tuple(bakery.kinds(f"{step.instruction} {step.command}")),
            )
        )
    return entries


def size(count: int) -> str:
    """Bytes as Docker shows them, in powers of a thousand: `6.95 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
