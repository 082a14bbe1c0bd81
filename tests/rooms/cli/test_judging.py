from __future__ import annotations

import json

from mcp_devops.errors import NotFound, PreconditionFailed
from mcp_devops.gateway.approvals import ApprovalDesk
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.journal.database import Database
from mcp_devops.journal.journal import Journal
from mcp_devops.model.verdict import Action, Verdict
from mcp_devops.toolkit.clock import SystemClock
from tests.rooms.cli.conftest import Terminal
from tests.support.response import CART, verdict


def judged(terminal: Terminal, said: Verdict | None) -> str:
    """An incident with this verdict; its id."""

    async def make(database: Database, journal: Journal, desk: ApprovalDesk) -> str:
        store = IncidentStore(database, journal, SystemClock())
        stored = await store.open(CART, "test")
        incident = stored.incident.model_copy(update={"verdict": said})
        await store.save(stored.model_copy(update={"incident": incident}), "judged", "engine")
        return incident.id

    return terminal.within(make)


def test_a_person_says_whether_an_automatic_decision_was_right_and_may_correct_it(
    terminal: Terminal,
) -> None:
    incident = judged(terminal, verdict())
    result = terminal.here("outcome", incident, "right", "--note", "errors gone")
    assert result.exit_code == 0
    assert f"The automatic decision on {incident} (Deployment shop/cart) is judged right." in (
        result.output
    )
    assert "1 of 1 right" in result.output
    again = terminal.here("outcome", incident, "wrong").output
    assert "judged wrong. Before it was judged right; both are in the journal." in again
    assert "0 of 1 right" in again


def test_a_decision_for_a_person_is_judged_and_not_counted_as_automatic(
    terminal: Terminal,
) -> None:
    incident = judged(terminal, verdict(Action.HOLD, automatic=False))
    shown = terminal.here("outcome", incident, "wrong").output
    assert "The decision, one for a person, on" in shown and "0 of 0 right" in shown


def test_programs_are_answered_in_json(terminal: Terminal) -> None:
    incident = judged(terminal, verdict())
    found = json.loads(terminal.here("outcome", incident, "right", "--json").output)
    assert found["judgement"]["was_right"] is True and found["history"]["judged"] == 1


def test_what_is_not_there_or_was_not_decided_cannot_be_judged(terminal: Terminal) -> None:
    assert isinstance(terminal.here("outcome", "inc-00000000", "right").exception, NotFound)
    undecided = judged(terminal, None)
    refused = terminal.here("outcome", undecided, "right").exception
    assert isinstance(refused, PreconditionFailed)
    assert terminal.here("outcome", undecided, "perhaps").exit_code == 2
