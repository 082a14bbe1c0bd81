"""Drift as evidence of an incident: which root belongs to a service, and what its drift means."""

from __future__ import annotations

import re

from mcp_devops.errors import NotConfigured
from mcp_devops.integrations.terraform.client import TerraformClient
from mcp_devops.integrations.terraform.plan_drift import DriftReport, PlanDrift, find_drift
from mcp_devops.model.surroundings import Drift


async def drift_around(client: TerraformClient, service: str) -> list[Drift]:
    """The drift of the root that holds a service, the heaviest first.

    A report younger than `reuse_s` is used again: a person who looks every half minute must not
    make a cloud's interface refuse the others.

    Raises:
        NotConfigured: There are several roots, and none is named for the service.
        DevOpsError: As find_drift.
    """
    settings = client.settings
    directory = settings.services.get(service) or settings.services.get("*")
    if directory is None and len(settings.roots) > 1:
        raise NotConfigured(
            f"No Terraform root is named for service {service!r}.",
            fix="Set MCP_DEVOPS_TERRAFORM__SERVICES to SERVICE=DIRECTORY pairs; * means any other.",
            source="terraform",
        )
    now = client.clock.now()
    kept = client.reports.get(directory)
    if isinstance(kept, DriftReport) and (now - kept.at).total_seconds() < settings.reuse_s:
        report = kept
    else:
        report = await find_drift(client, PlanDrift(directory=directory))
        client.reports[directory] = report
    return drift_evidence(report, service)


def drift_evidence(answer: DriftReport, service: str = "") -> list[Drift]:
    """The listed resources of an answer as evidence, the heaviest first.

    Nothing drifted: no records. That is not evidence of health beyond what the state covers.
    """
    found = []
    for resource in answer.drifted:
        first = resource.changes[0] if resource.changes else None
        detail = f"; {first.path}: {first.before} -> {first.after}" if first else ""
        texts = [resource.address]
        texts += [f"{c.before} {c.after}" for c in resource.changes]
        found.append(
            Drift(
                at=answer.at,
                address=resource.address,
                area=resource.area,
                weight=resource.weight,
                what=f"{resource.action}: {resource.reason}{detail}",
                where=resource.declared_at,
                names_service=_names(texts, service),
            )
        )
    return sorted(found, key=lambda e: (not e.names_service, -e.weight, e.address))


def _names(texts: list[str], service: str) -> bool:
    """Whether a text holds the service's name as a word of its own; - and _ are one."""
    if not service:
        return False
    word = re.sub(r"[-_]", "[-_]", re.escape(service).replace(r"\-", "-"))
    pattern = re.compile(rf"(?<![A-Za-z0-9]){word}(?![A-Za-z0-9])")
    return any(pattern.search(text) for text in texts)
