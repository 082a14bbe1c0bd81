"""Logs over real sockets: which run, the newest end, what is no log, hostile text."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.errors import InvalidArguments, PermissionDenied
from mcp_devops.integrations.kubernetes.linefilter import matching
from mcp_devops.integrations.kubernetes.logs import LogAnswer, TailLogsInput, tail_logs
from mcp_devops.integrations.kubernetes.podlogs import (
    ContainerLog,
    Run,
    container_status,
    parse_lines,
    runs_to_try,
)
from mcp_devops.text.budget import estimate_tokens
from tests.rooms.integrations.kubernetes.scenes import old_and_new
from tests.support.kubernetes_api import (
    FIXTURES,
    Api,
    Asked,
    FixedClock,
    Handler,
    Reply,
    client_of,
    context_for,
    replay,
    scene_data,
    serving,
    status,
    write_kubeconfig,
)

TOKEN = (
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
)
STAMP = "2026-11-20T12:56:33.150275302Z "
GONE = Reply(body=b"unable to retrieve container logs for docker://abc", content_type="text/plain")


def text(body: str | bytes) -> Reply:
    raw = body.encode() if isinstance(body, str) else body
    return Reply(body=raw, content_type="text/plain")


@asynccontextmanager
async def tool_on(
    tmp_path: Path, handler: Handler, data: Mapping[str, Any]
) -> AsyncIterator[tuple[Any, Api]]:
    clock = FixedClock(datetime.fromisoformat(data["at"]))
    async with serving(handler) as api:
        config = write_kubeconfig(tmp_path, api.url)
        async with client_of(config, clock) as client:
            yield context_for(client, clock), api


async def tail(
    tmp_path: Path, log: Handler, data: Mapping[str, Any] | None = None, **args: Any
) -> tuple[LogAnswer, list[Asked]]:
    data = data or scene_data("crash_loop")
    async with tool_on(tmp_path, replay(data, log), data) as (context, api):
        wanted = {"workload": data["workload"]["metadata"]["name"], **args}
        answer = await tail_logs.run(TailLogsInput(**wanted), context)
    return answer, [a for a in api.asked if a.path.endswith("/log")]


def recorded(case: str) -> Reply:
    return text((FIXTURES / case / "current.log").read_bytes())


async def test_the_crash_of_a_recorded_loop_is_the_most_telling_line(tmp_path: Path) -> None:
    answer, asked = await tail(tmp_path, lambda _: recorded("crash_loop"))
    assert answer.most_telling is not None and "panic: runtime error" in answer.most_telling
    assert answer.streams[0].run.startswith("finished run: exit 1")
    assert answer.streams[0].lines[-1].endswith("version=v2")
    assert len(asked) == 4
    assert all("limitBytes" not in a.query and a.query["tailLines"] == "100" for a in asked)


async def test_escapes_and_secrets_are_gone_from_text_and_structure(tmp_path: Path) -> None:
    line = f"{STAMP}\x1b[31mERROR\x1b[0m \x1b]0;title\x07Authorization: Bearer {TOKEN}\n"
    answer, _ = await tail(tmp_path, lambda _: text(line))
    whole = answer.text() + answer.model_dump_json()
    assert TOKEN not in whole and "\x1b" not in whole and "[31m" not in whole
    assert "ERROR" in whole and "[REDACTED" in whole


async def test_pods_that_say_the_same_are_shown_once(tmp_path: Path) -> None:
    data = scene_data("full_outage")
    answer, _ = await tail(tmp_path, lambda _: recorded("full_outage"), data)
    shown = [s for s in answer.streams if s.lines]
    assert len(shown) == 1
    assert [s.same_as for s in answer.streams if not s.lines] == [shown[0].pod] * 2


async def test_a_removed_container_falls_back_to_its_other_run(tmp_path: Path) -> None:
    def log(asked: Asked) -> Reply:
        return text("panic: here\n") if asked.query.get("previous") else GONE

    answer, _ = await tail(tmp_path, log, pod=_failing(), workload=None)
    assert answer.streams[0].lines == ("panic: here",)


def _failing() -> str:
    return str(old_and_new(scene_data("crash_loop"))[1][0]["metadata"]["name"])


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (GONE, "already removed"),
        (Reply(status=204), "nothing was written"),
        (status(400, 'container "app" is waiting to start: trying and failing to pull image'),
         "failing to pull image"),
        (status(404, "pods not found"), "not found"),
        (text(""), "nothing was written"),
    ],
    ids=["removed", "204", "waiting", "pod gone", "empty"],
)  # fmt: skip
async def test_no_log_is_said_with_its_reason(tmp_path: Path, reply: Reply, why: str) -> None:
    answer, _ = await tail(tmp_path, lambda _: reply, pod=_failing(), workload=None)
    assert why in (answer.streams[0].no_log or "")
    assert "no log because" in answer.text()
    assert answer.streams[0].lines == ()


async def test_a_denied_log_is_an_error_that_names_the_grant(tmp_path: Path) -> None:
    words = 'pods "p" is forbidden: User "viewer" cannot get resource "pods/log" in API group ""'
    with pytest.raises(PermissionDenied) as caught:
        await tail(tmp_path, lambda _: status(403, words, "Forbidden"))
    assert "--resource=pods/log" in caught.value.details["grants"][0]


async def test_a_ten_megabyte_line_keeps_its_end_and_stays_in_budget(tmp_path: Path) -> None:
    body = STAMP + "x" * (10 * 1024 * 1024) + " THE END\n"
    answer, _ = await tail(tmp_path, lambda _: text(body), pod=_failing(), workload=None)
    assert answer.streams[0].lines[-1].endswith("THE END")
    assert any("older bytes" in note for note in answer.streams[0].notes)
    assert len(answer.model_dump_json()) < 5000


async def test_a_binary_log_is_described_and_not_shown(tmp_path: Path) -> None:
    body = bytes(range(256)) * 40 + b"\nplain line\n"
    answer, _ = await tail(tmp_path, lambda _: text(body), pod=_failing(), workload=None)
    assert "plain line" in answer.streams[0].lines
    assert "\x00" not in answer.text()


async def test_a_long_log_of_many_pods_stays_below_ten_thousand_tokens(tmp_path: Path) -> None:
    data = _many_pods(500)
    counter = iter(range(10**9))

    def log(asked: Asked) -> Reply:
        pod = asked.path.split("/")[-2]
        lines = [f"{STAMP}worker {pod} lost shard {chr(97 + next(counter) % 26) * 9} at {i}"
                 for i in range(100)]  # fmt: skip
        return text("\n".join(lines) + "\npanic: last words\n")

    answer, asked = await tail(tmp_path, log, data, selector="app=x", workload=None)
    assert len(asked) == 20
    assert "480 more were not read" in answer.headline
    assert estimate_tokens(answer.model_dump_json(exclude_defaults=True)) < 10_000
    assert estimate_tokens(answer.text()) < 10_000
    assert all(any("panic: last words" in li for li in s.lines) for s in answer.streams if s.lines)


def _many_pods(count: int) -> dict[str, Any]:
    data = scene_data("crash_loop")
    model = old_and_new(data)[1][0]
    data["pods"] = []
    for n in range(count):
        pod = copy.deepcopy(model)
        pod["metadata"].update(name=f"k8s-crash-{n}", uid=f"uid-{n}")
        data["pods"].append(pod)
    return data


async def test_only_matching_lines_are_kept_and_counted(tmp_path: Path) -> None:
    body = "".join(f"{STAMP}GET /{i} {500 if i % 10 == 0 else 200}\n" for i in range(300))
    answer, asked = await tail(
        tmp_path, lambda _: text(body), pod=_failing(), workload=None, pattern=r" 5\d\d$", tail=5
    )
    assert answer.streams[0].matched == 30
    assert asked[0].query["tailLines"] == "5000"
    assert "GET /290 500" in " ".join(answer.streams[0].lines)


@pytest.mark.parametrize("pattern", ["(", "a{99999999999}", "[z-a]"])
async def test_what_is_no_pattern_is_refused_before_anything_is_read(
    tmp_path: Path, pattern: str
) -> None:
    with pytest.raises(InvalidArguments):
        await tail(tmp_path, lambda _: text("x"), pattern=pattern)


async def test_a_pattern_that_would_never_end_is_stopped() -> None:
    with pytest.raises(InvalidArguments):
        await matching(r"(a+)+$", ["a" * 64 + "!"])


async def test_an_unknown_container_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(InvalidArguments) as caught:
        await tail(tmp_path, lambda _: text("x"), container="nope")
    assert caught.value.details["known"] == ["app"]


def test_exactly_one_of_workload_pod_and_selector_is_taken() -> None:
    for wrong in ({}, {"workload": "a", "pod": "b"}, {"pod": "a", "since_s": 1,
                  "since": "2026-01-01T00:00:00Z"}):  # fmt: skip
        with pytest.raises(ValueError):
            TailLogsInput.model_validate(wrong)


def test_which_run_is_read_depends_on_what_the_container_does() -> None:
    pod = old_and_new(scene_data("crash_loop"))[1][0]
    entry = dict(container_status(pod, "app"))
    assert [p for p, _ in runs_to_try(entry, Run.AUTO, failing=True)] == [False, True]
    running = {**entry, "state": {"running": {}}}
    assert [p for p, _ in runs_to_try(running, Run.AUTO, failing=True)] == [True, False]
    assert [p for p, _ in runs_to_try(running, Run.AUTO, failing=False)] == [False]
    assert [p for p, _ in runs_to_try(running, Run.PREVIOUS, failing=False)] == [True]
    assert [p for p, _ in runs_to_try(running, Run.CURRENT, failing=True)] == [False]


@given(st.binary(max_size=2000), st.booleans())
def test_any_bytes_become_lines_that_can_be_shown(raw: bytes, cut: bool) -> None:
    from mcp_devops.integrations.kubernetes.logs import cleaned_lines

    lines = parse_lines(raw, cut)
    assert all("\n" not in line.text for line in lines)
    log = ContainerLog("p", "c", "current run", tuple(lines))
    assert all("\x1b" not in line.text for line in cleaned_lines(log))


@given(st.text(alphabet=st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=50))
def test_the_kubelets_time_is_taken_off_and_the_rest_left_alone(said: str) -> None:
    [line] = parse_lines((STAMP + said).encode(), cut=False)
    assert line.text == said
    assert line.at is not None and line.at.microsecond == 150275
