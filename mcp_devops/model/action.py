"""A change that is about to be made, pinned to exactly what was judged."""

from __future__ import annotations

from pydantic import Field

from mcp_devops.model.change import TemplateDifference
from mcp_devops.model.record import Record, digest
from mcp_devops.model.target import Workload


class ActionPlan(Record):
    """What a change tool will do. Its digest is what a person approves."""

    tool: str
    """Name of the tool that will do it."""
    target: Workload
    """The object."""
    uid: str
    """Uid of the object as planned; another uid is another object."""
    from_revision: int | None = None
    """Revision that is live."""
    from_template_hash: str | None = None
    """Template that is live."""
    to_revision: int | None = None
    """Revision to return to."""
    to_template_hash: str | None = None
    """Template to return to."""
    parameters: dict[str, str] = Field(default_factory=dict)
    """Anything else that decides the outcome."""
    verdict_id: str | None = None
    """The verdict it follows from."""
    incident_id: str | None = None
    """The incident it belongs to."""
    summary: str
    """What will happen, for the person who approves."""
    reason: str = ""
    """Why, for the person who approves."""
    differences: tuple[TemplateDifference, ...] = ()
    """What the change does to the template."""
    warnings: tuple[str, ...] = ()
    """What a person should know first: GitOps will re-apply, the old revision is unproven, ..."""
    confidence: float | None = None
    """The verdict's confidence."""
    evidence_complete: bool = False
    """Whether the verdict missed no needed source."""
    automatic_allowed: bool = False
    """Whether the verdict says that its rules for acting without a person hold."""

    @property
    def digest(self) -> str:
        """SHA-256 over what decides the outcome; wording and confidence are left out."""
        return digest(
            self.model_dump(
                mode="json",
                include={
                    "tool", "target", "uid", "from_revision", "from_template_hash",
                    "to_revision", "to_template_hash", "parameters", "verdict_id", "incident_id",
                },
            )
        )  # fmt: skip
