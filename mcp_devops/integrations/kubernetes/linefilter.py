"""Which log lines match a caller's pattern, without letting a hostile pattern stop the server.

Python's regular expressions can take exponential time and hold the interpreter while they do, so
anything but plain words runs in a process of its own that is killed at its deadline.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

import anyio

from mcp_devops.errors import InvalidArguments, UpstreamUnavailable

PATTERN_LIMIT = 200
"""Characters of a pattern."""
LINE_LIMIT = 2_000
"""Characters of a line that are searched; a longer line is cut, as it is when shown."""
MATCH_TIMEOUT_S = 3.0
"""Seconds a pattern may take over all lines."""

_WORDS = re.compile(r"[\w \-:/=,@#%&;<>\"'|]*")
_SCRIPT = """
import json, re, sys
pattern, lines = json.load(sys.stdin)
found = re.compile(pattern)
json.dump([i for i, line in enumerate(lines) if found.search(line)], sys.stdout)
"""


def check_pattern(pattern: str) -> None:
    """Refuse what is no regular expression.

    Raises:
        InvalidArguments: It does not compile, or is too long.
    """
    if len(pattern) > PATTERN_LIMIT:
        raise InvalidArguments(
            f"pattern: it has {len(pattern)} characters, the limit is {PATTERN_LIMIT}.",
            fix="Shorten it.",
            field="pattern",
        )
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as problem:
        raise InvalidArguments(
            f"pattern: not a regular expression ({problem}).",
            fix="Python syntax; escape special characters with a backslash, (?i) ignores case.",
            field="pattern",
        ) from problem


async def matching(pattern: str, lines: Sequence[str]) -> list[int]:
    """Indices of the lines that match anywhere.

    Raises:
        InvalidArguments: The pattern does not compile, or takes longer than `MATCH_TIMEOUT_S`.
        UpstreamUnavailable: The process that searches could not run.
    """
    check_pattern(pattern)
    cut = [line[:LINE_LIMIT] for line in lines]
    if _WORDS.fullmatch(pattern):
        words = pattern.split("|")
        return [i for i, line in enumerate(cut) if any(word in line for word in words)]
    question = json.dumps([pattern, cut]).encode()
    try:
        with anyio.fail_after(MATCH_TIMEOUT_S):
            done = await anyio.run_process(
                [sys.executable, "-I", "-S", "-c", _SCRIPT],
                input=question,
                stderr=subprocess.DEVNULL,
                check=True,
            )
    except TimeoutError:
        raise InvalidArguments(
            f"pattern: it did not end within {MATCH_TIMEOUT_S:g} s.",
            fix="Avoid nested repetition such as (a+)+; plain words are fastest.",
            field="pattern",
        ) from None
    except (OSError, subprocess.CalledProcessError) as problem:
        raise UpstreamUnavailable(
            f"The search process failed ({type(problem).__name__}).",
            fix="Call again without pattern, or with plain words.",
        ) from problem
    return [int(i) for i in json.loads(done.stdout)]
