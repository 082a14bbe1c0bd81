from __future__ import annotations

import json
from typing import Any

from mcp_devops.integrations.docker.images import (
    CompareImagesInput,
    ImageComparison,
    compare_images,
)
from tests.support.docker_engine import context_for, recorded, replay, serving

OLD, NEW = "test/base:1", "mcpd-rec-buildkit:1"


async def compared(
    before: str, after: str, answers: dict[str, Any] | None = None
) -> ImageComparison:
    async with serving(replay(answers or recorded("buildkit"))) as client:
        args = CompareImagesInput(before=before, after=after)
        return await compare_images.run(args, context_for(client))


async def test_layers_and_configuration_are_compared_and_secrets_masked() -> None:
    answer = await compared(OLD, NEW)
    assert (answer.shared_layers, answer.new_layers, answer.gone_layers) == (1, 13, 0)
    assert len(answer.new_steps) == 13 and "echo step 1 >" in answer.new_steps[0]
    changes = {c.what: (c.before, c.after) for c in answer.changes}
    assert changes["env LOG_LEVEL"] == (None, "info")
    assert changes["env DB_PASSWORD"] == (None, "[REDACTED:named]")
    assert changes["user"] == (None, "1000") and changes["port 8080/tcp"] == (None, "exposed")
    assert changes["entrypoint"] == (None, "/bin/sh")
    assert answer.after.revision == "0123456789abcdef0123456789abcdef01234567"
    assert answer.after.platform == "linux/amd64" and not answer.same
    said = answer.text() + answer.model_dump_json()
    assert "hunter2" not in said and "not real pw" not in said and "not-a-real" not in said


async def test_an_image_with_itself_has_no_difference() -> None:
    answer = await compared(NEW, NEW)
    assert answer.same and not answer.changes and answer.new_layers == 0
    assert "are one image" in answer.headline


async def test_a_secret_that_only_changed_its_value_is_a_difference_without_values() -> None:
    text = json.dumps(recorded("buildkit"))
    answers = json.loads(text)
    other = json.loads(text.replace("hunter2 not real pw", "other not real pw"))
    for end in ("json", "history"):
        found = other[f"/images/{NEW}/{end}"]
        answers[f"/images/other:1/{end}"] = found
    answers["/images/other:1/json"]["json"]["Architecture"] = "arm64"
    answer = await compared(NEW, "other:1", answers)
    changes = {c.what: (c.before, c.after) for c in answer.changes}
    assert changes["env DB_PASSWORD"] == ("[REDACTED:named]", "[REDACTED:named]")
    assert changes["architecture"] == ("amd64", "arm64")
    assert "other not real" not in answer.model_dump_json()


async def test_steps_are_left_out_where_entries_and_layers_cannot_be_matched() -> None:
    answers = recorded("buildkit")
    answers[f"/images/{NEW}/history"]["json"][6]["Size"] = 0
    answer = await compared(OLD, NEW, answers)
    assert answer.new_layers == 13 and not answer.new_steps
