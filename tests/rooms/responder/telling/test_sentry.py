"""What the unattended server hears from Sentry."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_devops.journal.database import open_database
from mcp_devops.responder.watching.sentry_deploys import service_of, tell_new_deploys
from tests.support.sentry import NOW, World, ago, deploy, release, sentry


async def test_a_new_deploy_in_sentry_wakes_its_service_once_and_an_old_one_never(
    tmp_path: Path,
) -> None:
    there = World(releases=[release("checkout@1.0.0", ago(60), [deploy(ago(50), id="1")])])
    woken: list[str] = []

    def rouse(service: str) -> int:
        woken.append(service)
        return 1

    async with open_database(tmp_path / "state.db") as database, sentry(there) as client:
        await tell_new_deploys(client, database, there.clock, rouse)
        at_first = list(woken)
        later = deploy(NOW.replace(minute=1), id="2")
        there.releases.append(release("checkout@1.1.0", NOW, [later]))
        there.releases.append(release("just-a-hash", NOW, [{**later, "id": "3"}]))
        new = await tell_new_deploys(client, database, there.clock, rouse)
        again = await tell_new_deploys(client, database, there.clock, rouse)
    assert at_first == [] and woken == ["checkout"]
    assert {d.release for d in new} == {"checkout@1.1.0", "just-a-hash"} and again == ()


@pytest.mark.parametrize(
    ("name", "service"),
    [("checkout@1.0", "checkout"), ("@scope/web@2.0", "@scope/web"), ("abc", None), ("@1", None)],
)
def test_a_release_names_its_service_by_sentrys_convention(name: str, service: str | None) -> None:
    assert service_of(name) == service
