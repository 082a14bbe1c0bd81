"""Folds a log to what is worth reading: repeats counted, traces whole, newest and worst kept.

Give it clean text: escapes and secrets are taken out before (`clean`), because folding shortens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mcp_devops.text.budget import cut_middle, cut_start
from mcp_devops.text.people import plural
from mcp_devops.text.severity import Severity, latest_run, normalised, severity, worst_line
from mcp_devops.text.traces import blocks

MAX_LINE_CHARS = 2_000
"""Characters of one line that are kept; a stack frame or a JSON log line is far shorter (seed)."""

MAX_CYCLE = 8
"""Longest cycle of different blocks whose repetitions are folded, such as a retry's five lines."""

_GAP_ROOM = 60
_BINARY_SHARE = 0.1
_SAMPLE = 4_096


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line as it was logged."""

    text: str
    """The line without its newline."""
    at: datetime | None = None
    """When it was logged, where the source says."""


@dataclass(frozen=True, slots=True)
class FoldedLine:
    """One line to read, with how often it came."""

    text: str
    """The newest of the repeated lines; or, for a gap, how many lines are missing here."""
    number: int
    """Number of that line in the input, counted from 1; for a gap, of the first line missing."""
    count: int = 1
    """How many lines it stands for."""
    first_at: datetime | None = None
    """When the first of them was logged."""
    last_at: datetime | None = None
    """When the newest of them was logged."""
    gap: bool = False
    """Whether it stands for lines that were dropped."""

    def __str__(self) -> str:
        if self.count == 1 or self.gap:
            return self.text
        since = f" since {self.first_at:%H:%M:%S}" if self.first_at else ""
        return f"{self.text} [x{self.count:,}{since}]"


@dataclass(frozen=True, slots=True)
class FoldedLog:
    """A log that fits its budget, and what was left out of it."""

    lines: tuple[FoldedLine, ...]
    """What to read, oldest first."""
    total: int
    """Lines that came in."""
    dropped: int
    """Lines that neither stand here nor are counted in one that does."""
    notes: tuple[str, ...] = ()
    """What was cut and from where, one sentence each."""

    def __str__(self) -> str:
        return "\n".join(map(str, self.lines))


def most_telling_line(lines: Sequence[LogLine | str]) -> str | None:
    """The line that most likely says why: the newest of the worst, in the latest run.

    A panic or fatal error beats an exception, which beats an error; of a process that was
    restarted the newest run is searched first, then everything.

    Returns:
        The line, cut to `MAX_LINE_CHARS`; None: nothing in the log complains.
    """
    texts = [line if isinstance(line, str) else line.text for line in lines]
    start = latest_run(texts)
    found = worst_line(texts[start:])
    if found is None:
        start, found = 0, worst_line(texts)
    return None if found is None else readable(texts[start + found]).strip()


def readable(text: str) -> str:
    """A line of at most `MAX_LINE_CHARS`; binary data becomes a note of its size."""
    sample = text[:_SAMPLE]
    strange = sum(not (char.isprintable() or char == "\t") or char == "\ufffd" for char in sample)
    if "\0" in sample or strange > max(len(sample) * _BINARY_SHARE, 2):
        return f"[binary data, {len(text):,} characters]"
    return cut_middle(text, MAX_LINE_CHARS)


def fold(lines: Sequence[LogLine], *, max_lines: int, max_chars: int) -> FoldedLog:
    """Fold a log to a budget.

    Blocks (a line, or a whole stack trace) that repeat in cycles of up to `MAX_CYCLE` become one
    block with a count; same means: but for numbers, ids and times. Then kept are the newest
    fatal block, the newest and the first block with an error, and as many of the newest as fit.
    A trace that is too large alone loses its middle. Gaps are marked where they are.

    Args:
        lines: The log, oldest first.
        max_lines: Lines the result has at most, gap marks included.
        max_chars: Characters of the result as text, newlines included, at most.
    """
    texts = [readable(line.text) for line in lines]
    folded = list(_folded(_blocks(lines, texts)))
    kept = _chosen(folded, max_lines, max_chars)
    shown = tuple(_fitting(list(_marked(kept, len(lines))), max_lines, max_chars))
    dropped = len(lines) - sum(line.count for line in shown if not line.gap)
    cut = sum(new != line.text for new, line in zip(texts, lines, strict=True))
    return FoldedLog(
        lines=shown,
        total=len(lines),
        dropped=dropped,
        notes=tuple(_notes(shown, dropped, len(lines), cut)),
    )


@dataclass(frozen=True, slots=True)
class _Block:
    lines: tuple[FoldedLine, ...]
    key: str
    severity: Severity
    first: int
    """Number of the first input line that it stands for."""
    last: int
    """Number of the last input line that it stands for."""

    @property
    def chars(self) -> int:
        return sum(len(str(line)) + 1 for line in self.lines)


def _blocks(lines: Sequence[LogLine], texts: Sequence[str]) -> list[_Block]:
    result = []
    for start, end in blocks(texts):
        folded = tuple(
            FoldedLine(texts[n], n + 1, first_at=lines[n].at, last_at=lines[n].at)
            for n in range(start, end)
        )
        result.append(
            _Block(
                lines=folded,
                key="\n".join(map(normalised, texts[start:end])),
                severity=max(map(severity, texts[start:end])),
                first=start + 1,
                last=end,
            )
        )
    return result


def _folded(found: Sequence[_Block]) -> Iterator[_Block]:
    ids: dict[str, int] = {}
    keys = [ids.setdefault(block.key, len(ids)) for block in found]
    index = 0
    while index < len(found):
        period, times = _best_cycle(keys, index)
        for offset in range(period):
            first = found[index + offset]
            newest = found[index + (times - 1) * period + offset]
            yield _merged(first, newest, times)
        index += period * times


def _best_cycle(keys: Sequence[int], index: int) -> tuple[int, int]:
    """Period and repetitions of the cycle at an index that saves most; (1, 1): none."""
    best, saved = (1, 1), 0
    for period in range(1, MAX_CYCLE + 1):
        end = index + period
        while end < len(keys) and keys[end] == keys[end - period]:
            end += 1
        times = (end - index) // period
        if (times - 1) * period > saved:
            best, saved = (period, times), (times - 1) * period
    return best


def _merged(first: _Block, newest: _Block, times: int) -> _Block:
    if times == 1:
        return first
    lines = tuple(
        replace(new, count=times, first_at=old.first_at)
        for old, new in zip(first.lines, newest.lines, strict=True)
    )
    return replace(newest, lines=lines, first=first.first)


def _chosen(found: list[_Block], max_lines: int, max_chars: int) -> list[_Block]:
    """The blocks to keep, in order; traces shortened where they alone would fill the budget."""
    telling = _telling(found)
    # One gap mark may stand before each telling block and before the newest lines.
    room_lines = max_lines - (len(telling) + 1)
    room_chars = max_chars - (len(telling) + 1) * _GAP_ROOM
    kept: dict[int, _Block] = {}
    for share, index in zip((2, 3, 4), telling, strict=False):
        block = _shortened(found[index], max(room_lines // share, 1), max(room_chars // share, 1))
        kept[index] = block
        room_lines -= len(block.lines)
        room_chars -= block.chars
    for index in range(len(found) - 1, -1, -1):
        if index in kept:
            continue
        block = found[index]
        if len(block.lines) > room_lines or block.chars > room_chars:
            break
        kept[index] = block
        room_lines -= len(block.lines)
        room_chars -= block.chars
    return [kept[index] for index in sorted(kept)]


def _telling(found: Sequence[_Block]) -> list[int]:
    """Indices of the newest worst, the newest and the first block with an error, each once."""
    complaining = [index for index, block in enumerate(found) if block.severity > Severity.PLAIN]
    if not complaining:
        return [len(found) - 1] if found else []
    worst = max(complaining, key=lambda index: (found[index].severity, index))
    return list(dict.fromkeys((worst, complaining[-1], complaining[0])))


def _shortened(block: _Block, max_lines: int, max_chars: int) -> _Block:
    """The block with its head and its end; the end holds the exception in most languages."""
    if len(block.lines) <= max_lines and block.chars <= max_chars:
        return block
    if len(block.lines) < 4 or max_lines < 4:
        # The worst line is why the block is here.
        pick = max(block.lines, key=lambda line: (severity(line.text), -line.number))
        text = cut_start(pick.text, max(max_chars - 40, 1))
        return replace(block, lines=(replace(pick, text=text),))
    head, tail = list(block.lines[:1]), list[FoldedLine]()
    room = max_chars - len(str(head[0])) - 1
    for line in reversed(block.lines[1:]):
        room -= len(str(line)) + 1
        if room < 0 or len(tail) + 2 > max_lines:
            break
        tail.append(line)
    if not tail:
        return _shortened(replace(block, lines=block.lines[:1]), max_lines, max_chars)
    return replace(block, lines=(*head, *reversed(tail)))


def _marked(kept: Sequence[_Block], total: int) -> Iterator[FoldedLine]:
    """The lines of the blocks, with a gap mark wherever input lines are missing between them."""
    expected = 1
    for block in kept:
        if block.first > expected:
            yield _gap(expected, block.first - expected)
        inside = block.lines[0].number
        for line in block.lines:
            if line.number > inside:
                yield _gap(inside, (line.number - inside) * line.count)
            yield line
            inside = line.number + 1
        expected = block.last + 1
    if expected <= total:
        yield _gap(expected, total - expected + 1)


def _gap(first: int, missing: int) -> FoldedLine:
    return FoldedLine(f"[... {plural(missing, 'line')} left out ...]", first, missing, gap=True)


def _fitting(shown: list[FoldedLine], max_lines: int, max_chars: int) -> list[FoldedLine]:
    """Drop what still exceeds the budget: gap marks first, then plain lines, oldest first."""
    chars = sum(len(str(line)) + 1 for line in shown) - 1
    while shown and (len(shown) > max_lines or chars > max_chars):
        victim = min(
            range(len(shown)),
            key=lambda n: (not shown[n].gap, severity(shown[n].text), shown[n].number),
        )
        if len(shown) == 1:
            only = shown[0]
            if max_lines < 1 or max_chars < 1:
                return []
            room = max_chars - (len(str(only)) - len(only.text))
            if room < 1:
                return [replace(only, text=cut_start(only.text, max_chars), count=1)]
            return [replace(only, text=cut_start(only.text, room))]
        chars -= len(str(shown.pop(victim))) + 1
    return shown


def _notes(shown: Sequence[FoldedLine], dropped: int, total: int, cut: int) -> Iterator[str]:
    if dropped:
        places = ", ".join(
            f"{line.count:,} from line {line.number:,} on" for line in shown if line.gap
        )
        where = f": {places}" if places else ""
        yield f"{dropped:,} of {plural(total, 'line')} left out{where}"
    if cut:
        yield f"{plural(cut, 'line')} too long or binary, shown in part"
