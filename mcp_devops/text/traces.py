"""Which log lines belong together: a stack trace is one thing, whatever language wrote it."""

from __future__ import annotations

import re
from collections.abc import Sequence

_CONTINUES = re.compile(
    r"[ \t]+\S"  # frames of Python, Java, Node, .NET and Go are indented
    r"|Caused by: |Suppressed: |\.\.\. \d+ (?:more|common frames)|--- End of |---> "
    r"|The above exception was the direct cause|During handling of the above exception"
    r"|\[signal |goroutine \d+ \[|created by |exit status \d+$|Node\.js v\d"
    r"|stack backtrace:|note: run with `RUST_BACKTRACE"
)
_PYTHON_START = re.compile(r"(?:.{0,200}\s)?Traceback \(most recent call last\):")
_PYTHON_BRIDGE = re.compile(
    r"The above exception was the direct cause|During handling of the above exception"
)
_GO_START = re.compile(r"panic: |fatal error: |goroutine \d+ \[")
_GO_FRAME = re.compile(
    r"(?:[\w.*\-/()\[\]·{}]+\(.*\)|created by .+|\[signal .*|\t.*|goroutine .*)$"
)

MAX_BLOCK_LINES = 2_000
"""Lines after which a block ends in any case, so that an indented file is not one trace."""


def blocks(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Part lines into blocks, as [start, end) indices: a trace with its head, or a single line.

    Known are the traces of Python (chained ones too), Java, Go, Node, Rust and .NET; any indented
    line belongs to the line above it.
    """
    result: list[tuple[int, int]] = []
    start = 0
    while start < len(texts):
        limit = min(len(texts), start + MAX_BLOCK_LINES)
        if _PYTHON_START.match(texts[start]):
            end = _python_end(texts, start + 1, limit)
        elif _GO_START.match(texts[start]):
            end = _go_end(texts, start + 1, limit)
        else:
            end = _indented_end(texts, start + 1, limit)
        result.append((start, end))
        start = end
    return result


def _indented_end(texts: Sequence[str], index: int, limit: int) -> int:
    while index < limit and _CONTINUES.match(texts[index]):
        index += 1
    return index


def _python_end(texts: Sequence[str], index: int, limit: int) -> int:
    while index < limit and texts[index][:1] in {" ", "\t"}:
        index += 1
    # The line after the frames is the exception itself.
    index = min(index + 1, limit)
    index = _indented_end(texts, index, limit)
    after = index
    while after < limit and not texts[after].strip():
        after += 1
    if after < limit and (
        _PYTHON_BRIDGE.match(texts[after]) or _PYTHON_BRIDGE.match(texts[index - 1])
    ):
        while after < limit and not _PYTHON_START.match(texts[after]):
            if texts[after].strip() and not _PYTHON_BRIDGE.match(texts[after]):
                return index
            after += 1
        if after < limit:
            return _python_end(texts, after + 1, limit)
    return index


def _go_end(texts: Sequence[str], index: int, limit: int) -> int:
    while index < limit:
        if texts[index].strip():
            if not (_GO_FRAME.match(texts[index]) or _CONTINUES.match(texts[index])):
                break
        elif not _go_goes_on(texts, index, limit):
            break
        index += 1
    return index


def _go_goes_on(texts: Sequence[str], index: int, limit: int) -> bool:
    """Whether after an empty line comes another goroutine, or the signal's line."""
    following = index + 1
    return (
        following < limit and re.match(r"goroutine \d+ \[|\[signal ", texts[following]) is not None
    )
