"""How CloudWatch is reached, and which metrics and dimensions belong to a service."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from mcp_devops.toolkit.comparing import WindowSettings

ADDRESS = r"^(?:https://[^/@\s]+|http://(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?)(?:/[^@\s]*)?$"
"""Signed requests go over plain HTTP to this machine only."""


def _table(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


Name = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[ -~]+$")]
Template = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[ -~]+$")]
Dimensions = dict[Name, Template]
"""Dimension names to values; $service and $environment (or $namespace, the same) are filled in."""


class CloudWatchSettings(WindowSettings):
    """The `[cloudwatch]` table; variables start with MCP_DEVOPS_CLOUDWATCH__.

    Credentials come from where AWS tools look for them: AWS_* variables, a profile, single
    sign-on, a container's or machine's role. The identity needs cloudwatch:GetMetricData.

    A service's dimensions are `dimensions` with what `services` says of it. A service counts as
    known when `services` lists it, or a value holds $service; so that the load balancer of one
    service is never read as that of another:

        [cloudwatch]
        kind = "load_balancer"
        dimensions = { LoadBalancer = "app/prod/50dc6c495c0c9188" }
        [cloudwatch.services]
        checkout = { TargetGroup = "targetgroup/checkout/73e2d6bc24d8a067" }

    In the environment, tables are JSON. Load balancers and target groups may be given by ARN.
    """

    table = "cloudwatch"

    kind: Literal["load_balancer", "api_gateway", "http_api", "lambda", "own"] | None = None
    """Whose metrics: an application load balancer's (dimensions LoadBalancer and, for one service
    among several, TargetGroup), a REST API's (ApiName by default the service, Stage), an HTTP
    API's (ApiId), a Lambda function's (FunctionName by default the service), or own ones by the
    fields below. Unset: the integration is off."""
    region: str | None = Field(None, pattern=r"^[a-z]{2,}(?:-[a-z]+)+-\d+$")
    """Region, such as eu-west-1; default: AWS_REGION, or the profile's."""
    profile: str | None = Field(None, min_length=1, max_length=100)
    """Profile of the AWS configuration file."""
    role_arn: str | None = Field(
        None, pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/[A-Za-z0-9_+=,.@/-]+$"
    )
    """Role to assume with those credentials, for another account."""
    endpoint_url: str | None = Field(None, pattern=ADDRESS)
    """Address in place of the region's own, for a VPC endpoint."""
    environment: str | None = Field(None, min_length=1, max_length=200)
    """Value of $environment where the caller names none."""
    dimensions: Annotated[Dimensions, NoDecode, BeforeValidator(_table)] = Field(
        default_factory=dict
    )
    """Dimensions of every service."""
    services: Annotated[dict[Name, Dimensions], NoDecode, BeforeValidator(_table)] = Field(
        default_factory=dict
    )
    """Dimensions of single services, by name; they add to, and win over, those of every one."""
    namespace: str | None = Field(None, max_length=255, pattern=r"^[A-Za-z0-9_./#:-]+$")
    """Kind own: namespace of the metrics."""
    requests_metric: str | None = Field(None, min_length=1, max_length=255)
    """Kind own: metric whose Sum is the requests."""
    errors_metric: str | None = Field(None, min_length=1, max_length=255)
    """Kind own: metric whose Sum is the failed requests; no point of it means 0 where requests
    were counted."""
    latency_metric: str | None = Field(None, min_length=1, max_length=255)
    """Kind own: metric of request durations, published as single values (percentiles cannot be
    had of statistic sets)."""
    latency_unit: Literal["seconds", "milliseconds", "microseconds"] = "milliseconds"
    """Kind own: unit of the durations."""
    timeout_s: float = Field(30, gt=0, le=120)
    """Seconds one question may take, its retries included."""
    grace_s: float = Field(60, ge=0, le=3600)
    """Seconds ignored after the deployment: metrics carry no version, so the minute in which old
    and new targets change places belongs to neither."""
    settle_s: float = Field(180, ge=0, le=3600)
    """Age in seconds below which a bucket is left out. Metrics arrive one to three minutes late,
    each on its own: errors that arrive after their requests would read as none."""
    high_resolution: bool = False
    """Whether the metrics have buckets below 60 s; else a smaller step_s is raised to 60."""
