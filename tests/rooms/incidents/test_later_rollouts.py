"""What was rolled out after a rollback is another deployment, and has an incident of its own."""

from __future__ import annotations

import pytest

from mcp_devops.incidents.store import IncidentStore, Stored
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.incident import IncidentStatus
from tests.rooms.incidents.conftest import Desk, Duty
from tests.rooms.incidents.test_roll_back import FAST


async def acted(duty: Duty, status: IncidentStatus, **moved: object) -> Stored:
    """An incident whose rollback was carried out, of a rollout that is live or was long ago."""
    incident, _ = await duty.decided()
    store = await duty.gateway.services.get(IncidentStore)
    stored = await store.get(incident)
    assert stored.context is not None and stored.context.change is not None
    change = stored.context.change
    given = {
        "tool": "incident_roll_back",
        "target": stored.incident.target,
        "uid": change.uid,
        "from_revision": change.revision.number,
        "from_template_hash": change.revision.template_hash,
        "to_template_hash": "b" * 64,
        "summary": "back",
        **moved,
    }
    changed = stored.incident.model_copy(update={"status": status})
    done = stored.model_copy(update={"incident": changed, "plan": ActionPlan.model_validate(given)})
    return await store.save(done, "rolled back", "ann")


LONG_AGO = {"from_template_hash": "a" * 64, "from_revision": 1}


@pytest.mark.parametrize("status", [IncidentStatus.NOT_RECOVERED, IncidentStatus.UNKNOWN])
async def test_a_rollback_that_did_not_help_does_not_stand_in_the_way_of_the_next(
    desk: Desk, status: IncidentStatus
) -> None:
    async with desk.playing("crash-loop", variables=FAST, automatic_namespaces=("shop",)) as duty:
        old = await acted(duty, status, **LONG_AGO)
        incident, verdict = await duty.decided()
        done = await duty.call("incident_roll_back", incident_id=incident)
        store = await duty.gateway.services.get(IncidentStore)
        left = (await store.get(old.incident.id)).incident
    assert incident != old.incident.id
    assert verdict["action"] == "roll_back" and not verdict.get("vetoes")
    assert done.data is not None, done.text
    assert done.data["status"] == "recovered" and done.data["approved_by"] == "policy"
    assert left.status is IncidentStatus.CLOSED and incident in left.timeline[-1].what


async def test_the_same_number_of_another_object_is_another_deployment(desk: Desk) -> None:
    async with desk.playing("crash-loop") as duty:
        old = await acted(duty, IncidentStatus.NOT_RECOVERED, uid="another")
        assert (await duty.investigate())["incident_id"] != old.incident.id


async def test_a_bad_version_that_is_rolled_out_again_is_a_deployment_of_its_own(
    desk: Desk,
) -> None:
    async with desk.playing("crash-loop") as duty:
        old = await acted(duty, IncidentStatus.NOT_RECOVERED, from_revision=1)
        assert (await duty.investigate())["incident_id"] != old.incident.id


@pytest.mark.parametrize("restored", [True, False], ids=["restored", "not yet restored"])
async def test_while_nothing_else_is_rolled_out_the_incident_goes_on(
    desk: Desk, restored: bool
) -> None:
    async with desk.playing("crash-loop") as duty:
        first, _ = await duty.decided()
        store = await duty.gateway.services.get(IncidentStore)
        context = (await store.get(first)).context
        assert context is not None and context.change is not None
        live = context.change.revision.template_hash
        moved = {"to_template_hash": live, **LONG_AGO} if restored else {}
        old = await acted(duty, IncidentStatus.NOT_RECOVERED, **moved)
        incident, verdict = await duty.decided()
    assert incident == old.incident.id
    assert "rolled_back_before" in {v["code"] for v in verdict["vetoes"]}


async def test_an_action_under_way_is_told_of_the_later_rollout_and_left_to_end(
    desk: Desk,
) -> None:
    async with desk.playing("crash-loop") as duty:
        old = await acted(duty, IncidentStatus.VERIFYING, **LONG_AGO)
        found = await duty.investigate()
        store = await duty.gateway.services.get(IncidentStore)
        left = (await store.get(old.incident.id)).incident
    assert found["incident_id"] != old.incident.id
    assert left.status is IncidentStatus.VERIFYING
    assert found["incident_id"] in left.timeline[-1].what
