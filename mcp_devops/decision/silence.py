"""A revision that gets no request: evidence if the other one does, trouble elsewhere if not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mcp_devops.decision import statistics as st
from mcp_devops.decision.comparison import is_count
from mcp_devops.decision.policy import Policy
from mcp_devops.model.evidence import Bucket, DiagnosticContext

if TYPE_CHECKING:
    from mcp_devops.decision.facts import Arms


class Quiet(StrEnum):
    """Who is silent."""

    NEW = "new"
    """The new revision, while the old one serves."""
    BOTH = "both"
    """Both revisions, or the whole service that had traffic before."""


@dataclass(frozen=True)
class Silence:
    """One source's and service's silence."""

    who: Quiet
    lasted_s: float
    """Seconds without a request."""
    says: str
    """The numbers for a person."""


def hear(arms: Arms, context: DiagnosticContext, policy: Policy) -> Silence | None:
    """Look for silence in one source's series.

    A source that failed, or gave only nulls, is not silent: nothing is known.
    """
    where = f"({arms.source}, {arms.service})"
    control, control_known = _requests(arms.control)
    if arms.new_asked and control_known:
        new, new_known = _requests(arms.new)
        if new > 0 or (arms.new and not new_known):
            return None
        lasted = control_known * arms.step_s
        if lasted < policy.silence.least_s:
            return None
        if control <= 0:
            return Silence(Quiet.BOTH, lasted, f"Neither revision got a request {where}")
        due = control * _share(context)
        if due < policy.silence.expected:
            return None
        return Silence(
            Quiet.NEW,
            lasted,
            f"The new revision got no request in {lasted:.0f} s while the old one got "
            f"{control:.0f}; about {due:.0f} were due, chance {st.p_none(due):.1g} {where}",
        )
    before, before_known = _requests(arms.baseline)
    after, after_known = _requests(arms.after)
    lasted = after_known * arms.step_s
    due = before / before_known * after_known if before_known else 0.0
    if after <= 0 and due >= policy.silence.expected and lasted >= policy.silence.least_s:
        return Silence(
            Quiet.BOTH, lasted, f"The whole service got no request, {due:.0f} were due {where}"
        )
    return None


def _requests(buckets: tuple[Bucket, ...]) -> tuple[float, int]:
    known = [b.requests for b in buckets if is_count(b.requests)]
    return math.fsum(known), len(known)


def _share(context: DiagnosticContext) -> float:
    """Ready endpoints of the new revision for each one of the old; 1 where pods are unknown.

    A new revision without a ready endpoint is due no request: the pods tell that story.
    """
    rollout = context.rollout
    if rollout is None or rollout.old is None or rollout.old.ready <= 0:
        return 1.0
    return rollout.new.ready / rollout.old.ready
