"""How the container engine is reached, and what may be read beside it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from mcp_devops.settings import IntegrationSettings, Names


class DockerSettings(IntegrationSettings):
    """The `[docker]` table; variables start with MCP_DEVOPS_DOCKER__."""

    table = "docker"

    host: str | None = Field(None, pattern=r"^(unix|tcp|https?|ssh)://\S+$")
    """Engine: unix:///run/docker.sock, tcp://host:2376, ssh://user@host. Default: DOCKER_HOST,
    else the context in force, else /var/run/docker.sock if it exists."""
    context: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=128)
    """Docker context to take the host from; DOCKER_CONTEXT and the CLI's current one count too."""
    tls_ca: Path | None = None
    """CA that signed a TCP engine's certificate; default: ca.pem under DOCKER_CERT_PATH."""
    tls_cert: Path | None = None
    """Client certificate; default: cert.pem under DOCKER_CERT_PATH."""
    tls_key: Path | None = None
    """Key of the client certificate; default: key.pem under DOCKER_CERT_PATH."""
    request_timeout_s: float = Field(10, gt=0, le=120)
    """Seconds one request to the engine may take, its body included."""
    engine: bool = True
    """Whether an engine may be asked; false: scan reports only."""
    investigate: bool = True
    """Whether an investigation compares images and scan reports, next to the tools."""
    scan_roots: Names = ()
    """Directories that scan reports are read from. Empty: no file is read."""
    scanner: str | None = Field(None, pattern=r"^(trivy|grype|scout)$")
    """Scanner to run on images. Unset: the first of trivy, grype that is on the PATH."""
    allow_scanner: bool = False
    """Whether a scanner may be run; it reads whole images and may fetch its database."""
    scanner_timeout_s: float = Field(120, gt=0, le=280)
    """Seconds one scan may take."""
