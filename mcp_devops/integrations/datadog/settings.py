"""How Datadog is reached, and under which trace operations a service's requests are counted."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from mcp_devops.settings import Names
from mcp_devops.toolkit.comparing import WindowSettings

SITE = r"^(?:[a-z]{2}\d\.)?(?:datadoghq\.(?:com|eu)|ddog-gov\.com)$"
"""datadoghq.com, datadoghq.eu, ddog-gov.com and their numbered siblings, such as us5 and ap1."""
ADDRESS = r"^(?:https://[^/@\s]+|http://(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?)(?:/[^@\s]*)?$"
"""Keys go over plain HTTP to this machine only."""


def _key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value().strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("a key is one word of printable ASCII")
    return SecretStr(key)


Key = Annotated[SecretStr, AfterValidator(_key)]
"""A key that fits into a header; white space around it, as files have it, is taken off."""


class DatadogSettings(WindowSettings):
    """The `[datadog]` table; variables start with MCP_DEVOPS_DATADOG__.

    `grace_s` stays 0: a span is counted in the bucket in which it ended, so nothing of the time
    before the deployment smears into the time after it. What lags is the newest end: `settle_s`.
    """

    table = "datadog"

    site: str = Field("datadoghq.com", pattern=SITE)
    """Site of the organisation, such as datadoghq.eu or us5.datadoghq.com."""
    url: str | None = Field(None, pattern=ADDRESS)
    """Address in place of https://api.SITE, for a proxy."""
    api_key: Key | None = None
    """API key; unset: the integration is off."""
    app_key: Key | None = None
    """Application key whose owner, or scope, has the timeseries_query permission."""
    environment: str | None = Field(None, min_length=1, max_length=200)
    """Value of the env tag; unset: every environment together."""
    timeout_s: float = Field(10, gt=0, le=120)
    """Seconds one question may take, pauses that a rate limit asks for included."""
    settle_s: float = Field(60, ge=0, le=3600)
    """Age in seconds below which a bucket is left out: agents send trace metrics every 10 s, and
    intake takes its time. Seed value, not measured."""
    operations: Names = Field(
        (
            "servlet.request", "netty.request", "undertow-http.request", "flask.request",
            "django.request", "fastapi.request", "starlette.request", "aiohttp.request",
            "express.request", "koa.request", "fastify.request", "next.request",
            "aspnet_core.request", "aspnet.request", "rack.request", "laravel.request",
            "symfony.request", "http.server.request", "grpc.server", "grpc.server.request",
            "web.request", "http.request",
        ),
        min_length=1,
        max_length=40,
    )  # fmt: skip
    """Trace operations tried in this order; the first with hits is the service's. http.request is
    last: some tracers count outgoing calls under it."""
    requests_query: str | None = Field(None, min_length=1, max_length=2000)
    """Own query of requests per bucket, such as
    sum:http.requests{service:$service}.as_count().rollup(sum, $step). Filled in: $service; $env
    and $version, each `*` where all count; $step, seconds. With $version in it, versions are
    compared in the same minutes."""
    errors_query: str | None = Field(None, min_length=1, max_length=2000)
    """Own query of failed requests per bucket; same variables."""
    p99_query: str | None = Field(None, min_length=1, max_length=2000)
    """Own query of the 99th percentile; seconds, unless the metric's unit says another."""

    @property
    def base_url(self) -> str:
        """Where the API is."""
        return (self.url or f"https://api.{self.site}").rstrip("/")
