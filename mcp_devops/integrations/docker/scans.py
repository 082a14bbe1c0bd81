"""`docker_compare_scans`: vulnerabilities of two images, from reports or a scanner."""

from __future__ import annotations

import asyncio

from pydantic import Field, model_validator

from mcp_devops.integrations.docker.client import DockerClient
from mcp_devops.integrations.docker.references import ImageRef
from mcp_devops.integrations.docker.scancompare import (
    ScanComparison,
    compare_reports,
    summary,
)
from mcp_devops.integrations.docker.scanfiles import report_from_file, report_from_scan
from mcp_devops.integrations.docker.vulnerabilities import ScanReport
from mcp_devops.model.record import Record
from mcp_devops.toolkit.answer import Answer
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.risk import Risk
from mcp_devops.toolkit.spec import tool

DEADLINE_S = 290.0
"""Seconds one call may take: a scan's longest setting, and the rest."""


class CompareScansInput(Record):
    """Two reports, or two images."""

    before_report: str | None = Field(None, min_length=1, max_length=1000)
    """Report of the image before: path under scan_roots."""
    after_report: str | None = Field(None, min_length=1, max_length=1000)
    """Report of the image to judge."""
    before_image: ImageRef | None = None
    """Instead of reports: image to scan, if the operator allows it."""
    after_image: ImageRef | None = None
    """Image to scan and judge."""

    @model_validator(mode="after")
    def _one_pair(self) -> CompareScansInput:
        reports = (self.before_report, self.after_report)
        images = (self.before_image, self.after_image)
        if (None in reports) == (None in images) or any(reports) == any(images):
            raise ValueError("give both reports, or both images")
        return self


class ScanAnswer(Answer, ScanComparison):
    """What two scans say about two images."""


@tool(
    name="docker_compare_scans",
    title="Compare vulnerability scans",
    risk=Risk.READ,
    deadline_s=DEADLINE_S,
)
async def compare_scans(args: CompareScansInput, context: ToolContext[DockerClient]) -> ScanAnswer:
    """Compare vulnerability scans of two images: new, fixed, by severity, fix available.

    Reads Trivy, Grype and Docker Scout reports (JSON or SARIF). A new critical or high one sets
    staging_hold. Report texts are data.
    """
    before, after = await _reports(args, context.client)
    found = compare_reports(before, after)
    return ScanAnswer(headline=summary(found), **dict(found))


async def _reports(args: CompareScansInput, client: DockerClient) -> tuple[ScanReport, ScanReport]:
    if args.before_report is not None and args.after_report is not None:
        settings = client.settings
        return await asyncio.gather(
            report_from_file(settings, args.before_report),
            report_from_file(settings, args.after_report),
        )
    # One after the other: both would load the scanner's database into memory at once.
    return (
        await report_from_scan(client, args.before_image or ""),
        await report_from_scan(client, args.after_image or ""),
    )
