"""How Prometheus, or anything that speaks its query API, is reached and asked."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from mcp_devops.settings import Names
from mcp_devops.toolkit.comparing import WindowSettings


class PrometheusSettings(WindowSettings):
    """The `[prometheus]` table; variables start with MCP_DEVOPS_PROMETHEUS__."""

    table = "prometheus"

    url: str | None = Field(None, pattern=r"^https?://")
    """Base address, such as http://prometheus.monitoring:9090; unset: the integration is off."""
    bearer_token: SecretStr | None = None
    """Token for the Authorization header."""
    username: str | None = None
    """User for basic authentication."""
    password: SecretStr | None = None
    """Password for basic authentication."""
    org_id: str | None = None
    """Tenant, sent as X-Scope-OrgID (Mimir, Cortex, Thanos)."""
    ca_file: Path | None = None
    """CA bundle, where the system's does not hold the issuer."""
    timeout_s: float = Field(10, gt=0, le=120)
    """Seconds one query may take."""
    step_s: float = Field(60, ge=5, le=3600)
    """Bucket length; raised to four scrape intervals where that is longer."""
    service_labels: Names = (
        "service", "app", "job", "deployment", "workload", "service_name", "exported_job",
        "destination_workload", "app_kubernetes_io_name", "application",
    )  # fmt: skip
    """Labels that may name the service, in order of preference."""
    namespace_labels: Names = ("namespace", "kubernetes_namespace", "exported_namespace")
    """Labels that may name the namespace."""
    pod_labels: Names = ("pod", "kubernetes_pod_name", "pod_name", "exported_pod", "instance")
    """Labels that may name the pod, in order of preference."""
    requests_query: str | None = Field(None, max_length=2000)
    """Own query of requests per bucket; $service, $namespace, $pods, $range are filled in."""
    errors_query: str | None = Field(None, max_length=2000)
    """Own query of failed requests per bucket; same variables."""
    p99_query: str | None = Field(None, max_length=2000)
    """Own query of the 99th percentile in seconds; same variables."""
