"""A deployment as a change: which revision replaced which, when, and what differs."""

from __future__ import annotations

from enum import StrEnum

from mcp_devops.model.record import Moment, Record
from mcp_devops.model.target import Workload


class ChangeArea(StrEnum):
    """Which part of a pod template a difference touches."""

    IMAGE = "image"
    ENVIRONMENT = "environment"
    ARGUMENTS = "arguments"
    RESOURCES = "resources"
    PROBES = "probes"
    VOLUMES = "volumes"
    CONTAINERS = "containers"
    SECURITY = "security"
    SCHEDULING = "scheduling"
    METADATA = "metadata"
    OTHER = "other"


class TemplateDifference(Record):
    """One field of the pod template that differs between two revisions."""

    area: ChangeArea
    """What kind of field it is."""
    path: str
    """Where, with containers and variables by name: containers[checkout].env[VERSION]."""
    before: str | None
    """Value in the older revision, secrets masked; null: absent."""
    after: str | None
    """Value in the newer revision, secrets masked; null: absent."""


class Revision(Record):
    """One revision of a workload, as its controller numbers them."""

    number: int
    """Revision number. After an undo the old template gets the highest number."""
    name: str
    """Name of the ReplicaSet or ControllerRevision that holds it."""
    template_hash: str
    """SHA-256 of the pod template: the revision's identity, whatever its number."""
    created_at: Moment
    """When the ReplicaSet or ControllerRevision was created."""
    images: tuple[str, ...] = ()
    """Images by container, in the template's order."""
    change_cause: str | None = None
    """The kubernetes.io/change-cause annotation, where somebody set it."""
    replicas: int = 0
    """Pods it owns now."""
    ready_replicas: int = 0
    """Pods of it that are ready now."""


class Change(Record):
    """The deployment under judgement."""

    workload: Workload
    """What was deployed."""
    uid: str
    """Uid of the workload object; a re-created object is another one."""
    started_at: Moment
    """When the new revision began to roll out."""
    revision: Revision
    """The revision that is live, and judged."""
    previous: Revision | None
    """The revision to go back to: the newest whose template is neither live nor known bad."""
    differences: tuple[TemplateDifference, ...] = ()
    """What the new revision changed against `previous`."""
    managed_by: str | None = None
    """A GitOps tool or HPA that may undo an undo, where one was recognised."""
