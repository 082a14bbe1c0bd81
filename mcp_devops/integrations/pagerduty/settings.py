"""Which PagerDuty services are paged, and through which region."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from mcp_devops.settings import IntegrationSettings

REGIONS = {"us": "https://events.pagerduty.com", "eu": "https://events.eu.pagerduty.com"}
"""Events API hosts by service region."""
ROUTING_KEY = re.compile(r"[A-Za-z0-9]{32}")
"""Integration keys and ruleset keys are 32 characters."""


def _keys(value: Any) -> Any:
    """A table, or `shop/checkout=KEY,team-*=KEY` from the environment."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(sign and name.strip() and key.strip() for name, sign, key in pairs):
        raise ValueError("write service=key pairs, separated by commas")
    return {name.strip(): key.strip() for name, _, key in pairs}


RoutingKeys = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_keys)]


class PagerDutySettings(IntegrationSettings):
    """The `[pagerduty]` table; variables start with MCP_DEVOPS_PAGERDUTY__."""

    table = "pagerduty"

    routing_key: SecretStr | None = None
    """Integration key (Events API v2) of the service that is paged; unset: the integration is
    off, unless service_routing_keys has one."""
    service_routing_keys: RoutingKeys = Field(default_factory=dict, repr=False)
    """Keys of other services by namespace/workload pattern: shop/checkout=KEY,team-*=KEY."""
    region: str = Field("us", pattern="^(us|eu)$")
    """The account's service region: us or eu."""
    url: str | None = Field(
        None, pattern=r"^(https://[A-Za-z0-9.:-]+|http://(127\.0\.0\.1|localhost)(:[0-9]+)?)/?$"
    )
    """Events API address in place of the region's; http only to this machine."""
    webhook_secret: SecretStr | None = None
    """Secret of the webhook subscription (v3), which proves that an event is PagerDuty's."""
    timeout_s: float = Field(10, gt=0, le=60)
    """Seconds one attempt may take."""
    deadline_s: float = Field(60, gt=0, le=600)
    """Seconds a page may take with all its attempts."""

    @property
    def base_url(self) -> str:
        """Where events are sent."""
        return (self.url or REGIONS[self.region]).rstrip("/")

    def key_for(self, service: str) -> str | None:
        """The routing key of a service, `namespace/workload`; None: there is none.

        The exact name counts first, then the longest pattern that fits, then routing_key.
        """
        keys: Mapping[str, SecretStr] = self.service_routing_keys
        fits = [p for p in keys if service and (p == service or fnmatchcase(service, p))]
        if fits:
            return keys[max(fits, key=lambda p: (p == service, len(p)))].get_secret_value().strip()
        return self.routing_key.get_secret_value().strip() if self.routing_key else None

    def all_keys(self) -> list[str]:
        """Every configured routing key."""
        own = [self.routing_key] if self.routing_key else []
        return [k.get_secret_value().strip() for k in (*own, *self.service_routing_keys.values())]
