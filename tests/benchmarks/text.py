"""Cleaning, redacting and folding a large coloured log, against removing its colours alone."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from mcp_devops.text.clean import clean
from mcp_devops.text.logs import LogLine, fold
from mcp_devops.text.secrets import Redactor
from tests.benchmarks.measure import Result, Row, interleaved, medians, timed

LINES = 20_000
PIECE = 1_000
"""Lines cleaned together: `clean` takes 256 K characters at once, and a pod's log is less."""
REPETITIONS = 5
ANSI = re.compile(r"\x1B(?:[@-Z\\-_]|\[[0-?]*[ -/]*[@-~])")
"""The regular expression that most projects copy."""


def log() -> str:
    """Twenty thousand lines: coloured levels, request ids, a token here and there."""
    dice = random.Random(7)  # noqa: S311 - a log, not a key
    lines = []
    for n in range(LINES):
        level, colour = dice.choice((("INFO", 32), ("INFO", 32), ("WARN", 33), ("ERROR", 31)))
        said = dice.choice(
            (
                f"GET /cart/{dice.randrange(9999)} 200 in {dice.randrange(400)} ms",
                "connection pool has 8 of 10 connections in use",
                f"retrying payment {dice.getrandbits(64):016x}",
                f"Authorization: Bearer {dice.getrandbits(160):040x}",
            )
        )
        at = f"2026-11-20T03:{n // 60 % 60:02}:{n % 60:02}.{n % 1000:03}Z"
        lines.append(f"{at} \x1b[{colour}m{level}\x1b[0m [req-{dice.getrandbits(32):08x}] {said}")
    return "\n".join(lines)


def run() -> Iterator[Result]:
    text, redactor = log(), Redactor(())

    lines = text.split("\n")
    pieces = ["\n".join(lines[n : n + PIECE]) for n in range(0, LINES, PIECE)]

    def only_clean() -> list[str]:
        return [line for piece in pieces for line in clean(piece, redactor).split("\n")]

    def ours() -> None:
        fold([LogLine(line) for line in only_clean()], max_lines=200, max_chars=20_000)

    assert len(only_clean()) == LINES

    ways = {
        "ours": timed(ours),
        "clean": timed(only_clean),
        "ansi": timed(lambda: [ANSI.sub("", piece) for piece in pieces]),
    }
    found = medians(interleaved(ways, REPETITIONS))
    size = len(text) / 1e6
    for name, what in (("ours", "clean + redact + fold"), ("clean", "clean + redact")):
        yield Row(
            "text",
            f"{what} {LINES:,} lines",
            found[name] * 1e3,
            found["ansi"] * 1e3,
            "re.sub of the common ANSI regex",
            "ms",
            note=f"{size / found[name]:.1f} MB/s of {size:.1f} MB",
        )
