from __future__ import annotations

import base64
from typing import Any

import pytest

from mcp_devops.errors import NotFound, UpstreamUnavailable
from mcp_devops.integrations.docker.containerstate import exit_meaning, moment
from mcp_devops.integrations.docker.logs import ContainerLogs, TailLogsInput, tail_logs
from tests.support.docker_engine import NOW, context_for, engine, frame, recorded, replay, serving


async def tailed(name: str, **args: Any) -> ContainerLogs:
    async with engine("containers") as client:
        args_ = TailLogsInput(container=f"mcpd-{name}", **args)
        return await tail_logs.run(args_, context_for(client))


async def with_log(raw: bytes, status: int = 200) -> ContainerLogs:
    answers = recorded("containers")
    identity = answers["/containers/mcpd-crash/json"]["json"]["Id"]
    data = {"status": status, "base64": base64.b64encode(raw).decode()}
    answers[f"/containers/{identity}/logs"] = data
    async with serving(replay(answers)) as client:
        args = TailLogsInput(container="mcpd-crash")
        return await tail_logs.run(args, context_for(client))


async def test_a_crash_shows_both_streams_apart_without_colours_and_secrets() -> None:
    answer = await tailed("crash")
    by_name = {s.stream: s for s in answer.streams}
    assert by_name["stdout"].lines == ("starting",)
    errors = by_name["stderr"].lines
    assert errors[0] == "ERROR cannot open database token=[REDACTED:named]"
    assert errors[1].startswith("retry 6 [x6") and errors[2] == "panic: no database"
    assert (answer.state.status, answer.state.exit_code) == ("exited", 3)
    assert answer.most_telling == "panic: no database"
    said = answer.text() + answer.model_dump_json()
    assert "\x1b" not in said and "1234567890abcdef" not in said
    assert by_name["stderr"].first_at is not None and by_name["stderr"].read == 8


async def test_a_memory_kill_is_told_with_its_limit() -> None:
    answer = await tailed("oom")
    assert answer.state.oom_killed and answer.state.exit_code == 137
    assert answer.state.memory_limit_bytes == 16 * 1024 * 1024
    assert "killed at its memory limit" in answer.headline
    assert answer.no_log == "nothing was written"
    assert "no log because nothing was written" in answer.text()


async def test_a_terminal_is_one_stream_without_frames() -> None:
    answer = await tailed("tty")
    assert [s.stream for s in answer.streams] == ["terminal"]
    lines = answer.streams[0].lines
    assert lines == ("100%", "bold password=[REDACTED:named]", "err")


async def test_a_failing_health_check_is_told_with_its_output() -> None:
    answer = await tailed("sick", since="10m")
    assert answer.state.health is not None
    assert (answer.state.health.status, answer.state.health.last_output) == ("unhealthy", "unwell")
    assert "failed checks in a row" in answer.headline and answer.state.exit_code is None
    assert answer.no_log == "nothing was written in that time"
    assert "last health check: unwell" in answer.text()


async def test_a_line_of_many_parts_is_one_line() -> None:
    answer = await tailed("long")
    lines = answer.streams[0].lines
    assert len(lines) == 2 and lines[0].startswith("begin aaaa") and lines[0].endswith("aaaa end")
    assert "2026-" not in lines[0] and "shown in part" in answer.streams[0].notes[0]


async def test_a_log_that_cannot_be_read_has_a_reason() -> None:
    answer = await tailed("nolog")
    assert answer.no_log is not None and "does not support reading" in answer.no_log
    never = await tailed("never")
    assert never.state.exit_code == 127 and "could not be started" in never.headline
    assert never.no_log == "its start failed" and "no such file" in never.text()


async def test_a_log_that_ends_inside_a_frame_is_kept_and_said() -> None:
    answer = await with_log(frame(1, b"whole\n") + frame(2, b"only the beginn")[:-4])
    by_name = {s.stream: s.lines for s in answer.streams}
    assert by_name == {"stdout": ("whole",), "stderr": ("only the be",)}
    assert "broke off inside a record" in answer.text()
    broken = await with_log(frame(1, b"whole\n") + b"<html>not frames</html>")
    assert "not in the engine's format" in broken.text()


async def test_ten_thousand_lines_stay_within_the_answer_and_keep_the_newest() -> None:
    raw = b"".join(frame(1, f"request {'abcdefgh'[n % 8] * 40}\n".encode()) for n in range(9999))
    answer = await with_log(raw + frame(1, b"the newest\n"))
    assert answer.streams[0].lines[-1] == "the newest" and len(answer.text()) < 9000


async def test_a_failure_of_the_engine_while_reading_is_an_error() -> None:
    with pytest.raises(UpstreamUnavailable):
        await with_log(b'{"message": "disk"}', 500)


async def test_an_unknown_container_is_told_with_near_names() -> None:
    with pytest.raises(NotFound) as raised:
        await tailed("absent")
    assert raised.value.details["near"][0].startswith("mcpd-")


async def test_since_and_tail_reach_the_engine() -> None:
    asked: list[Any] = []
    async with serving(replay(recorded("containers"), asked)) as client:
        for since in ("2h", "2026-11-20T12:20:00+00:00"):
            args = TailLogsInput(container="mcpd-crash", since=since, tail=7)
            await tail_logs.run(args, context_for(client))
    queries = [r.query_params for r in asked if r.url.path.endswith("/logs")]
    assert [q["tail"] for q in queries] == ["7", "7"]
    expected = NOW.timestamp() - 7200
    assert float(queries[0]["since"]) == pytest.approx(expected, abs=60)
    assert float(queries[1]["since"]) == expected


@pytest.mark.parametrize("since", ["yesterday", "10", "2026-11-20T12:20:00", "-5m"])
def test_a_since_that_cannot_be_read_is_refused(since: str) -> None:
    with pytest.raises(ValueError):
        TailLogsInput(container="a", since=since)


@pytest.mark.parametrize("name", ["../images", "-a", "a/b", "a b", "", "a?b"])
def test_what_is_no_container_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        TailLogsInput(container=name)


def test_exit_codes_have_a_meaning() -> None:
    assert "memory limit" in exit_meaning(137, True)
    assert "ended itself with 1" in exit_meaning(1, True)
    assert "not the memory limit" in exit_meaning(137, False)
    assert exit_meaning(0, False) == "it ended without failure"
    assert exit_meaning(130, False) == "ended by signal 2"
    assert exit_meaning(9, False) == "it ended itself with a failure"


def test_times_that_are_none_are_left_out() -> None:
    assert moment("0001-01-01T00:00:00Z") is None and moment("soon") is None
    assert moment("2026-01-01T00:00:00") is None
