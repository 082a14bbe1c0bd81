"""Numbers as people read them: compact, English, never rounded to a lie."""

from __future__ import annotations

import math

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """A length of time by its two largest units: `850 ms`, `12 s`, `3 min 20 s`, `2 h`, `3 d 4 h`.

    Args:
        seconds: Length in seconds; the sign is ignored. Not a finite number reads "unknown".
    """
    if not math.isfinite(seconds):
        return "unknown"
    seconds = abs(seconds)
    if round(seconds * 1000) < 1000:
        return f"{round(seconds * 1000)} ms" if seconds else "0 s"
    whole = round(seconds)
    for index, (size, unit) in enumerate(_UNITS[:-1]):
        if whole >= size:
            smaller_size, smaller_unit = _UNITS[index + 1]
            rest = whole % size // smaller_size
            return f"{whole // size} {unit}" + (f" {rest} {smaller_unit}" if rest else "")
    return f"{whole} s"


def ago(seconds: float) -> str:
    """How long since something: `just now` below one second, `3 min 20 s ago`, `in 12 s`.

    Args:
        seconds: Age in seconds; negative: it lies ahead.
    """
    if not math.isfinite(seconds):
        return "at an unknown time"
    if abs(seconds) < 1:
        return "just now"
    return f"in {duration(seconds)}" if seconds < 0 else f"{duration(seconds)} ago"


def percent(ratio: float | None) -> str:
    """A share as a percentage with about three digits: `0%`, `0.04%`, `12.5%`, `100%`.

    What is not zero never reads as zero, and what is not all never reads as 100%.

    Args:
        ratio: Share, 1.0 = all; None or not a finite number reads "unknown".
    """
    if ratio is None or not math.isfinite(ratio):
        return "unknown"
    value = ratio * 100
    size = abs(value)
    if 0 < size < 0.01:
        return "<0.01%" if value > 0 else ">-0.01%"
    if 99.99 < size < 100:
        return ">99.99%" if value > 0 else "<-99.99%"
    digits = 2 if size < 1 or 99 < size < 100 else 1 if size < 100 else 0
    shown = f"{value:,.{digits}f}"
    return (shown.rstrip("0").rstrip(".") if "." in shown else shown) + "%"


def plural(n: int, word: str) -> str:
    """A count with its noun: `1 pod`, `3 pods`, `2 entries`, `1,200 matches`."""
    if abs(n) == 1:
        return f"{n} {word}"
    if word.endswith(("s", "x", "z", "ch", "sh")):
        many = f"{word}es"
    elif word.endswith("y") and word[-2:-1] not in "aeiou":
        many = f"{word[:-1]}ies"
    else:
        many = f"{word}s"
    return f"{n:,} {many}"
