"""What a terminal would show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.text.escapes import TERMINAL_COLUMNS, strip_escapes

ESC = "\x1b"
PAIRS = {
    "a progress bar leaves its last state": ("50%\r100%", "100%"),
    "backspaces overwrite": ("abc\b\bX", "aXc"),
    "backspace stops at the margin": ("\b\ba", "a"),
    "colour": (f"{ESC}[1;31mred{ESC}[0m", "red"),
    "colour inside a word": (f"hun{ESC}[31mter2", "hunter2"),
    "colon parameters": (f"{ESC}[38:2::255:0:0mred{ESC}[m", "red"),
    "link ended by ST": (f"{ESC}]8;;https://a.example{ESC}\\text{ESC}]8;;{ESC}\\", "text"),
    "link ended by BEL": (f"{ESC}]8;;https://a.example\x07text{ESC}]8;;\x07", "text"),
    "window title": (f"{ESC}]0;title\x07rest", "rest"),
    "character set": (f"{ESC}(Bplain", "plain"),
    "eight-bit CSI": ("\x9b31mred\x9b0m", "red"),
    "eight-bit OSC": ("\x9d0;title\x9crest", "rest"),
    "eight-bit DCS": ("\x90payload\x9crest", "rest"),
    "eight-bit introducer without an end takes nothing": ("it\x9ds late\nnext", "its late\nnext"),
    "APC": (f"{ESC}_payload{ESC}\\rest", "rest"),
    "DCS": (f"{ESC}Pq#0;1{ESC}\\rest", "rest"),
    "unterminated OSC ends with its line": (f"a{ESC}]0;title\nnext", "a\nnext"),
    "unterminated DCS ends with its line": (f"a{ESC}Pdata\nnext", "a\nnext"),
    "erase to the end": (f"hello world\rbye {ESC}[K", "bye"),
    "erase the line": (f"old text{ESC}[2K\rdone", "done"),
    "erase to the cursor": (f"secret{ESC}[3D{ESC}[1K", "    et"),
    "erasing twice is erasing once": (f"secret{ESC}[1K{ESC}[1K!", "      !"),
    "an unknown erase does nothing": (f"a{ESC}[7Kb", "ab"),
    "cursor back": (f"abc{ESC}[2DX", "aXc"),
    "cursor forward pads": (f"a{ESC}[2Cb", "a  b"),
    "cursor to column": (f"abc{ESC}[1GX", "Xbc"),
    "private mode": (f"{ESC}[?25lwait{ESC}[?25h", "wait"),
    "intermediate bytes": (f"{ESC}[2 qx", "x"),
    "lone escape": (f"a{ESC}", "a"),
    "escape before a newline": (f"a{ESC}\nb", "a\nb"),
    "tab stays": ("a\tb", "a\tb"),
    "tab stays beside colour": (f"a\t{ESC}[1mb", "a\tb"),
    "tab moves over what is there": ("abcdefghij\r\tX", "abcdefghXj"),
    "NUL and BEL go": ("a\x00b\x07c", "abc"),
    "CRLF": ("a\r\nb\r\n", "a\nb\n"),
    "wide characters": ("日本\r語", "語本"),
    "zero width": ("pass\u200bword", "password"),
    "bidirectional": ("a\u202eb\u2066c\u2069", "abc"),
    "tag characters": ("a\U000e0041\U000e0042b", "ab"),
    "variation selectors": ("a\U000e0100\ufe01b", "ab"),
    "invisible inside a sequence": (f"{ESC}\u200b[31mred", "red"),
    "lone surrogate": ("a\ud800b", "a\ufffdb"),
    "emoji stay": ("⚠️ done ✅", "⚠️ done ✅"),
    "plain text keeps trailing spaces": ("a  \nb", "a  \nb"),
}  # fmt: skip


@pytest.mark.parametrize(("given_text", "shown"), PAIRS.values(), ids=PAIRS.keys())
def test_shows_what_a_terminal_shows(given_text: str, shown: str) -> None:
    assert strip_escapes(given_text) == shown


PIECES = st.sampled_from(
    [ESC, "[", "]", "\\", "\r", "\n", "\b", "\t", "\x07", "\x9b", "\x9c", "\x9d", "\x90", "K", "1K",
     "2K", "12C", "3D", "G", "31m", "0;", "word", " ", "P", "X", "(", "B", "\u200b", "\ud800",
     "\x7f", "日", f"{ESC}[2K", f"{ESC}[99999C", f"{ESC}[K"]
)  # fmt: skip
SCREENS = st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=60))


@given(SCREENS)
def test_stripping_twice_is_stripping_once(text: str) -> None:
    once = strip_escapes(text)
    assert strip_escapes(once) == once


@given(SCREENS)
def test_keeps_the_number_of_lines(text: str) -> None:
    assert strip_escapes(text).count("\n") == text.count("\n")


@given(SCREENS)
def test_adds_nothing_but_spaces(text: str) -> None:
    assert set(strip_escapes(text)) <= set(text) | {" ", "\ufffd"}


@pytest.mark.parametrize(
    "pattern",
    [ESC, f"{ESC}]", f"{ESC}[99999C", "a\r", "\x9d", "\x9dx", "\x90", f"{ESC}[2KX", f"{ESC}[1K",
     f"\rX{ESC}[20000C{ESC}[1K", f"{ESC}P", "\b", f"{ESC}[", f"{ESC}[0;0;0", f"X{ESC}[5D{ESC}[1K"],
)  # fmt: skip
def test_hostile_input_of_a_quarter_megabyte_comes_to_an_end(pattern: str) -> None:
    text = "x" * 60_000 + pattern * (200_000 // len(pattern))
    assert len(strip_escapes(text)) <= len(text) + TERMINAL_COLUMNS
