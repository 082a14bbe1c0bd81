"""SARIF reports of Docker Scout, Trivy and Grype: one format, three dialects. Pure.

Docker Scout keeps package, severity and fix in the rule's properties; Trivy writes them as lines
into each result's message, Grype into the rule's help.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mcp_devops.integrations.docker.vulnerabilities import (
    ScanReport,
    Severity,
    Vulnerability,
    broken,
    collected,
    package_key,
    severity_of,
    severity_of_score,
)

Json = Mapping[str, Any]

_CANONICAL = re.compile(r"CVE-\d{4}-\d{4,}|GHSA(?:-[0-9a-z]{4}){3}|[A-Z]{2,10}-\d{4}[-:]\d+")


def read_sarif(data: Json, name: str) -> ScanReport:
    """Read a SARIF 2.1.0 log.

    Raises:
        InvalidArguments: It holds no run, or a run without results: broken, not clean.
        ValueError, TypeError, AttributeError, KeyError: It has another shape.
    """
    runs = data["runs"]
    if not runs:
        raise broken(name, "holds no run")
    drivers = [(run.get("tool") or {}).get("driver") or {} for run in runs]
    if not all(driver.get("name") for driver in drivers):
        raise broken(name, "does not name its scanner")

    def found() -> Iterator[Vulnerability]:
        for run, driver in zip(runs, drivers, strict=True):
            rules = list(driver.get("rules") or ())
            by_id = {rule.get("id"): rule for rule in rules}
            if not isinstance(run.get("results"), list):
                raise broken(name, "has a run without results")
            for result in run["results"]:
                index = result.get("ruleIndex")
                rule = by_id.get(result.get("ruleId"))
                if rule is None and isinstance(index, int) and 0 <= index < len(rules):
                    rule = rules[index]
                yield _sarif_result(result, rule or {})

    image = next((str((r.get("properties") or {}).get("imageName") or "") for r in runs), "")
    return ScanReport(str(drivers[0]["name"]).lower(), "sarif", image, found=collected(found()))


def _sarif_result(result: Json, rule: Json) -> Vulnerability:
    told = rule.get("properties") or {}
    texts = [(result.get("message") or {}).get("text"), (rule.get("help") or {}).get("text")]
    text = "\n".join(str(t) for t in texts if t)
    purl = str((told.get("purls") or [told.get("purl") or ""])[0])
    rule_id = str(result.get("ruleId") or rule.get("id") or "")
    canonical = _CANONICAL.search(rule_id)
    # Docker Scout writes the package URL where the others write a name.
    named = purl.partition("?")[0].partition("@")[0].rpartition("/")[2]
    package = named or _line(text, "Package")
    by_word = severity_of(told.get("cvssV3_severity") or _line(text, "Severity"))
    severity = by_word or severity_of_score(told.get("security-severity"))
    # SARIF's own level is the last resort: error covers both critical and high.
    by_level = {"error": Severity.HIGH, "warning": Severity.MEDIUM, "note": Severity.LOW}
    fixed = told.get("fixed_version") or _line(text, "Fixed Version") or _line(text, "Fix Version")
    return Vulnerability(
        id=canonical[0] if canonical else rule_id,
        package=package,
        key=package_key(purl, "", package),
        severity=severity or by_level.get(str(result.get("level")), Severity.UNKNOWN),
        installed=_line(text, "Installed Version") or _line(text, "Version"),
        fixed_in="" if str(fixed).lower() in ("not fixed", "none", "null") else str(fixed),
    )


def _line(text: str, label: str) -> str:
    match = re.search(rf"(?mi)^\s*{label}\s*:[ \t]*(.*?)\s*$", text)
    return match[1] if match else ""
