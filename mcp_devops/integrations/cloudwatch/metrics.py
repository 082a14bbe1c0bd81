"""Which metrics count a service's requests, errors and durations, by the kind in the settings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import Template

from mcp_devops.errors import InvalidArguments, NotConfigured, NotFound
from mcp_devops.integrations.cloudwatch.client import Metric
from mcp_devops.integrations.cloudwatch.failures import SOURCE
from mcp_devops.integrations.cloudwatch.settings import CloudWatchSettings
from mcp_devops.toolkit.comparing import VersionedService

NAME = re.compile(r"[A-Za-z0-9][\w.:/@+-]{0,252}", re.ASCII)
"""What a service or environment may look like inside a dimension's value."""
MILLISECONDS = {"seconds": 1000.0, "milliseconds": 1.0, "microseconds": 0.001}
OWN_ANSWERS = "HTTPCode_ELB_5XX_Count"
"""5xx that a load balancer answers itself, when a target closes or none is there. It is counted
for the load balancer as a whole only."""
TARGET_GROUP_NOTE = "502, 503 and 504 of the load balancer itself are not counted per target group"


@dataclass(frozen=True)
class Kind:
    """The metrics of one kind of source.

    Attributes:
        namespace: Their namespace.
        requests: Metric whose Sum is the requests.
        errors: Metrics whose Sums together are the failed requests.
        latency: Metric of durations.
        unit_ms: Milliseconds in one unit of it.
        dimensions: Templates where the settings have none.
    """

    namespace: str
    requests: str
    errors: tuple[str, ...]
    latency: str | None
    unit_ms: float = 1.0
    dimensions: tuple[tuple[str, str], ...] = ()


KINDS = {
    "load_balancer": Kind(
        "AWS/ApplicationELB",
        "RequestCount",
        ("HTTPCode_Target_5XX_Count",),
        "TargetResponseTime",
        1000.0,
    ),
    "api_gateway": Kind(
        "AWS/ApiGateway", "Count", ("5XXError",), "Latency", 1.0, (("ApiName", "$service"),)
    ),
    "http_api": Kind("AWS/ApiGateway", "Count", ("5xx",), "Latency"),
    "lambda": Kind(
        "AWS/Lambda",
        "Invocations",
        ("Errors",),
        "Duration",
        1.0,
        (("FunctionName", "$service"),),
    ),
}


@dataclass(frozen=True)
class ServiceMetrics:
    """The metrics of one service.

    Attributes:
        requests: Requests.
        errors: Failed requests, to be added up; empty: nobody counts them.
        p99: 99th percentile of the duration.
        mean: Average duration.
        unit_ms: Milliseconds in one unit of the durations.
        errors_are_requests: Whether failed requests may be missing among the requests.
        note: A limit of these metrics.
    """

    requests: Metric
    errors: tuple[Metric, ...]
    p99: Metric | None
    mean: Metric | None
    unit_ms: float
    errors_are_requests: bool = False
    note: str | None = None

    @property
    def all(self) -> tuple[Metric, ...]:
        """Every metric to be asked for."""
        latency = tuple(m for m in (self.p99, self.mean) if m)
        return (self.requests, *self.errors, *latency)


def kind_of(settings: CloudWatchSettings) -> Kind:
    """The metrics that the settings mean.

    Raises:
        NotConfigured: They do not say.
    """
    if settings.kind is not None and settings.kind != "own":
        return KINDS[settings.kind]
    if settings.kind is None or not settings.namespace or not settings.requests_metric:
        raise NotConfigured(f"{unset(settings)}.", fix="Set it.", source=SOURCE)
    return Kind(
        settings.namespace,
        settings.requests_metric,
        (settings.errors_metric,) if settings.errors_metric else (),
        settings.latency_metric,
        MILLISECONDS[settings.latency_unit],
    )


def unset(settings: CloudWatchSettings) -> str | None:
    """The setting without which no service can be looked at, or None."""
    missing = None
    if settings.kind is None:
        missing = "KIND"
    elif settings.kind == "own" and not settings.namespace:
        missing = "NAMESPACE"
    elif settings.kind == "own" and not settings.requests_metric:
        missing = "REQUESTS_METRIC"
    elif (
        settings.kind in ("own", "load_balancer", "http_api")
        and not settings.dimensions
        and not settings.services
    ):
        missing = "DIMENSIONS"
    return missing and f"MCP_DEVOPS_CLOUDWATCH__{missing} is not set"


def metrics_of(settings: CloudWatchSettings, service: VersionedService) -> ServiceMetrics:
    """The metrics of a service.

    Raises:
        NotFound: No dimensions are known for it.
        InvalidArguments: A name does not fit into a dimension's value.
        NotConfigured: The settings do not say which metrics.
    """
    kind = kind_of(settings)
    dimensions = dimensions_of(settings, kind, service)

    def metric(name: str, stat: str, where: dict[str, str] = dimensions) -> Metric:
        return Metric(kind.namespace, name, stat, tuple(sorted(where.items())))

    errors = [metric(name, "Sum") for name in kind.errors]
    whole = settings.kind == "load_balancer" and "TargetGroup" not in dimensions
    if whole:
        errors.append(metric(OWN_ANSWERS, "Sum"))
    return ServiceMetrics(
        requests=metric(kind.requests, "Sum"),
        errors=tuple(errors),
        p99=metric(kind.latency, "p99") if kind.latency else None,
        mean=metric(kind.latency, "Average") if kind.latency else None,
        unit_ms=kind.unit_ms,
        errors_are_requests=whole,
        note=TARGET_GROUP_NOTE if settings.kind == "load_balancer" and not whole else None,
    )


def dimensions_of(
    settings: CloudWatchSettings, kind: Kind, service: VersionedService
) -> dict[str, str]:
    """A service's dimensions, filled in.

    Raises:
        NotFound: It is not listed, and no value holds $service.
        InvalidArguments: A name does not fit, or the environment is needed and not known.
    """
    own = settings.services.get(service.service, {})
    templates = dict(kind.dimensions) | settings.dimensions | own
    used = {n for v in templates.values() for n in Template(v).get_identifiers()}
    if service.service not in settings.services and "service" not in used:
        known = sorted(settings.services)[:20]
        raise NotFound(
            f"No dimensions are set for service {service.service[:80]!r}.",
            fix=f"Known: {', '.join(known) or 'none'}. Add it to [cloudwatch.services].",
            source=SOURCE,
            candidates=known,
        )
    environment = service.environment or settings.environment
    names = {"service": service.service}
    if environment:
        names |= {"environment": environment, "namespace": environment}
    for name in sorted(used & {"service", "environment", "namespace"}):
        if not NAME.fullmatch(names.get(name, "")):
            raise InvalidArguments(
                f"The dimensions need a {name}, and {names.get(name, '')[:80]!r} is none.",
                fix=f"Give the {name} as letters, digits and . : / @ + - _.",
                source=SOURCE,
                field=name,
            )
    filled = {k: Template(v).safe_substitute(names) for k, v in templates.items()}
    return {k: _of_arn(v) for k, v in filled.items()}


def _of_arn(value: str) -> str:
    """The dimension's value of a load balancer or target group given by ARN."""
    if not value.startswith("arn:"):
        return value
    return value.rpartition(":")[2].removeprefix("loadbalancer/")
