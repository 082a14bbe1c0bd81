"""Drift as evidence of an incident: weighed records with a time. Pure."""

from __future__ import annotations

from mcp_devops.integrations.terraform.plan_drift import DriftReport
from mcp_devops.integrations.terraform.weighing import Area
from mcp_devops.model.record import Moment, Record


class DriftEvidence(Record):
    """One drifted resource as a possible cause."""

    at: Moment
    """When the drift was seen; it may be older."""
    address: str
    """The resource."""
    area: Area
    """What part of a service it touches."""
    weight: float
    """0 to 1: how much it can hurt; a seed, not a probability."""
    what: str
    """What differs and why that matters, in one line, secrets masked."""
    where: str | None = None
    """file:line of its declaration."""


def drift_evidence(answer: DriftReport) -> list[DriftEvidence]:
    """The listed resources of an answer as evidence, the heaviest first.

    Nothing drifted: no records. That is not evidence of health beyond what the state covers.
    """
    found = []
    for resource in answer.drifted:
        first = resource.changes[0] if resource.changes else None
        detail = f"; {first.path}: {first.before} -> {first.after}" if first else ""
        found.append(
            DriftEvidence(
                at=answer.at,
                address=resource.address,
                area=resource.area,
                weight=resource.weight,
                what=f"{resource.action}: {resource.reason}{detail}",
                where=resource.declared_at,
            )
        )
    return sorted(found, key=lambda e: (-e.weight, e.address))
