"""Settings of the Kubernetes integration: which kubeconfig, which context, how long to wait."""

from __future__ import annotations

from pydantic import Field

from mcp_devops.settings import IntegrationSettings, Names


class KubernetesSettings(IntegrationSettings):
    """How clusters are reached. Without any kubeconfig, a pod's own service account is used."""

    table = "kubernetes"

    kubeconfig: Names = ()
    """Kubeconfig files, merged in this order; default $KUBECONFIG, then ~/.kube/config."""
    context: str | None = None
    """Context for calls that name none; default the kubeconfig's current context at first use."""
    namespace: str | None = None
    """Namespace for calls that name none; default the context's, then "default"."""
    request_timeout_s: float = Field(10, gt=0, le=300)
    """Seconds one request may take, its body included."""
    connect_timeout_s: float = Field(4, gt=0, le=60)
    """Seconds to wait for a connection."""
    exec_timeout_s: float = Field(15, gt=0, le=300)
    """Seconds a credential plug-in may take; one that waits for a browser is stopped then."""
    load_timeout_s: float = Field(10, gt=0, le=60)
    """Seconds reading the kubeconfig may take; home directories live on networks."""
    max_connections: int = Field(24, ge=1, le=200)
    """Connections per context: a whole picture of a workload asks about ten things at once."""
    max_answer_mb: int = Field(64, ge=1, le=1024)
    """Megabytes of one answer before it is refused; a page of 500 large pods is about 10."""
