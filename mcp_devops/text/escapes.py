"""What a terminal would show of a text that was written for a terminal."""

from __future__ import annotations

import re

TERMINAL_COLUMNS = 1_000
"""Furthest column a cursor sequence may jump to: wider than any real terminal (seed), and small
enough that a few bytes of input can never ask for megabytes of padding."""

_SEQUENCE = re.compile(
    # OSC ends at BEL or ST; DCS, SOS, PM and APC at ST. Unterminated ones end with the line.
    r"(?:\x1b\][^\x07\x1b\x9c]*+(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[PX^_][^\x1b\x9c]*+(?:\x1b\\|\x9c)?"
    # The 8-bit introducers also occur in wrongly decoded UTF-8, where taking the rest of the line
    # would lose evidence: these count only with their terminator.
    r"|\x9d[^\x07\x1b\x80-\x9f]*+(?:\x07|\x1b\\|\x9c)"
    r"|[\x90\x98\x9e\x9f][^\x1b\x80-\x9f]*+(?:\x1b\\|\x9c))"
    r"|(?:\x1b\[|\x9b)(?P<parameters>[0-?]*+)(?P<between>[ -/]*+)(?P<final>[@-~]?)"
    r"|\x1b[ -/]*+[0-~]?"
    r"|(?P<control>[\x00-\x1f\x7f-\x9f])"
    r"|(?P<plain>[^\x00-\x1f\x7f-\x9f]+)"
)
_NEEDS_REPLAY = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_INVISIBLE = re.compile(
    "[\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0e\ufeff"
    "\U000e0000-\U000e007f\U000e0100-\U000e01ef]"
)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def strip_escapes(text: str) -> str:
    """Reduce terminal output to the characters that stay on the screen.

    Escape sequences (7 and 8 bit) go; carriage returns, backspaces and cursor moves within a line
    are replayed, so a progress bar leaves its last state; zero-width, bidirectional, variation
    and tag characters go, because they hide words from people; a lone surrogate, which no encoder
    takes, becomes U+FFFD. Newlines and tabs stay. Colour codes that split a word leave the word
    whole, so secrets are looked for after this, never before.

    Text that was overwritten on its line is gone, as on a terminal. Idempotent; the number of
    newlines is kept; the cost is linear in the length.
    """
    text = _INVISIBLE.sub("", text)
    text = _LONE_SURROGATE.sub("\ufffd", text)
    if not _NEEDS_REPLAY.search(text):
        return text
    return "\n".join(_replayed(line) for line in text.split("\n"))


def _replayed(line: str) -> str:
    line = line.removesuffix("\r")
    if not _NEEDS_REPLAY.search(line):
        return line
    screen = _Screen()
    for match in _SEQUENCE.finditer(line):
        if (plain := match["plain"]) is not None:
            screen.write(plain)
        elif (control := match["control"]) is not None:
            screen.control(control)
        elif match["final"] and not match["between"]:
            screen.move(match["parameters"], match["final"])
    return screen.shown()


class _Screen:
    """One line of a terminal: its cells and the column of the cursor."""

    def __init__(self) -> None:
        self._cells: list[str] = []
        self._column = 0
        self._blank_until = 0
        """Cells below this are spaces; keeps repeated erasing from costing the line each time."""

    def write(self, plain: str) -> None:
        if self._column > len(self._cells):
            self._cells.extend(" " * (self._column - len(self._cells)))
        self._cells[self._column : self._column + len(plain)] = plain
        self._blank_until = min(self._blank_until, self._column)
        self._column += len(plain)

    def control(self, control: str) -> None:
        if control == "\r":
            self._column = 0
        elif control == "\b":
            self._column = max(self._column - 1, 0)
        elif control == "\t":
            if self._column >= len(self._cells):
                self.write("\t")
            else:
                self._column = min(len(self._cells), (self._column // 8 + 1) * 8)

    def move(self, parameters: str, final: str) -> None:
        if parameters[:1] in {"<", "=", ">", "?"}:
            return
        first = parameters.partition(";")[0]
        number = int(first) if first.isascii() and first.isdigit() and len(first) < 6 else 0
        column, step = self._column, max(number, 1)
        if final == "C":
            self._column = max(column, min(column + step, TERMINAL_COLUMNS))
        elif final == "D":
            self._column = max(column - step, 0)
        elif final == "G":
            self._column = min(step, TERMINAL_COLUMNS) - 1
        elif final == "K":
            self._erase(number)

    def _erase(self, what: int) -> None:
        if what == 0:
            del self._cells[self._column :]
        elif what == 1:
            end = min(self._column + 1, len(self._cells))
            start = self._blank_until
            if end > start:
                self._cells[start:end] = " " * (end - start)
                self._blank_until = end
        elif what == 2:
            self._cells.clear()
            self._column = min(self._column, TERMINAL_COLUMNS)
        self._blank_until = min(self._blank_until, len(self._cells))

    def shown(self) -> str:
        return "".join(self._cells).rstrip(" ")
