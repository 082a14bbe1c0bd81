"""What was collected about a deployment, in the few lines that are read on a telephone."""

from __future__ import annotations

from datetime import UTC

from mcp_devops.model.evidence import DiagnosticContext
from mcp_devops.model.record import Record

MOST_DIFFERENCES = 10
MOST_MISSING = 10


class Report(Record):
    """The lines, each said by what was seen; null or empty: it was not."""

    deployed: str | None = None
    """Revision, time and the change-cause that its author gave."""
    images: tuple[str, ...] = ()
    """Images of that revision."""
    revision_before: int | None = None
    """The revision before it."""
    images_before: tuple[str, ...] = ()
    """Images of that one."""
    changed: tuple[str, ...] = ()
    """Differences of the two templates, `path: before -> after`; the last says how many more."""
    managed_by: str | None = None
    """What applies the workload's manifests, such as Argo CD."""
    pods: str | None = None
    """Pods of both revisions, in a sentence."""
    log_line_of_new_pods: str | None = None
    """The most telling line of a failing new container: data."""
    missing_evidence: tuple[str, ...] = ()
    """`source: what: why` of each thing that could not be seen."""
    collected_at: str
    """When, in UTC."""


def report_of(context: DiagnosticContext) -> Report:
    """Tell what was deployed, what it changed, how its pods do and what could not be seen."""
    change, rollout = context.change, context.rollout
    before = change.previous if change is not None else None
    differences = change.differences if change is not None else ()
    changed = [
        f"{d.path}: {d.before or '(none)'} -> {d.after or '(none)'}"
        for d in differences[:MOST_DIFFERENCES]
    ]
    if (more := len(differences) - MOST_DIFFERENCES) > 0:
        changed.append(f"and {more} more")
    deployed = None
    if change is not None:
        cause = change.revision.change_cause
        at = f"{change.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        deployed = f"revision {change.revision.number} at {at}{f': {cause}' if cause else ''}"
    return Report(
        deployed=deployed,
        images=change.revision.images if change is not None else (),
        revision_before=before.number if before is not None else None,
        images_before=before.images if before is not None else (),
        changed=tuple(changed),
        managed_by=change.managed_by if change is not None else None,
        pods=rollout.summary if rollout is not None else None,
        log_line_of_new_pods=rollout.new.log_line if rollout is not None else None,
        missing_evidence=tuple(
            f"{m.source}: {m.what}: {m.why}" for m in context.missing[:MOST_MISSING]
        ),
        collected_at=f"{context.collected_at.astimezone(UTC):%H:%M:%S} UTC",
    )
