from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_devops.errors import InvalidArguments, NotFound
from mcp_devops.gateway.reply import reply_from_answer
from mcp_devops.integrations.docker.history import (
    ImageHistory,
    ImageHistoryInput,
    image_history,
    size,
)
from mcp_devops.integrations.docker.steps import Bakery, assignments, baked_secrets, steps_of
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.answer import ResponseFormat
from mcp_devops.toolkit.paging import encode_cursor
from tests.support.docker_engine import context_for, engine, recorded, replay, serving

TOKEN, PASSWORD = "not-a-real-token-0000", "hunter2 not real pw"


async def history(case: str, **args: Any) -> ImageHistory:
    async with engine(case) as client:
        return await image_history.run(ImageHistoryInput(**args), context_for(client))


@pytest.mark.parametrize(
    ("case", "image"), [("legacy_build", "mcpd-rec-legacy:1"), ("buildkit", "mcpd-rec-buildkit:1")]
)
async def test_baked_in_secrets_are_told_by_kind_and_place_and_never_shown(
    case: str, image: str
) -> None:
    answers = [await history(case, image=image, limit=100), await history(case, image=image)]
    for answer in answers:
        told = {(s.kind, s.place) for s in answer.secrets}
        total = answer.total_entries
        assert ("named", f"history entries 7-19 of {total} (RUN)") in told
        assert ("named", f"history entry {total - 1} of {total} (ARG)") in told
        assert ("named", "environment variable DB_PASSWORD") in told
        said = answer.model_dump_json() + answer.text()
        for secret in (TOKEN, PASSWORD, "hunter2", "not real pw"):
            assert secret not in said
    assert answers[0].entries[6].secrets == ("named",)
    env = next(e for e in answers[0].entries if e.instruction == "ENV")
    assert env.command == "LOG_LEVEL=info DB_PASSWORD=[REDACTED:named]"


async def test_the_newest_ten_are_shown_with_full_commands_and_the_rest_is_counted() -> None:
    answer = await history("sixty_layers", image="mcpd-rec-sixty:1")
    assert [e.number for e in answer.entries] == list(range(1, 11))
    assert answer.entries[0].command == "/bin/sh -c echo layer 60 > /tmp/l60"
    assert (answer.total_entries, answer.layers) == (61, 61)
    shown = sum(e.size_bytes for e in answer.entries)
    assert answer.not_shown_bytes + shown == answer.size_bytes
    assert "in entries not shown" in answer.text()


async def test_sixty_layers_come_in_pages_that_fit_the_answer() -> None:
    seen: list[int] = []
    cursor = None
    async with engine("sixty_layers") as client:
        while True:
            args = ImageHistoryInput(image="mcpd-rec-sixty:1", limit=25, cursor=cursor)
            answer = await image_history.run(args, context_for(client))
            reply = reply_from_answer("1", answer, Redactor(), ResponseFormat.CONCISE)
            assert not reply.cut and len(answer.text()) < 9000
            seen += [e.number for e in answer.entries]
            cursor = answer.next_cursor
            if cursor is None:
                break
    assert seen == list(range(1, 62))


async def test_long_commands_end_the_page_early_instead_of_being_cut() -> None:
    answers = recorded("sixty_layers")
    for entry in answers["/images/mcpd-rec-sixty:1/history"]["json"]:
        entry["CreatedBy"] = "RUN /bin/sh -c " + "echo word; " * 250 + "# buildkit"
    async with serving(replay(answers)) as client:
        args = ImageHistoryInput(image="mcpd-rec-sixty:1")
        answer = await image_history.run(args, context_for(client))
    assert len(answer.entries) == 2 and answer.next_cursor
    assert all(e.command.endswith("echo word;") for e in answer.entries)


async def test_buildkit_keeps_no_ids_but_the_newest_and_empty_entries_are_counted() -> None:
    answer = await history("buildkit", image="mcpd-rec-buildkit:1", limit=100)
    assert answer.builder == "buildkit" and answer.empty_entries == 8
    assert answer.entries[0].id == "d911c6c53209"
    assert all(e.id is None for e in answer.entries[1:-1])
    assert [e.instruction for e in answer.entries[:3]] == ["CMD", "ENTRYPOINT", "HEALTHCHECK"]
    assert answer.entries[-1].instruction == "IMPORT"


async def test_an_image_that_does_not_exist_is_told_with_near_names() -> None:
    answers = recorded("legacy_build")
    answers["/images/mcpd-rec-legcy:1/json"] = answers["/images/absent:1/json"]
    answers["/images/mcpd-rec-legcy:1/history"] = answers["/images/absent:1/history"]
    async with serving(replay(answers)) as client:
        with pytest.raises(NotFound) as raised:
            args = ImageHistoryInput(image="mcpd-rec-legcy:1")
            await image_history.run(args, context_for(client))
    assert "mcpd-rec-legacy:1" in raised.value.details["near"]


async def test_a_cursor_beyond_the_history_is_refused() -> None:
    args = ImageHistoryInput(image="mcpd-rec-sixty:1")
    with pytest.raises(InvalidArguments):
        await history("sixty_layers", **{**args.model_dump(), "cursor": encode_cursor(args, 99)})


@pytest.mark.parametrize(
    "image",
    [
        "../../containers", "a/../b", "-rf", "--help", "a b", "a?x=1", "a%2Fb", "a#b", "", "A/B",
        "x" * 600, "a:b:c", "a@sha256:12", "a//b", "/a", "a/",
    ],
)  # fmt: skip
def test_what_is_no_image_name_is_refused(image: str) -> None:
    with pytest.raises(ValueError):
        ImageHistoryInput(image=image)


@pytest.mark.parametrize(
    "image",
    [
        "shop", "test/shop:1", "registry.example.com:5000/team/shop:v1.2", "365c5b3ea6ec",
        "localhost/shop", "sha256:" + "a" * 64, "shop@sha256:" + "0" * 64, "a__b/c-d.e:T_1",
    ],
)  # fmt: skip
def test_image_names_are_accepted(image: str) -> None:
    assert ImageHistoryInput(image=image).image == image


def test_history_entries_of_other_builders_are_read() -> None:
    rows: list[dict[str, Any]] = [
        {"CreatedBy": "/bin/bash -c make", "Size": 5, "Created": 0},
        {"CreatedBy": "COPY a b", "Comment": ""},
        {"CreatedBy": "ENV A=1 # buildkit"},
    ]
    steps = steps_of(rows)
    assert [s.instruction for s in steps] == ["?", "COPY", "ENV"]
    assert steps[0].command == "/bin/bash -c make"


@pytest.mark.parametrize(
    "shell", ["/bin/sh -c", "/bin/bash -o pipefail -c", "/bin/bash -euxo pipefail -c", "cmd /S /C"]
)
def test_a_build_argument_with_spaces_is_masked_whole_before_any_shell(shell: str) -> None:
    said = f"RUN |2 COLOUR=red DB_PASSWORD=correct horse battery {shell} make all # buildkit"
    steps = steps_of([{"CreatedBy": said, "Comment": "buildkit.dockerfile.v0"}])
    shown = Bakery({}, steps).shown(steps[0].command)
    assert shown.startswith("|2 COLOUR=red DB_PASSWORD=[REDACTED:named]")
    assert "horse" not in shown and "battery" not in shown


def test_an_enormous_command_is_read_in_bounded_time_and_cut_at_a_space() -> None:
    (step,) = steps_of([{"CreatedBy": "RUN |1 A=" + "/x -c" * 60_000 + " end"}])
    assert len(step.command) < 262_144
    assert Bakery({}, [step]).kinds(step.command) == []


def test_assignments_reach_to_the_next_name() -> None:
    assert assignments("A=one two B='three' C=") == [("A", "one two"), ("B", "three"), ("C", "")]


def test_labels_and_commands_are_searched_and_a_value_is_found_without_its_name() -> None:
    stripe = "sk_" + "live_" + "F" * 24
    image = {
        "Config": {
            "Env": ["API_TOKEN=abcdef-123456", "PLACE=${API_TOKEN}"],
            "Labels": {"pay": stripe},
            "Cmd": ["run", "--x", "abcdef-123456"],
            "Entrypoint": None,
        }
    }
    steps = steps_of([{"CreatedBy": "RUN curl x/abcdef-123456 # buildkit"}])
    bakery = Bakery(image, steps)
    found = {(s.kind, s.place) for s in baked_secrets(image, steps, bakery)}
    assert found == {
        ("named", "history entry 1 of 1 (RUN)"),
        ("named", "environment variable API_TOKEN"),
        ("stripe", "label pay"),
        ("named", "the image's cmd"),
    }
    assert "abcdef" not in bakery.shown(json.dumps(image))


def test_sizes_read_like_dockers() -> None:
    assert [size(n) for n in (0, 999, 6_954_922, 1_234_567_890)] == [
        "0 B", "999 B", "6.95 MB", "1.23 GB",
    ]  # fmt: skip
