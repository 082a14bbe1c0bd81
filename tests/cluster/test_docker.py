"""The Docker tools against the real engine: baked-in secrets, crashes, memory kills, images."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.errors import NotFound
from mcp_devops.gateway.reply import reply_from_answer
from mcp_devops.integrations.docker import INTEGRATION
from mcp_devops.integrations.docker.history import ImageHistoryInput, image_history
from mcp_devops.integrations.docker.images import CompareImagesInput, compare_images
from mcp_devops.integrations.docker.logs import ContainerLogs, TailLogsInput, tail_logs
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.answer import Answer, ResponseFormat
from tests.support.docker_engine import (
    AVAILABLE,
    WHY_NOT,
    built,
    context_for,
    docker,
    ran,
    real_engine,
)

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)]

SECRET, PHRASE = "made-up-token-4711", "correct horse battery"
STEPS = "".join(f"RUN echo step {n} > /tmp/x{n}\n" for n in range(1, 25))
BAKED = (
    f"FROM test/base:1\nARG DEPLOY_TOKEN={SECRET}\nENV DB_PASSWORD='{PHRASE}'\n{STEPS}"
    'RUN echo "$DEPLOY_TOKEN" > /tmp/used\nUSER 1000\nEXPOSE 8080\nLABEL team=shop\n'
)


def whole(answer: Answer) -> str:
    """Everything an answer says, before and after the door."""
    reply = reply_from_answer("1", answer, Redactor(), ResponseFormat.CONCISE)
    assert not reply.cut
    return answer.text() + answer.model_dump_json() + reply.text + json.dumps(reply.data)


async def tailed(name: str, **args: Any) -> ContainerLogs:
    async with real_engine() as client:
        return await tail_logs.run(TailLogsInput(container=name, **args), context_for(client))


async def test_a_secret_in_many_layers_is_found_by_kind_and_place_and_its_value_is_nowhere() -> (
    None
):
    async with built(BAKED) as image, real_engine() as client:
        context = context_for(client)
        answer = await image_history.run(ImageHistoryInput(image=image), context)
        assert answer.total_entries == 31 and len(answer.entries) == 10
        told = {(s.kind, s.place) for s in answer.secrets}
        assert ("named", "history entries 4-28 of 31 (RUN)") in told
        assert ("named", "history entry 30 of 31 (ARG)") in told
        assert ("named", "environment variable DB_PASSWORD") in told
        pages = [answer]
        while pages[-1].next_cursor:
            more = ImageHistoryInput(image=image, cursor=pages[-1].next_cursor)
            pages.append(await image_history.run(more, context))
        assert [e.number for p in pages for e in p.entries] == list(range(1, 32))
        difference = await compare_images.run(
            CompareImagesInput(before="test/base:1", after=image), context
        )
        changes = {c.what: c.after for c in difference.changes}
        assert changes["env DB_PASSWORD"] == "[REDACTED:named]" and changes["user"] == "1000"
        assert (difference.shared_layers, difference.new_layers) == (1, 25)
        for found in (*pages, difference):
            said = whole(found)
            assert SECRET not in said and PHRASE not in said and "horse" not in said


async def test_the_test_images_are_compared() -> None:
    async with real_engine() as client:
        answer = await compare_images.run(
            CompareImagesInput(before="test/shop:1", after="test/shop:2"), context_for(client)
        )
    assert (answer.shared_layers, answer.new_layers, answer.gone_layers) == (14, 1, 0)
    assert [c.what for c in answer.changes] == ["env PAYMENT_API_KEY"]
    assert answer.changes[0].after is not None and "REDACTED" in answer.changes[0].after


async def test_a_crash_with_colours_and_a_split_token_is_told_clean() -> None:
    script = (
        "echo starting; for i in 1 2 3 4; do echo retry $i >&2; done;"
        r' printf "\033[31mERROR\033[0m token=\033[32mtok\033[0m-1234567890abcdef\n" >&2; exit 3'
    )
    async with ran(script=script) as name:
        answer = await tailed(name)
        assert (answer.state.status, answer.state.exit_code) == ("exited", 3)
        streams = {s.stream: s.lines for s in answer.streams}
        assert streams["stdout"] == ("starting",)
        assert streams["stderr"][0].startswith("retry 4 [x4")
        assert streams["stderr"][1] == "ERROR token=[REDACTED:named]"
        assert "1234567890abcdef" not in whole(answer) and "\x1b" not in whole(answer)
        assert (await tailed(name, since="2020-01-01T00:00:00Z")).streams
        only = await tailed(name, tail=1)
        assert sum(s.read for s in only.streams) == 1


async def test_a_memory_kill_is_told() -> None:
    script = "x=a; while true; do x=$x$x$x; done"
    # A busy engine misses the kernel's word now and then, and calls it a kill like any other.
    for _ in range(5):
        async with ran("-m", "16m", "--memory-swap", "16m", script=script) as name:
            told = await docker("inspect", "--format", "{{.State.OOMKilled}}", name)
            answer = await tailed(name)
        if told.strip() == "true":
            break
    assert answer.state.oom_killed and answer.state.exit_code == 137
    assert "killed at its memory limit" in answer.headline


async def test_a_terminal_and_a_long_line_are_read() -> None:
    async with ran("-t", script=r'printf "10%%\r100%%\n"; echo password=hunter2-not-real') as name:
        answer = await tailed(name)
        assert answer.streams[0].lines == ("100%", "password=[REDACTED:named]")
    grow = "x=ab; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do x=$x$x; done;"
    async with ran(script=f"{grow} echo begin $x end") as name:
        answer = await tailed(name)
        (line,) = answer.streams[0].lines
        assert (
            line.startswith("begin ab") and line.endswith("ab end") and answer.streams[0].read == 1
        )


async def test_a_killed_container_was_killed_from_outside() -> None:
    async with ran("-d", script="sleep 300") as name:
        assert (await tailed(name)).state.status == "running"
        await docker("kill", name)
        answer = await tailed(name)
    assert answer.state.exit_code == 137 and not answer.state.oom_killed
    assert "not the memory limit" in answer.headline


async def test_an_engine_behind_ssh_answers_through_dial_stdio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = os.environ["DOCKER_HOST"]
    # In the place of the far side: the same command, on this host's engine.
    fake = tmp_path / "ssh"
    fake.write_text(
        f'#!/bin/sh\nwhile [ "$1" != docker ]; do shift; done\nDOCKER_HOST={host} exec "$@"\n',
        encoding="utf-8",
    )
    fake.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    async with real_engine(host="ssh://somebody@far") as client:
        answer = await image_history.run(
            ImageHistoryInput(image="test/shop:1"), context_for(client)
        )
    assert answer.layers == 14


async def test_ping_and_an_unknown_container() -> None:
    assert INTEGRATION.ping is not None
    async with ran(script="true") as name, real_engine() as client:
        assert (await INTEGRATION.ping(client)).ok
        with pytest.raises(NotFound) as raised:
            await client.container(name + "x")
        assert name in raised.value.details["near"]
