"""A log as it is worth reading."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_devops.text.logs import (
    MAX_LINE_CHARS,
    FoldedLog,
    LogLine,
    fold,
    most_telling_line,
    readable,
)
from mcp_devops.text.severity import Severity, severity
from mcp_devops.text.traces import MAX_BLOCK_LINES, blocks

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

PYTHON = """Traceback (most recent call last):
  File "/app/db.py", line 3, in connect
    raise OSError("refused")
OSError: refused

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/main.py", line 12, in <module>
    run()
shop.errors.StartupFailed: database is away"""
JAVA = """2026-03-01 12:00:00 ERROR Application run failed
java.lang.IllegalStateException: no context
\tat org.example.App.run(App.java:12)
\tat org.example.App.main(App.java:4)
Caused by: java.net.ConnectException: Connection refused
\tat java.base/sun.nio.ch.Net.pollConnect(Net.java)
\t... 12 more"""
GO = """panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x1]

goroutine 1 [running]:
main.(*Server).Start(0xc000010000)
\t/app/main.go:12 +0x1d
main.main()
\t/app/main.go:5 +0x20
exit status 2"""
NODE = """Error: connect ECONNREFUSED 10.0.0.1:5432
    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1495:16)
    at process.processTicksAndRejections (node:internal/process:1:2)"""
DOTNET = """Unhandled exception. System.InvalidOperationException: boom
 ---> System.Net.Sockets.SocketException (111): Connection refused
   at Shop.Program.Main() in /src/Program.cs:line 9
   --- End of inner exception stack trace ---
   at Shop.Program.Main()"""


def log(*texts: str) -> list[LogLine]:
    return [
        LogLine(text, START + timedelta(seconds=number))
        for number, text in enumerate("\n".join(texts).split("\n"))
    ]


def folded(*texts: str, max_lines: int = 100, max_chars: int = 20_000) -> FoldedLog:
    return fold(log(*texts), max_lines=max_lines, max_chars=max_chars)


def test_an_empty_log_stays_empty() -> None:
    assert fold([], max_lines=10, max_chars=100) == FoldedLog(lines=(), total=0, dropped=0)


def test_a_short_log_stays_as_it_is() -> None:
    result = folded("one", "two", "three")
    assert str(result) == "one\ntwo\nthree"
    assert (result.total, result.dropped, result.notes) == (3, 0, ())


def test_lines_that_differ_in_numbers_ids_and_times_are_one_with_a_count() -> None:
    result = folded(
        "2026-03-01T12:00:00Z GET /cart/17 took 12ms id=550e8400-e29b-41d4-a716-446655440000",
        "2026-03-01T12:00:01Z GET /cart/18 took 9ms id=550e8400-e29b-41d4-a716-446655440001",
        "2026-03-01T12:00:02Z GET /cart/19 took 7ms id=550e8400-e29b-41d4-a716-44665544000a",
    )
    (line,) = result.lines
    assert line.count == 3
    assert "/cart/19" in line.text
    assert (line.first_at, line.last_at) == (START, START + timedelta(seconds=2))
    assert str(line).endswith("[x3 since 12:00:00]")
    assert result.dropped == 0


def test_a_count_without_times_has_no_since() -> None:
    result = fold([LogLine("a"), LogLine("a")], max_lines=5, max_chars=100)
    assert str(result) == "a [x2]"


def test_a_cycle_of_lines_is_folded_as_a_cycle() -> None:
    result = folded(*["connecting", "connection refused", "waiting 5 s"] * 40, "giving up")
    assert [(line.text, line.count) for line in result.lines] == [
        ("connecting", 40),
        ("connection refused", 40),
        ("waiting 5 s", 40),
        ("giving up", 1),
    ]


@pytest.mark.parametrize("trace", [PYTHON, JAVA, GO, NODE, DOTNET])
def test_a_stack_trace_is_one_block(trace: str) -> None:
    lines = f"before\n{trace}\nafter".split("\n")
    found = [lines[start:end] for start, end in blocks(lines)]
    whole = "\n".join(line for block in found[1:-1] for line in block)
    assert whole == trace
    assert found[0] == ["before"]
    assert found[-1] == ["after"]
    assert len(found) <= 4


@pytest.mark.parametrize("trace", [PYTHON, JAVA, GO, NODE, DOTNET])
def test_a_stack_trace_stays_whole_in_a_long_log(trace: str) -> None:
    noise = [f"served {word}" for word in ("cart", "user", "item", "home")]
    many = [f"{noise[n % 4]} {chr(97 + n % 26)}{chr(97 + n // 26 % 26)}" for n in range(900)]
    result = folded(*many[:450], trace, *many[450:], max_lines=80)
    assert trace in str(result)
    assert str(result).endswith(many[-1])
    assert result.dropped > 700


def test_repeated_traces_are_counted_and_the_newest_is_shown() -> None:
    traces = [PYTHON.replace("line 3", f"line {n}") for n in range(5)]
    result = folded(*traces)
    assert len(result.lines) == len(PYTHON.split("\n"))
    assert {line.count for line in result.lines} == {5}
    assert "line 4" in str(result)


def test_two_traces_of_python_that_do_not_hang_together_are_two_blocks() -> None:
    one = "Traceback (most recent call last):\n  File\nValueError: a"
    lines = f"{one}\n\nplain\n{one}".split("\n")
    assert [lines[start] for start, _ in blocks(lines)] == [one[:34], "", "plain", one[:34]]


def test_a_python_bridge_that_leads_nowhere_ends_the_block() -> None:
    bridge = "During handling of the above exception, another exception occurred:"
    lines = ["Traceback (most recent call last):", "  File", "ValueError: a", "", bridge]
    assert blocks([*lines, "other"])[0] == (0, 3)
    assert blocks(lines)[0] == (0, 3)


def test_go_output_after_a_panic_is_not_part_of_it() -> None:
    lines = [*GO.split("\n"), "", "server stopped"]
    assert blocks(lines)[0] == (0, len(lines) - 2)


def test_a_file_of_indented_lines_is_not_one_block() -> None:
    assert len(blocks(["  x"] * (MAX_BLOCK_LINES + 5))) == 2


def test_the_first_and_the_newest_error_and_the_newest_lines_survive() -> None:
    words = [f"step {chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(600)]
    words[100] = "ERROR the first"
    words[200] = "FATAL the worst"
    words[300] = "ERROR the middle"
    words[400] = "ERROR the last"
    result = folded(*words, max_lines=20)
    shown = str(result)
    for kept in ("ERROR the first", "FATAL the worst", "ERROR the last", words[-1], words[-5]):
        assert kept in shown
    assert len(result.lines) <= 20
    gaps = [line for line in result.lines if line.gap]
    assert sum(gap.count for gap in gaps) == result.dropped
    assert gaps[0].text == "[... 100 lines left out ...]"
    assert result.notes[0].startswith(f"{result.dropped} of 600 lines left out: 100 from line 1 on")


def test_a_trace_that_is_too_large_loses_its_middle() -> None:
    frames = "\n".join(f"\tat org.example.Frame{chr(97 + n % 26)}(F.java:{n})" for n in range(500))
    trace = f"java.lang.StackOverflowError: deep\n{frames}\nCaused by: org.example.Bad: x"
    result = folded("start", trace, "end", max_lines=40)
    shown = str(result)
    assert "StackOverflowError: deep" in shown
    assert "Caused by: org.example.Bad" in shown
    assert any(line.gap for line in result.lines)
    assert len(result.lines) <= 40


def test_long_and_binary_lines_are_shown_in_part() -> None:
    result = folded("x" * 10_000_000, "a\0b" * 100, "fine", "\ufffd\x01\x02" * 50)
    long, binary, fine, broken = (line.text for line in result.lines)
    assert len(long) <= MAX_LINE_CHARS
    assert binary == "[binary data, 300 characters]"
    assert broken == "[binary data, 150 characters]"
    assert fine == "fine"
    assert result.notes == ("3 lines too long or binary, shown in part",)


def test_a_line_of_other_scripts_is_not_binary() -> None:
    assert readable("エラー: 接続できません") == "エラー: 接続できません"


LINES = st.sampled_from(
    ["plain", "other", "ERROR no", "panic: x", "goroutine 1 [running]:", "", "  indented",
     "\tat x(y)", "Caused by: a.B: c", "Traceback (most recent call last):", "ValueError: x",
     "FATAL done",
     "During handling of the above exception, another exception occurred:", "x" * 300, "n 1",
     "n 2"]
)  # fmt: skip


@settings(max_examples=400)
@given(st.lists(LINES, max_size=60), st.integers(0, 30), st.integers(0, 900))
def test_a_folded_log_never_exceeds_its_budget(
    texts: list[str], max_lines: int, max_chars: int
) -> None:
    lines = [LogLine(text) for text in texts]
    result = fold(lines, max_lines=max_lines, max_chars=max_chars)
    assert len(result.lines) <= max_lines
    assert len(str(result)) <= max_chars
    assert result.total == len(texts)
    assert 0 <= result.dropped <= len(texts)
    numbers = [line.number for line in result.lines if not line.gap]
    assert len(numbers) == len(set(numbers))
    if max_lines >= 1 and max_chars >= 1 and texts:
        assert result.lines


@given(st.lists(LINES, max_size=60))
def test_with_room_enough_nothing_is_dropped(texts: list[str]) -> None:
    result = fold([LogLine(text) for text in texts], max_lines=1_000, max_chars=100_000)
    assert result.dropped == 0
    assert sum(line.count for line in result.lines) == len(texts)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("panic: boom", Severity.FATAL),
        ('{"level":"fatal","msg":"x"}', Severity.FATAL),
        ("level=critical msg=x", Severity.FATAL),
        ("F0301 12:00:00.1 1 main.go:1] x", Severity.FATAL),
        ("java.lang.OutOfMemoryError: Java heap space", Severity.FATAL),
        ("thread 'main' panicked at src/main.rs:4:5:", Severity.FATAL),
        ("ValueError: bad", Severity.EXCEPTION),
        ("sqlalchemy.exc.OperationalError: gone", Severity.EXCEPTION),
        ("Caused by: java.net.ConnectException: refused", Severity.EXCEPTION),
        ("TypeError [ERR_INVALID]: x", Severity.EXCEPTION),
        ("2026-03-01 ERROR cannot bind", Severity.ERROR),
        ("E0301 12:00:00.1 1 main.go:1] x", Severity.ERROR),
        ("level=error msg=x", Severity.ERROR),
        ("connection refused", Severity.ERROR),
        ("INFO retry after error", Severity.PLAIN),
        ('{"level":"info","msg":"failed over"}', Severity.PLAIN),
        ("finished with 0 errors", Severity.PLAIN),
        ("err=nil took=3ms", Severity.PLAIN),
        ("served /terror/errata", Severity.PLAIN),
        ("", Severity.PLAIN),
    ],
)
def test_severity_goes_by_level_and_words(text: str, level: Severity) -> None:
    assert severity(text) is level


def test_the_most_telling_line_is_the_newest_of_the_worst() -> None:
    assert most_telling_line(["ERROR a", "panic: b", "panic: c", "ERROR d"]) == "panic: c"
    assert most_telling_line(["ok", "ERROR a", "ERROR b", "fine"]) == "ERROR b"
    assert most_telling_line(log(JAVA)) == (
        "Caused by: java.net.ConnectException: Connection refused"
    )
    assert most_telling_line(log(PYTHON)) == "shop.errors.StartupFailed: database is away"


def test_the_latest_run_comes_first() -> None:
    run = ["starting v1 pid 1", "listening on 8080"]
    lines = [*run, "FATAL old trouble", *run, "ERROR new trouble"]
    assert most_telling_line(lines) == "ERROR new trouble"
    assert most_telling_line([*lines, *run, "all is well"]) == "FATAL old trouble"


def test_a_calm_log_tells_nothing() -> None:
    assert most_telling_line(["starting", "INFO ready", "served"]) is None
    assert most_telling_line([]) is None
