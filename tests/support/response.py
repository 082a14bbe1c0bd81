"""Verdicts, policies and past acts for tests of the unattended response."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from mcp_devops.decision.policy import Policy
from mcp_devops.model.target import Workload
from mcp_devops.model.verdict import Action, Cause, Finding, Verdict, Veto
from mcp_devops.response_policy.limits import PastAct
from mcp_devops.response_policy.parsing import Rejected, parse_policy
from mcp_devops.response_policy.policy import ResponsePolicy

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
"""A Wednesday noon."""

CART = Workload(namespace="shop", name="cart")
SEARCH = Workload(namespace="shop", name="search")

ALONE = """version: 1
defaults: {automatic: verdict}
"""
"""The shortest policy that lets the server act alone."""


def verdict(action: Action = Action.ROLL_BACK, **more: Any) -> Verdict:
    """A verdict as sure as one can be; `more` makes it less so."""
    fields: dict[str, Any] = {
        "id": "f" * 64,
        "target": CART,
        "decided_at": NOW,
        "revision": 8,
        "action": action,
        "cause": Cause.NEW_CODE,
        "confidence": 0.97,
        "headline": "Errors rose from 0.1% to 12%.",
        "prior": 0.1,
        "findings": (),
        "causes": (),
        "runner_up": "",
        "ask_next": "",
        "evidence_complete": True,
        "automatic": action is Action.ROLL_BACK,
        "policy_version": Policy().version,
    }
    return Verdict.model_validate(fields | more)


def finding(weight: float) -> Finding:
    return Finding(rule="errors", group="errors", says="Errors rose.", weight=weight)


def veto(code: str) -> Veto:
    return Veto(code=code, says=f"Because of {code}.")


def policy(text: str = ALONE, base: Policy | None = None) -> ResponsePolicy:
    found = parse_policy(text.encode(), "policy.yaml", base)
    assert isinstance(found, ResponsePolicy), found
    return found


def problems(text: str | bytes, base: Policy | None = None) -> tuple[str, ...]:
    """What is wrong with a policy file, line by line."""
    content = text.encode() if isinstance(text, str) else text
    found = parse_policy(content, "policy.yaml", base)
    assert isinstance(found, Rejected), "it is valid"
    return found.problems


def act(minutes_ago: float, target: Workload = CART) -> PastAct:
    return PastAct(at=NOW - timedelta(minutes=minutes_ago), target=target)
