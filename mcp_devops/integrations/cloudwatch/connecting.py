"""How a connection to CloudWatch is made: credentials, role, attempts, and how one is given up."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any

from mcp_devops.integrations.cloudwatch.sdk import Sdk
from mcp_devops.integrations.cloudwatch.settings import CloudWatchSettings

ATTEMPTS = 3
CONNECT_S, READ_S = 3, 10
"""Seconds of one attempt; a given-up call's thread ends after one of them at the latest."""

waited_for: ContextVar[threading.Event] = ContextVar("waited_for")
"""In a worker thread: set when nobody waits for its answer any more."""


class GivenUpError(Exception):
    """Nobody waits for the answer any more."""


def connect(kit: Sdk, settings: CloudWatchSettings) -> Any:
    """A botocore client of CloudWatch; blocking, and without a request of its own.

    Raises:
        BotoCoreError: The region, the profile or the role's credentials are missing.
    """
    config = kit.config.Config(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        user_agent_extra="mcp-devops",
    )
    session = kit.boto3.Session(profile_name=settings.profile, region_name=settings.region)
    if settings.role_arn:
        session = _with_role(kit, session, settings.role_arn, config)
    connection = session.client("cloudwatch", endpoint_url=settings.endpoint_url, config=config)
    connection.meta.events.register("before-send.cloudwatch", _stop_if_given_up)
    return connection


def _with_role(kit: Sdk, session: Any, role_arn: str, config: Any) -> Any:
    """A session of the role, whose credentials are renewed before they expire."""

    def sts(service: str, **options: Any) -> Any:
        return session.client(service, **{**options, "config": config})

    source = session.get_credentials()
    if source is None:
        raise kit.exceptions.NoCredentialsError
    fetcher = kit.credentials.AssumeRoleCredentialFetcher(
        sts, source, role_arn, extra_args={"RoleSessionName": "mcp-devops"}
    )
    assumed = kit.botocore_session.get_session()
    assumed._credentials = kit.credentials.DeferredRefreshableCredentials(
        refresh_using=fetcher.fetch_credentials, method="assume-role"
    )
    return kit.boto3.Session(botocore_session=assumed, region_name=session.region_name)


def _stop_if_given_up(**_: Any) -> None:
    event = waited_for.get(None)
    if event is not None and event.is_set():
        raise GivenUpError
