"""How bad a log line says things are, and which line tells most."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum


class Severity(IntEnum):
    """What a line is, by its words; ordered."""

    PLAIN = 0
    ERROR = 1
    EXCEPTION = 2
    FATAL = 3


_FATAL = re.compile(
    r"^\s*panic:|^fatal error:|\bFATAL\b|\bPANIC\b|\bCRITICAL\b|\bEMERG(?:ENCY)?\b|^F\d{4} "
    r"|(?i:\b(?:level|severity|lvl)[\"']?\s?[:=]\s?[\"']?(?:fatal|panic|critical|emergency|alert)\b"
    r"|\bsegmentation fault\b|\bcore dumped\b|\bsigsegv\b|\bsigabrt\b|\boomkilled\b"
    r"|\bout of memory\b|outofmemory(?:error|exception)|\bfatal:|^\[?fatal\b"
    r"|\bunhandled (?:exception|rejection|promise)|\buncaught (?:exception|\w*error)"
    r"|\bpanicked at\b)"
)
_EXCEPTION = re.compile(
    r"^\s*(?:\+-+\s|\|\s)*(?:[A-Za-z_][\w$]*\.){0,12}[A-Z][\w$]{0,80}"
    r"(?:Error|Exception|Interrupt|Failure|Fault|Timeout)\b(?::|\s*$|\s\[|\s\()"
    r"|^\s*Caused by: |\bException in thread\b|^\s*-+> [\w.]{1,200}Exception\b"
    r"|^Error: |^\s*(?:[A-Za-z_][\w$]*\.){1,12}[A-Z]\w{0,80}: "
)
_ERROR = re.compile(
    r"\bERR(?:OR)?\b|\bSEVERE\b|^E\d{4} "
    r"|(?i:\b(?:level|severity|lvl)[\"']?\s?[:=]\s?[\"']?(?:error|err)\b|\berrors?\b|\bexception\b"
    r"|\bfailed\b|\bfailure\b|\bcannot\b|\bcould not\b|\bunable to\b|\brefused\b|\btimed out\b"
    r"|\bdenied\b|\bno such\b|\bnot found\b|\btraceback\b)"
)
_CALM = re.compile(
    r"\b(?:INFO|DEBUG|TRACE|NOTICE)\b|^[ID]\d{4} "
    r"|(?i:\b(?:level|severity|lvl)[\"']?\s?[:=]\s?[\"']?(?:info|debug|trace|notice)\b"
    r"|\b(?:0|no|zero|without) (?:errors?|failures?|exceptions?)\b"
    r"|\b(?:errors?|failed|failures?|err)[\"']?\s?[:=]\s?[\"']?(?:0\b|nil\b|null\b|none\b|false\b)"
    r"|\b0 failed\b)"
)
_CHANGING = re.compile(
    r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b|\b0x[0-9a-fA-F]+"
    r"|\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b|\d+"
)

_LOOKED_AT = 4_000
"""Characters of a line that are judged; a level or an exception's name stands near the front."""


def severity(text: str) -> Severity:
    """How bad one line is, by its level or its words. A line that says INFO is plain."""
    text = text[:_LOOKED_AT]
    if _FATAL.search(text):
        return Severity.FATAL
    if _CALM.search(text):
        return Severity.PLAIN
    if _EXCEPTION.search(text):
        return Severity.EXCEPTION
    return Severity.ERROR if _ERROR.search(text) else Severity.PLAIN


def normalised(text: str) -> str:
    """A line with everything that differs between repetitions (numbers, ids, times) as `#`."""
    return _CHANGING.sub("#", text)


def latest_run(texts: Sequence[str]) -> int:
    """Index of the first line of the newest run of a process that was restarted.

    A restart shows as the first two lines coming again; without one the index is 0.
    """
    if len(texts) < 4:
        return 0
    opening = (normalised(texts[0]), normalised(texts[1]))
    for index in range(len(texts) - 2, 1, -1):
        if (normalised(texts[index]), normalised(texts[index + 1])) == opening:
            return index
    return 0


def worst_line(texts: Sequence[str]) -> int | None:
    """Index of the newest line of the highest severity; None: all are plain."""
    worst, found = Severity.PLAIN, None
    for index, text in enumerate(texts):
        level = severity(text)
        if level is not Severity.PLAIN and level >= worst:
            worst, found = level, index
    return found
