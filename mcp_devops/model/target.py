"""What an incident is about: a workload in a cluster."""

from __future__ import annotations

from enum import StrEnum

from mcp_devops.model.record import Record


class WorkloadKind(StrEnum):
    """The workload kinds that Kubernetes can roll back by itself."""

    DEPLOYMENT = "Deployment"
    STATEFUL_SET = "StatefulSet"
    DAEMON_SET = "DaemonSet"

    @property
    def resource(self) -> str:
        """The plural that the API and RBAC use."""
        return f"{self.value.lower()}s"


class Workload(Record):
    """A workload, by where it lives and what it is called."""

    cluster: str = ""
    """Kubeconfig context it was reached through; empty: the current one, or in-cluster."""
    namespace: str
    """Namespace it lives in."""
    kind: WorkloadKind = WorkloadKind.DEPLOYMENT
    """Deployment, StatefulSet or DaemonSet."""
    name: str
    """Its name."""

    def __str__(self) -> str:
        return f"{self.kind.value} {self.namespace}/{self.name}"
