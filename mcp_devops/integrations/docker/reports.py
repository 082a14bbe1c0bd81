"""Scan reports read: Trivy JSON, Grype JSON, Docker Scout's GitLab JSON, SARIF of all three. Pure.

Shapes are those of the published schemas. What is not one of them, or holds no run, is refused: a
broken file must never read as an image without vulnerabilities.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mcp_devops.integrations.docker.sarif import read_sarif
from mcp_devops.integrations.docker.vulnerabilities import (
    ScanReport,
    Vulnerability,
    broken,
    collected,
    package_key,
    severity_of,
)

Json = Mapping[str, Any]


def read_report(text: str | bytes, name: str = "report") -> ScanReport:
    """Read one report, whichever of the formats it is.

    Args:
        text: The file.
        name: Which one it is, for messages.

    Raises:
        InvalidArguments: It is none of the formats, or broken. That never means clean.
    """
    try:
        data = json.loads(text)
        if isinstance(data, dict):
            if isinstance(data.get("runs"), list):
                return read_sarif(data, name)
            if isinstance(data.get("matches"), list):
                return _grype(data)
            if "SchemaVersion" in data and ("ArtifactName" in data or "Results" in data):
                return _trivy(data)
            if isinstance(data.get("vulnerabilities"), list) and "scan" in data:
                return _gitlab(data)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as wrong:
        raise broken(name, f"cannot be read ({type(wrong).__name__})") from wrong
    raise broken(name, "is no Trivy, Grype, Docker Scout (GitLab) or SARIF report")


def _trivy(data: Json) -> ScanReport:
    meta = data.get("Metadata") or {}

    def found() -> Iterator[Vulnerability]:
        for result in data.get("Results") or ():
            for v in result.get("Vulnerabilities") or ():
                purl = str((v.get("PkgIdentifier") or {}).get("PURL") or "")
                name = str(v.get("PkgName") or "")
                yield Vulnerability(
                    id=str(v["VulnerabilityID"]),
                    package=name,
                    key=package_key(purl, str(result.get("Type") or ""), name),
                    severity=severity_of(v.get("Severity")),
                    installed=str(v.get("InstalledVersion") or ""),
                    fixed_in=str(v.get("FixedVersion") or ""),
                )

    return ScanReport(
        scanner="trivy",
        format="trivy",
        image=str(data.get("ArtifactName") or ""),
        image_id=str(meta.get("ImageID") or ""),
        found=collected(found()),
    )


def _grype(data: Json) -> ScanReport:
    source = data.get("source") or {}
    target = source.get("target")
    target = target if isinstance(target, dict) else {"userInput": target}
    database = (data.get("descriptor") or {}).get("db") or {}
    inner = database.get("status")
    status = inner if isinstance(inner, dict) else database

    def found() -> Iterator[Vulnerability]:
        for match in data["matches"]:
            told, artifact = match["vulnerability"], match["artifact"]
            related = [str(r.get("id")) for r in match.get("relatedVulnerabilities") or ()]
            own = str(told["id"])
            cve = own if own.startswith("CVE-") else next(
                (r for r in related if r.startswith("CVE-")), own
            )  # fmt: skip
            fix = told.get("fix") or {}
            versions = fix.get("versions") or () if fix.get("state", "fixed") == "fixed" else ()
            name = str(artifact.get("name") or "")
            yield Vulnerability(
                id=cve,
                package=name,
                key=package_key(
                    str(artifact.get("purl") or ""), str(artifact.get("type") or ""), name
                ),
                severity=severity_of(told.get("severity")),
                installed=str(artifact.get("version") or ""),
                fixed_in=", ".join(map(str, versions)),
                exploited=bool(told.get("knownExploited")),
            )

    return ScanReport(
        scanner="grype",
        format="grype",
        image=str(target.get("userInput") or ""),
        image_id=str(target.get("imageID") or ""),
        database=str(status.get("built") or ""),
        found=collected(found()),
    )


def _gitlab(data: Json) -> ScanReport:
    """The container scanning report of GitLab's schema, which `docker scout` writes."""
    scanner = (data["scan"].get("scanner") or {}).get("name") or "docker scout"
    image = ""
    for v in data["vulnerabilities"]:
        image = image or str((v.get("location") or {}).get("image") or "")

    def found() -> Iterator[Vulnerability]:
        for v in data["vulnerabilities"]:
            dependency = (v.get("location") or {}).get("dependency") or {}
            name = str((dependency.get("package") or {}).get("name") or "")
            names = [str(i.get("name") or i.get("value")) for i in v.get("identifiers") or ()]
            cve = next((n for n in names if n.startswith("CVE-")), None)
            solution = str(v.get("solution") or "")
            fixed = re.search(r"\bto\s+(?:version\s+)?v?(\d[\w.+~:-]*[\w])", solution)
            yield Vulnerability(
                id=cve or (names[0] if names else str(v["id"])),
                package=name,
                key=name,
                severity=severity_of(v.get("severity")),
                installed=str(dependency.get("version") or ""),
                fixed_in=fixed[1] if fixed else "",
            )

    return ScanReport(str(scanner).lower(), "gitlab", image, found=collected(found()))
