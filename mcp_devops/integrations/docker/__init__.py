"""Docker and Podman: image history, container logs, image and scan comparisons. Read-only."""

from __future__ import annotations

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.docker.client import DockerClient
from mcp_devops.integrations.docker.history import image_history
from mcp_devops.integrations.docker.hosts import why_off
from mcp_devops.integrations.docker.images import compare_images
from mcp_devops.integrations.docker.logs import tail_logs
from mcp_devops.integrations.docker.scans import compare_scans
from mcp_devops.integrations.docker.settings import DockerSettings
from mcp_devops.toolkit.integration import Health, Integration


async def _ping(client: DockerClient) -> Health:
    try:
        version = await client.version()
    except DevOpsError as problem:
        return Health(False, problem.what, problem.fix)
    return Health(True, f"answers, {version.name} {version.engine}, API {version.api}")


INTEGRATION = Integration(
    name="docker",
    settings=DockerSettings,
    client=DockerClient,
    connect=DockerClient,
    close=DockerClient.close,
    tools=(image_history, tail_logs, compare_images, compare_scans),
    why_off=why_off,
    ping=_ping,
)
