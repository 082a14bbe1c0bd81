"""Two scans compared: what is new, what is fixed, and whether staging must hold. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mcp_devops.integrations.docker.vulnerabilities import ScanReport, Severity, Vulnerability
from mcp_devops.model.record import Record
from mcp_devops.text.people import plural

HOLDS_FROM = Severity.HIGH
"""Least severity of a new vulnerability that holds staging (requirement A10: critical, high)."""
MOST_LISTED = 25
"""Findings listed of each kind, worst first; all are counted."""
MOST_REASONS = 10
"""Reasons listed; more are counted in the last."""


class Finding(Record):
    """One vulnerability in one package."""

    id: str
    """CVE, GHSA or the scanner's own id."""
    package: str
    """Package."""
    severity: str
    """critical, high, medium, low, negligible or unknown."""
    was: str | None = None
    """Severity before, where it rose."""
    installed: str = ""
    """Version in the image that has it."""
    fixed_in: str | None = None
    """Version with the fix; left out: none is known."""
    exploited: bool = False
    """Whether it is known to be used in attacks."""


class SeverityCount(Record):
    """One severity counted."""

    severity: str
    """critical to unknown."""
    before: int = 0
    """Findings in the report before."""
    after: int = 0
    """Findings in the report after."""
    new: int = 0
    """Found only after."""
    fixed: int = 0
    """Found only before."""


class ScanComparison(Record):
    """What two scans say about two images."""

    staging_hold: bool
    """Whether the image after must not go on: it has a new critical or high vulnerability."""
    reasons: tuple[str, ...] = ()
    """Why staging must hold."""
    counts: tuple[SeverityCount, ...] = ()
    """By severity, worst first."""
    new: tuple[Finding, ...] = ()
    """Found only in the image after, worst first."""
    worse: tuple[Finding, ...] = ()
    """Found in both, with a higher severity now."""
    fixed: tuple[Finding, ...] = ()
    """Found only in the image before."""
    fix_available: int = 0
    """New findings that have a fixed version."""
    persisting: int = 0
    """Findings in both."""
    before: str = ""
    """Scanner and image of the report before."""
    after: str = ""
    """Scanner and image of the report after."""
    notes: tuple[str, ...] = ()
    """Limits of the comparison."""


def compare_reports(before: ScanReport, after: ScanReport) -> ScanComparison:
    """Compare two scans by vulnerability id and package, whatever the package's version.

    A severity that is unknown does not hold, and is counted as such. A finding of both whose
    severity rose to high or critical holds like a new one.
    """
    new = [v for key, v in after.found.items() if key not in before.found]
    fixed = [v for key, v in before.found.items() if key not in after.found]
    worse = [
        (v, before.found[key])
        for key, v in after.found.items()
        if key in before.found and v.severity > before.found[key].severity
    ]
    risen = [(v, old) for v, old in worse if old.severity < HOLDS_FROM <= v.severity]
    reasons = [_reason(v) for v in _worst_first(new) if v.severity >= HOLDS_FROM]
    reasons += [f"{_reason(v)}, was {old.severity.word}" for v, old in risen]
    if len(reasons) > MOST_REASONS:
        rest = len(reasons) - MOST_REASONS + 1
        reasons = [*reasons[: MOST_REASONS - 1], f"and {rest} more"]
    return ScanComparison(
        staging_hold=bool(reasons),
        reasons=tuple(reasons),
        counts=tuple(_counts(before, after, new, fixed)),
        new=tuple(_finding(v) for v in _worst_first(new)[:MOST_LISTED]),
        worse=tuple(_finding(v, old) for v, old in worse[:MOST_LISTED]),
        fixed=tuple(_finding(v) for v in _worst_first(fixed)[:MOST_LISTED]),
        fix_available=sum(bool(v.fixed_in) for v in new),
        persisting=len(after.found) - len(new),
        before=_named(before),
        after=_named(after),
        notes=tuple(_notes(before, after)),
    )


def summary(found: ScanComparison) -> str:
    """The comparison in one sentence."""
    new = sum(c.new for c in found.counts)
    fixed = sum(c.fixed for c in found.counts)
    by = ", ".join(f"{c.new} {c.severity}" for c in found.counts if c.new)
    verdict = "Staging hold" if found.staging_hold else "No staging hold"
    told = f"{verdict}: {plural(new, 'new vulnerability')}" + (f" ({by})" if by else "")
    return (
        f"{told}, {fixed} fixed, {found.persisting} in both; {found.fix_available} new have a fix."
    )


def _worst_first(found: Iterable[Vulnerability]) -> list[Vulnerability]:
    return sorted(found, key=lambda v: (-v.severity, not v.exploited, v.id, v.key))


def _finding(v: Vulnerability, old: Vulnerability | None = None) -> Finding:
    return Finding(
        id=v.id[:64],
        package=v.package[:120],
        severity=v.severity.word,
        was=old.severity.word if old else None,
        installed=v.installed[:60],
        fixed_in=v.fixed_in[:120] or None,
        exploited=v.exploited,
    )


def _reason(v: Vulnerability) -> str:
    fix = f"fixed in {v.fixed_in[:60]}" if v.fixed_in else "no fix known"
    attacked = ", known to be exploited" if v.exploited else ""
    return (
        f"{v.severity.word}: {v.id[:64]} in {v.package[:80]} {v.installed[:40]} ({fix}{attacked})"
    )


def _counts(
    before: ScanReport,
    after: ScanReport,
    new: Sequence[Vulnerability],
    fixed: Sequence[Vulnerability],
) -> Iterable[SeverityCount]:
    sides = (before.found.values(), after.found.values(), new, fixed)
    old, now, fresh, gone = (Counter(v.severity for v in side) for side in sides)
    for level in sorted(Severity, reverse=True):
        if old[level] or now[level]:
            yield SeverityCount(
                severity=level.word,
                before=old[level],
                after=now[level],
                new=fresh[level],
                fixed=gone[level],
            )


def _named(report: ScanReport) -> str:
    image = f" of {report.image[:200]}" if report.image else ""
    return f"{report.scanner[:60]} ({report.format}){image}"


def _notes(before: ScanReport, after: ScanReport) -> Iterable[str]:
    if before.scanner != after.scanner:
        yield (
            f"different scanners ({before.scanner[:60]}, {after.scanner[:60]}): what only one of"
            " them knows reads as new or fixed"
        )
    if before.format != after.format:
        yield "different formats: packages may be named differently"
    if before.database != after.database:
        yield (
            f"different databases ({before.database[:40] or 'unknown'},"
            f" {after.database[:40] or 'unknown'}): an old vulnerability may read as new"
        )
    if before.image_id and before.image_id == after.image_id:
        yield "both reports are of one image"
    if any(v.severity is Severity.UNKNOWN for v in after.found.values()):
        yield "findings of unknown severity do not hold staging: look at them"
