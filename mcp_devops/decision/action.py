"""The action with the least expected loss, and what has to hold besides."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_devops.decision.policy import Policy
from mcp_devops.decision.vetoes import NO_PREVIOUS, Stop
from mcp_devops.model.verdict import Action, Cause

_TIE = 1e-9
"""Difference of losses that is no difference: p = .8 is a rollback, not a rounding error."""


def losses(probability: float, policy: Policy) -> dict[Action, float]:
    """Expected loss of rolling back, holding and doing nothing."""
    loss, innocent = policy.loss, 1 - probability
    return {
        Action.ROLL_BACK: loss.rollback_wrong * innocent,
        Action.HOLD: loss.hold_guilty * probability + loss.hold_innocent * innocent,
        Action.NONE: loss.nothing_guilty * probability,
    }


def choose(
    probability: float, cause: Cause, stops: Sequence[Stop], policy: Policy, *, quiet: bool
) -> Action:
    """Take the cheapest action that its conditions allow; holding is always allowed.

    Args:
        probability: That the deployment did it, after caps.
        cause: The most probable cause; only code and its configuration are cured by an undo.
        stops: The vetoes.
        policy: Losses.
        quiet: Whether enough was seen and nothing is wrong: without it, no all-clear.
    """
    expected = losses(probability, policy)
    blocking = {s.veto.code for s in stops if s.blocks}
    if expected[Action.ROLL_BACK] <= min(expected.values()) + _TIE:
        if cause is not Cause.NEW_CODE or blocking - {NO_PREVIOUS}:
            return Action.HOLD
        return Action.FIX_FORWARD if blocking else Action.ROLL_BACK
    if expected[Action.NONE] < expected[Action.HOLD] - _TIE and quiet and not blocking:
        return Action.NONE
    return Action.HOLD
