"""Names that Kubernetes allows, as types: whatever fits them is harmless in a URL and a command."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mcp_devops.integrations.kubernetes.kubeconfig import IN_CLUSTER
from mcp_devops.model.record import Record
from mcp_devops.model.target import Workload, WorkloadKind

LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"

Namespace = Annotated[str, Field(pattern=f"^{LABEL}$", max_length=63)]
"""A namespace: a DNS-1123 label."""
ObjectName = Annotated[str, Field(pattern=f"^{SUBDOMAIN}$", max_length=253)]
"""The name of a workload or pod: a DNS-1123 subdomain."""
ContainerName = Annotated[str, Field(pattern=f"^{LABEL}$", max_length=63)]
"""The name of a container: a DNS-1123 label."""
Selector = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./,=!() -]*$", min_length=1, max_length=512)
]
"""A label selector as kubectl takes it: app=checkout,tier!=db."""
ContextName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", min_length=1, max_length=253)]
"""A kubeconfig context; cloud tools put slashes, colons and @ into it. Never part of a URL."""
NameFilter = Annotated[str, Field(pattern=r"^[a-z0-9.-]+$", max_length=253)]
"""Part of a name."""


class Place(Record):
    """Where a tool looks: what all Kubernetes tools take."""

    namespace: Namespace | None = None
    """Default: the context's."""
    context: ContextName | None = None
    """Kubeconfig context. Default: the current one."""


class WorkloadPlace(Place):
    """A workload and where it lives."""

    workload: ObjectName
    """Its name."""
    kind: WorkloadKind = WorkloadKind.DEPLOYMENT
    """Its kind."""


def workload_at(context: str, namespace: str, kind: WorkloadKind, name: str) -> Workload:
    """The workload as the other rooms name it; a pod's own cluster has no context name."""
    cluster = "" if context == IN_CLUSTER else context
    return Workload(cluster=cluster, namespace=namespace, kind=kind, name=name)
