"""The tool that says where the real world is not what the Terraform state says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import anyio.to_thread
from pydantic import Field

from mcp_devops.errors import NoData
from mcp_devops.integrations.terraform.client import (
    Planned,
    TerraformClient,
    selected_workspace,
)
from mcp_devops.integrations.terraform.places import MAX_VAR_FILES, checked_workspace
from mcp_devops.integrations.terraform.plan import (
    Drift,
    changed_outputs,
    drifted_addresses,
    drifts,
    has_state,
    known_values,
)
from mcp_devops.integrations.terraform.safety import PROTECTION
from mcp_devops.integrations.terraform.sources import have_hcl2, positions
from mcp_devops.integrations.terraform.values import AttributeChange
from mcp_devops.integrations.terraform.weighing import weigh
from mcp_devops.model.record import Moment, Record
from mcp_devops.model.surroundings import DriftArea
from mcp_devops.text.clean import clean
from mcp_devops.text.people import plural
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.answer import Answer, ResponseFormat
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.risk import Risk
from mcp_devops.toolkit.spec import tool

CONCISE = (20, 5)
DETAILED = (60, 20)
"""Resources, and attributes of each, that an answer holds. Concise stays below the soft budget of
10,000 tokens; of the detailed one the door cuts what is too long."""
MOST_OUTPUTS = 50
Places = Mapping[tuple[str, str, str], str]


class PlanDrift(Record):
    """Where to look for drift."""

    directory: str | None = Field(None, max_length=4096)
    """Root module, relative to a configured root; default: the only root."""
    workspace: str | None = None
    """Workspace; default: the directory's own."""
    var_files: tuple[str, ...] = Field((), max_length=MAX_VAR_FILES)
    """Variable files, relative to the directory."""
    lock: bool = False
    """Take the state lock, which blocks an apply meanwhile."""
    response_format: ResponseFormat = ResponseFormat.CONCISE
    """detailed shows more resources and attributes."""


class DriftedResource(Record):
    """One resource that is not what the state says."""

    address: str
    """As module.cache.aws_instance.web["a"]."""
    action: str
    """update: it differs; delete: it is gone."""
    area: DriftArea
    """What part of a service it touches."""
    weight: float
    """0 to 1: how much it can hurt."""
    reason: str
    """Why, in one line."""
    declared_at: str | None = None
    """file:line relative to the directory; null: not found."""
    changes: tuple[AttributeChange, ...] = ()
    """What differs, secrets masked."""
    more_changes: int = 0
    """Attributes that differ and are not listed."""


class DriftReport(Answer):
    """What drifted, the most harmful first."""

    directory: str
    """Where it ran."""
    workspace: str
    """Which workspace."""
    at: Moment
    """When the real world was read."""
    version: str
    """Program and version."""
    drifted: tuple[DriftedResource, ...] = ()
    """Resources by weight."""
    total: int = 0
    """Drifted resources, listed or not."""
    areas: dict[str, int] = Field(default_factory=dict)
    """Drifted resources by area."""
    changed_outputs: tuple[str, ...] = ()
    """Outputs whose value would change."""
    notes: tuple[str, ...] = ()
    """Limits of this answer."""


@tool(
    name="terraform_plan_drift",
    title="Infrastructure drift",
    risk=Risk.READ,
    deadline_s=600,
)
async def plan_drift(args: PlanDrift, context: ToolContext[TerraformClient]) -> DriftReport:
    """Compare Terraform or OpenTofu state with the real world, by a refresh-only plan.

    For when something may have been changed by hand: drifted resources are possible causes,
    weighed by how they can hurt a service, with values before and after and the file and line.
    Writes no state; never applies, initialises or breaks a lock; takes no lock unless asked.
    Runs the directory's installed providers, only allowed ones, with allowed variables; their
    code is not confined. terraform_show_state lists what exists without running them.
    """
    return await find_drift(context.client, args)


async def find_drift(client: TerraformClient, args: PlanDrift) -> DriftReport:
    """Run the plan and weigh what drifted.

    Raises:
        NoData: There was no state to compare.
        DevOpsError: As TerraformClient.plan.
    """
    workspace = checked_workspace(args.workspace)
    directory = client.directory(args.directory)
    planned = await client.plan(directory, workspace, args.var_files, args.lock)
    redactor, found = await anyio.to_thread.run_sync(_read, planned.plan)
    places: Places | None = None
    if have_hcl2():
        wanted = {(d.module, d.kind, d.name) for d in found}
        places = await anyio.to_thread.run_sync(positions, directory, wanted)
    return DriftReport(
        directory=str(directory),
        workspace=workspace or clean(selected_workspace(directory) or "default"),
        at=client.clock.now(),
        version=f"{planned.program} {clean(planned.version)}",
        **judged(planned, found, places, redactor, directory.name, args.response_format),
    )


def _read(plan: Mapping[str, Any]) -> tuple[Redactor, list[Drift]]:
    redactor = Redactor(known_values(plan))
    return redactor, drifts(plan, redactor)


def judged(
    planned: Planned,
    found: Sequence[Drift],
    places: Places | None,
    redactor: Redactor,
    name: str,
    response_format: ResponseFormat,
) -> dict[str, Any]:
    """The part of the report that follows from what was found.

    Args:
        planned: The run.
        found: What drifted in it.
        places: Declarations by (module, type, name); None: they cannot be looked for.
        redactor: Knows the sensitive values.
        name: What to call the directory.
        response_format: How much to list.

    Raises:
        NoData: There was no state to compare.
    """
    if not has_state(planned.plan):
        raise NoData(
            "The state is missing or empty: there is nothing to compare.",
            fix="Check directory and workspace; terraform_show_state tells what is there.",
            source="terraform",
        )
    shown, attributes = DETAILED if response_format is ResponseFormat.DETAILED else CONCISE
    ranked = sorted((_weighed(d, places or {}, attributes) for d in found), key=_order)
    notes = [PROTECTION]
    if planned.plan.get("complete") is False:
        notes.append("The plan is not complete: resources may be missing from it.")
    told = len(drifted_addresses(planned.events))
    if told != len(ranked):
        notes.append(f"The event lines name {told} drifted resources, the plan {len(ranked)}.")
    if ranked and places is None:
        notes.append("No file and line: the extra mcp-devops[terraform] is not installed.")
    if len(ranked) > shown:
        notes.append(f"{len(ranked) - shown} lighter resources are not listed.")
    return {
        "headline": _headline(ranked, name),
        "drifted": tuple(ranked[:shown]),
        "total": len(ranked),
        "areas": dict(Counter(str(r.area) for r in ranked)),
        "changed_outputs": tuple(
            clean(n, redactor) for n in changed_outputs(planned.plan)[:MOST_OUTPUTS]
        ),
        "notes": tuple(notes),
    }


def _weighed(drift: Drift, places: Places, limit: int) -> DriftedResource:
    place = places.get((drift.module, drift.kind, drift.name))
    weight = weigh(drift.kind, drift.action, [c.path for c in drift.changes])
    return DriftedResource(
        address=drift.address,
        action=drift.action,
        area=weight.area,
        weight=weight.weight,
        reason=weight.reason,
        declared_at=None if place is None else clean(place),
        changes=drift.changes[:limit],
        more_changes=max(len(drift.changes) - limit, 0),
    )


def _order(resource: DriftedResource) -> tuple[float, str]:
    return -resource.weight, resource.address


def _headline(ranked: Sequence[DriftedResource], name: str) -> str:
    if not ranked:
        return f"No drift in {name}: the real world is what the state says."
    worst = ranked[0]
    gone = "is gone" if worst.action == "delete" else f"differs ({worst.area})"
    return f"{plural(len(ranked), 'resource')} drifted in {name}; {worst.address} {gone}."
