from __future__ import annotations

from typing import Any

import pytest

from mcp_devops.errors import InternalError
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.record import Record
from mcp_devops.model.target import Workload
from mcp_devops.toolkit.answer import Answer
from mcp_devops.toolkit.clock import SystemClock
from mcp_devops.toolkit.context import Caller, ToolContext, no_progress
from mcp_devops.toolkit.risk import Rbac, Risk
from mcp_devops.toolkit.spec import DESCRIPTION_LIMIT, VERBS, IncompleteDeclaration, tool
from tests.support.toy import get_lamp, restart_lamp


class Which(Record):
    """Which lamp."""

    lamp: str
    """Its name."""


class Undocumented(Record):
    """An argument without a word."""

    lamp: str


async def look(args: Which, context: ToolContext[Any]) -> Answer:
    """Look at a lamp."""
    return Answer(headline=args.lamp)


async def plan(args: Which, context: ToolContext[Any]) -> ActionPlan:
    return ActionPlan(
        tool="lamp_restart_one",
        target=Workload(namespace="house", name=args.lamp),
        uid="u",
        summary="Restart it",
    )


def declared(run: Any = look, **changes: Any) -> Any:
    options = {"name": "lamp_get_one", "title": "Look", "risk": Risk.READ, **changes}
    return tool(**options)(run)


def test_a_complete_declaration_says_everything_a_client_is_told() -> None:
    spec = declared(needs=(Rbac("get", "lamps"),))
    assert (spec.system, spec.description) == ("lamp", "Look at a lamp.")
    assert spec.input is Which and spec.output is Answer
    assert spec.input_schema["properties"]["lamp"]["description"] == "Its name."
    assert spec.output_schema["required"] == ["headline"]
    assert spec.hints["readOnlyHint"] is True


@pytest.mark.parametrize(
    "name",
    [
        "lamp",
        "lamp_",
        "Lamp_get_one",
        "lamp_fetch_one",
        "lamp_gets_one",
        "get_lamp",
        "lamp-get-one",
        "lamp_get_one\n",
        "_get_one",
        "1lamp_get_one",
        "lamp_getone",
        "",
    ],
)
def test_a_name_that_is_not_system_verb_noun_is_refused(name: str) -> None:
    with pytest.raises(IncompleteDeclaration):
        declared(name=name)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_agreed_verb_makes_a_name_with_or_without_a_noun(verb: str) -> None:
    assert declared(name=f"lamp_{verb}").system == "lamp"
    assert declared(name=f"lamp_{verb}_all_of_them").system == "lamp"


def test_a_tool_without_a_title_is_refused() -> None:
    with pytest.raises(IncompleteDeclaration):
        declared(title="")


def test_a_tool_without_a_docstring_is_refused() -> None:
    async def silent(args: Which, context: ToolContext[Any]) -> Answer:
        return Answer(headline="")

    with pytest.raises(IncompleteDeclaration):
        declared(silent)


def test_a_docstring_longer_than_clients_show_is_refused() -> None:
    async def chatty(args: Which, context: ToolContext[Any]) -> Answer:
        return Answer(headline="")

    chatty.__doc__ = "x" * DESCRIPTION_LIMIT
    assert declared(chatty)
    chatty.__doc__ = "x" * (DESCRIPTION_LIMIT + 1)
    with pytest.raises(IncompleteDeclaration):
        declared(chatty)


def test_an_argument_without_a_docstring_is_refused_by_name() -> None:
    async def vague(args: Undocumented, context: ToolContext[Any]) -> Answer:
        """Look."""
        return Answer(headline="")

    with pytest.raises(IncompleteDeclaration) as refused:
        declared(vague)
    assert "'lamp'" in str(refused.value)


def test_arguments_that_are_no_record_are_refused() -> None:
    async def loose(args: dict[str, Any], context: ToolContext[Any]) -> Answer:
        """Look."""
        return Answer(headline="")

    async def unnamed(wanted: Which, context: ToolContext[Any]) -> Answer:
        """Look."""
        return Answer(headline="")

    for run in (loose, unnamed):
        with pytest.raises(IncompleteDeclaration):
            declared(run)


def test_an_answer_that_is_no_answer_is_refused() -> None:
    async def text(args: Which, context: ToolContext[Any]) -> str:
        """Look."""
        return ""

    async def nothing(args: Which, context: ToolContext[Any]):  # type: ignore[no-untyped-def]  # the point
        """Look."""

    for run in (text, nothing):
        with pytest.raises(IncompleteDeclaration):
            declared(run)


@pytest.mark.parametrize("risk", [Risk.CHANGE, Risk.DESTROY])
def test_a_change_without_a_plan_is_refused(risk: Risk) -> None:
    with pytest.raises(IncompleteDeclaration):
        declared(risk=risk)
    assert declared(risk=risk, plan=plan, name="lamp_restart_one").plan is plan


def test_a_read_with_a_plan_is_refused() -> None:
    with pytest.raises(IncompleteDeclaration):
        declared(plan=plan)


def test_all_four_hints_are_explicit_and_no_change_reads_as_harmless() -> None:
    for risk in Risk:
        hints = risk.hints()
        assert set(hints) == {
            "readOnlyHint",
            "destructiveHint",
            "idempotentHint",
            "openWorldHint",
        }
        assert hints["readOnlyHint"] is (risk is Risk.READ)
        assert hints["destructiveHint"] is not hints["readOnlyHint"]
    assert get_lamp.hints == Risk.READ.hints() and restart_lamp.hints == Risk.CHANGE.hints()


def test_a_permission_reads_as_the_api_names_it() -> None:
    assert str(Rbac("get", "pods/log")) == "get pods/log"
    assert str(Rbac("patch", "deployments", "apps")) == "patch deployments.apps"


def test_a_tool_without_a_plan_cannot_ask_for_the_approved_one() -> None:
    context: ToolContext[None] = ToolContext(
        client=None,
        services=None,  # type: ignore[arg-type]  # not looked at
        clock=SystemClock(),
        caller=Caller("ann", "test"),
        call_id="call-1",
    )
    with pytest.raises(InternalError):
        _ = context.plan


async def test_progress_to_nobody_is_no_error() -> None:
    await no_progress(1, 2, "half")


def test_a_caller_is_shown_with_channel_and_client() -> None:
    assert str(Caller("ann", "stdio")) == "ann (stdio)"
    assert str(Caller("ann", "http", "claude 2")) == "ann (http, claude 2)"
