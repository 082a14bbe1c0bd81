"""The texts of metric queries. Names come from outside: none can break out of its filter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import Template

from mcp_devops.errors import InvalidArguments
from mcp_devops.integrations.datadog.settings import DatadogSettings
from mcp_devops.toolkit.comparing import VersionedService

TAG_VALUE = re.compile(r"[^\W_][\w.:/+@=~-]{0,199}")
"""What a service, environment or version may look like: no brace, comma, quote, star or space."""


@dataclass(frozen=True)
class Queries:
    """The queries of one arm; None where there is none."""

    requests: str
    errors: str | None
    p99: str | None
    mean: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """Those that exist."""
        return tuple(q for q in (self.requests, self.errors, self.p99, self.mean) if q)


def tag_value(value: str, what: str) -> str:
    """A tag's value as Datadog keeps it: lower case, unusual characters as underscores.

    Raises:
        InvalidArguments: It holds a character that means something in a query.
    """
    if not TAG_VALUE.fullmatch(value):
        raise InvalidArguments(
            f"The {what} {value[:80]!r} cannot be a tag's value.",
            fix="Letters, digits and . : / - _ + @ = ~ are known, 200 at most, a letter or digit"
            " first.",
            field=what,
        )
    return re.sub(r"[^\w.:/-]", "_", value.lower())


def operation_name(name: str) -> str:
    """A trace operation's name, fit for a metric's name.

    Raises:
        InvalidArguments: It is not one.
    """
    if not re.fullmatch(r"[A-Za-z][\w.-]{0,150}", name, re.ASCII):
        raise InvalidArguments(
            f"{name[:80]!r} is not a trace operation.",
            fix="Correct MCP_DEVOPS_DATADOG__OPERATIONS.",
        )
    # Metric names have no dash: the operation undertow-http.request is counted with an underscore.
    return name.replace("-", "_")


def environment_of(settings: DatadogSettings, service: VersionedService) -> str | None:
    """The env tag's value: the caller's, else that of the settings, else none."""
    chosen = service.environment or settings.environment
    return tag_value(chosen, "environment") if chosen else None


def scope_of(
    settings: DatadogSettings, service: VersionedService, version: str | None = None
) -> str:
    """The filter of one arm, braces included.

    Raises:
        InvalidArguments: A name cannot be a tag's value.
    """
    tags = [f"service:{tag_value(service.service, 'service')}"]
    if environment := environment_of(settings, service):
        tags.append(f"env:{environment}")
    if version:
        tags.append(f"version:{tag_value(version, 'version')}")
    return "{" + ",".join(tags) + "}"


def hits(operation: str, scope: str, step_s: int) -> str:
    """The query of a trace operation's requests per bucket."""
    return f"sum:trace.{operation}.hits{scope}.as_count().rollup(sum, {step_s})"


def of_operation(operation: str, scope: str, step_s: int) -> Queries:
    """The queries of a trace operation: counts per bucket, and its distribution of durations."""
    return Queries(
        requests=hits(operation, scope, step_s),
        errors=f"sum:trace.{operation}.errors{scope}.as_count().rollup(sum, {step_s})",
        p99=f"p99:trace.{operation}{scope}.rollup({step_s})",
        mean=f"avg:trace.{operation}{scope}.rollup({step_s})",
    )


def of_operator(
    settings: DatadogSettings, service: VersionedService, version: str | None, step_s: int
) -> Queries:
    """The operator's own queries, filled in.

    Raises:
        InvalidArguments: A name cannot be a tag's value.
    """
    names = {
        "service": tag_value(service.service, "service"),
        "env": environment_of(settings, service) or "*",
        "version": tag_value(version, "version") if version else "*",
        "step": str(step_s),
    }

    def fill(query: str | None) -> str | None:
        return Template(query).safe_substitute(names) if query else None

    return Queries(
        requests=fill(settings.requests_query) or "",
        errors=fill(settings.errors_query),
        p99=fill(settings.p99_query),
    )


def splits(settings: DatadogSettings) -> bool:
    """Whether versions can be told apart: always by trace metrics, else by $version."""
    query = settings.requests_query
    return query is None or "version" in Template(query).get_identifiers()
