"""What scan reports are read into: vulnerabilities, their severity and their package. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from mcp_devops.errors import InvalidArguments
from mcp_devops.integrations.docker.hosts import SOURCE


class Severity(IntEnum):
    """How bad a vulnerability is, as the scanner says; ordered."""

    UNKNOWN = 0
    NEGLIGIBLE = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5

    @property
    def word(self) -> str:
        """The name in lower case."""
        return self.name.lower()


@dataclass(frozen=True)
class Vulnerability:
    """One vulnerability in one package."""

    id: str
    """CVE where there is one, else the scanner's id."""
    package: str
    """Name of the package."""
    key: str
    """What tells packages apart: package URL without version, or the name."""
    severity: Severity
    installed: str = ""
    """Version in the image."""
    fixed_in: str = ""
    """Version that has the fix; empty: none is known."""
    exploited: bool = False
    """Whether the report says that it is used in attacks."""


@dataclass(frozen=True)
class ScanReport:
    """One scan of one image."""

    scanner: str
    """trivy, grype, docker scout, or the tool that a SARIF file names."""
    format: str
    """trivy, grype, gitlab or sarif."""
    image: str = ""
    """What was scanned, where the report says it."""
    image_id: str = ""
    """Its digest, where the report says it."""
    database: str = ""
    """Age of the scanner's database, where the report says it."""
    found: Mapping[tuple[str, str], Vulnerability] = field(default_factory=dict)
    """By id and package."""


def broken(name: str, why: str) -> InvalidArguments:
    """The error for a report that cannot be read; it must not read as clean."""
    return InvalidArguments(
        f"{name}: it {why}. That does not mean the image is clean.",
        fix="Write it anew: `trivy image --format json`, `grype -o json`, or"
        " `docker scout cves --format sarif`.",
        source=SOURCE,
    )


def severity_of(word: Any) -> Severity:
    """The severity that a word of any scanner means."""
    known = {"info": Severity.NEGLIGIBLE, "moderate": Severity.MEDIUM, "important": Severity.HIGH}
    text = str(word or "").strip().lower()
    named = {s.word: s for s in Severity}
    return known.get(text) or named.get(text, Severity.UNKNOWN)


def severity_of_score(score: Any) -> Severity:
    """The severity of a CVSS base score by the bands of CVSS v3 (first.org)."""
    try:
        value = float(score)
    except (TypeError, ValueError):
        return Severity.UNKNOWN
    bands = ((9.0, Severity.CRITICAL), (7.0, Severity.HIGH), (4.0, Severity.MEDIUM))
    return next((s for least, s in bands if value >= least), Severity.LOW if value > 0 else _NONE)


_NONE = Severity.UNKNOWN


def package_key(purl: str, kind: str, name: str) -> str:
    """A package without its version: two builds of it are the same package."""
    if purl.startswith("pkg:"):
        return purl.partition("?")[0].partition("#")[0].rpartition("@")[0] or purl.partition("?")[0]
    return f"{kind.lower()}/{name}" if kind else name


def collected(found: Iterable[Vulnerability]) -> dict[tuple[str, str], Vulnerability]:
    """One per id and package; of repeats (several files of one package) the worst."""
    result: dict[tuple[str, str], Vulnerability] = {}
    for one in found:
        held = result.get((one.id, one.key))
        if held is None or one.severity > held.severity:
            result[one.id, one.key] = one
    return result
