"""A log's bytes: taken apart by stream, joined to lines, the newest kept.

Without a terminal the engine sends frames: one byte for the stream (1 stdout, 2 stderr), three
zeros, the payload's length in four bytes, big-endian, then the payload. With a terminal the bytes
are the log. A line over 16 KiB is stored in parts, each with a time of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from mcp_devops.text.logs import LogLine

HEADER = 8
MAX_FRAME = 16 * 1024 * 1024
"""Bytes of a frame beyond which it is none: stored records have 16 KiB."""
STDOUT, STDERR, ENGINE = 1, 2, 3
"""Streams; the third one carries the engine's own failure while it reads."""

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d) ")


class Demultiplexer:
    """Takes frames out of chunks that may begin and end anywhere.

    Attributes:
        broken: Whether the bytes stopped being frames; what came before counts.
    """

    def __init__(self) -> None:
        self.broken = False
        self._held = bytearray()

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Whole frames that the chunk completes: (stream, payload)."""
        if self.broken:
            return
        self._held += chunk
        at = 0
        while len(self._held) - at >= HEADER:
            head = self._held[at : at + HEADER]
            length = int.from_bytes(head[4:], "big")
            if head[0] > ENGINE or any(head[1:4]) or length > MAX_FRAME:
                self.broken = True
                break
            if len(self._held) - at - HEADER < length:
                break
            yield head[0], bytes(self._held[at + HEADER : at + HEADER + length])
            at += HEADER + length
        del self._held[:at]

    def rest(self) -> tuple[int, bytes] | None:
        """The beginning of a frame whose end never came; None: the log ended between frames."""
        if self.broken or len(self._held) <= HEADER:
            return None
        return self._held[0], bytes(self._held[HEADER:])

    @property
    def cut(self) -> bool:
        """Whether the bytes end inside a frame."""
        return bool(self._held) and not self.broken


@dataclass
class Stream:
    """One stream's newest bytes, with a time before each line."""

    keep_bytes: int
    held: bytearray = field(default_factory=bytearray)
    cut_bytes: int = 0
    """Older bytes that were dropped."""

    def add(self, payload: bytes) -> None:
        """Take one record, or any piece of a terminal's output."""
        if self.held and not self.held.endswith(b"\n"):
            # The next part of a long line: its time would stand in the middle of it.
            payload = _STAMP.sub(b"", payload, count=1) if _STAMP.match(payload) else payload
        self.held += payload
        # Trimmed in large steps: moving the bytes for every record would be quadratic.
        if len(self.held) > 2 * self.keep_bytes:
            self._trim()

    def _trim(self) -> None:
        over = len(self.held) - self.keep_bytes
        if over > 0:
            del self.held[:over]
            self.cut_bytes += over

    def lines(self) -> list[LogLine]:
        """Raw lines, oldest first: not cleaned yet.

        A first line without its beginning is left out: the name before a secret may have been in
        the part that is gone.
        """
        self._trim()
        parts = bytes(self.held).split(b"\n")
        if not parts[-1]:
            parts.pop()
        if self.cut_bytes and len(parts) > 1:
            parts = parts[1:]
        return [_line(part) for part in parts]


def _line(raw: bytes) -> LogLine:
    stamp = _STAMP.match(raw)
    text = raw[stamp.end() if stamp else 0 :].decode("utf-8", "replace").rstrip("\r")
    return LogLine(text, _moment(stamp) if stamp else None)


def _moment(stamp: re.Match[bytes]) -> datetime | None:
    # A datetime holds microseconds; the engine tells nanoseconds.
    text = (stamp[1] + (stamp[2] or b"")[:7] + stamp[3]).decode()
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
