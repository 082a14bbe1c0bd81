"""What surrounds a deployment: drifted infrastructure, its image, issues of its release."""

from __future__ import annotations

import asyncio

from mcp_devops.errors import NotFound
from mcp_devops.incidents.gaps import Gaps
from mcp_devops.integrations.docker.client import DockerClient
from mcp_devops.integrations.docker.evidence import image_difference, image_risk
from mcp_devops.integrations.terraform.client import TerraformClient
from mcp_devops.integrations.terraform.evidence import drift_around
from mcp_devops.model.change import Change
from mcp_devops.model.surroundings import Drift, ImageDifference, ImageRisk
from mcp_devops.toolkit.context import Services


async def drift(gaps: Gaps, services: Services, service: str) -> tuple[Drift, ...]:
    """Infrastructure that differs from its configuration."""
    terraform = await services.find(TerraformClient)
    if terraform is None or not terraform.settings.investigate or not terraform.settings.roots:
        return ()
    found = await gaps.attempt("terraform", "drift", drift_around(terraform, service))
    return tuple(found or ())


async def images(
    gaps: Gaps, services: Services, change: Change | None
) -> tuple[ImageRisk | None, ImageDifference | None]:
    """How the deployed image differs from the one before, and which vulnerabilities it brought."""
    docker = await services.find(DockerClient)
    pair = image_pair(change)
    if docker is None or pair is None or not docker.settings.investigate:
        return None, None

    async def difference() -> ImageDifference | None:
        try:
            return await image_difference(docker, *pair)
        except NotFound:
            # The cluster's nodes pull into engines of their own; this one need not have it.
            return None

    async def risk() -> ImageRisk | None:
        if not docker.settings.scan_roots:
            return None
        return await gaps.attempt("docker", "scan reports", image_risk(docker, *pair))

    async def compared() -> ImageDifference | None:
        if not docker.has_engine:
            return None
        return await gaps.attempt("docker", "image difference", difference())

    found = await asyncio.gather(risk(), compared())
    return found[0], found[1]


def image_pair(change: Change | None) -> tuple[str, str] | None:
    """The first image that the rollout replaced: before, after."""
    if change is None or change.previous is None:
        return None
    pairs = zip(change.previous.images, change.revision.images, strict=False)
    return next(((old, new) for old, new in pairs if old != new), None)
