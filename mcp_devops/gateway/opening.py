"""Puts the door together: settings, database, journal, catalog, services; and takes it down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from mcp_devops import __version__
from mcp_devops.catalog import Catalog, build_catalog
from mcp_devops.decision.policy import Policy
from mcp_devops.gateway.approvals import ApprovalDesk
from mcp_devops.gateway.consent import Consent
from mcp_devops.gateway.door import Gateway
from mcp_devops.gateway.ledger import Ledger
from mcp_devops.gateway.services import Registry
from mcp_devops.gateway.team_policy import team_policy, terms
from mcp_devops.incidents.policy import load_policy
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.journal.database import Database, default_state_dir, open_database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.journal.place import Place, PostgresUrl
from mcp_devops.response_policy.file import PolicyFile
from mcp_devops.settings import ServerSettings
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.clock import Clock, SystemClock
from mcp_devops.toolkit.integration import AnyIntegration

DRAIN_S = 8.0
"""Seconds a stop waits for a change under way; under the 10 s that most supervisors give."""


def database_path(settings: ServerSettings) -> Place:
    """Where the journal and the approvals are. Its text form shows no password.

    Raises:
        NotConfigured: The database URL is none of PostgreSQL's.
    """
    if settings.database_url is not None:
        return PostgresUrl(settings.database_url.get_secret_value())
    return (settings.state_dir or default_state_dir()) / "state.db"


def redactor_for(catalog: Catalog, settings: ServerSettings) -> Redactor:
    """A redactor that also knows every configured credential by value."""
    own = [s for m in catalog.members for s in m.integration.secrets(m.settings)]
    if settings.request_state_key:
        own.append(settings.request_state_key)
    place = database_path(settings)
    if isinstance(place, PostgresUrl):
        own += place.secrets
    return Redactor(own)


@asynccontextmanager
async def open_gateway(
    settings: ServerSettings,
    *,
    channel: str,
    clock: Clock | None = None,
    integrations: Sequence[AnyIntegration] | None = None,
    looks_only: bool = False,
) -> AsyncIterator[Gateway]:
    """Open the door, and close it in order: changes first, then clients, then the journal.

    Args:
        settings: The server's settings.
        channel: Who opens it, for the journal: stdio, http, terminal.
        clock: The clock; the system's by default.
        integrations: Instead of those found by folder.
        looks_only: Open with a response policy that is not valid, to say so: nothing is served.

    Raises:
        NotConfigured: Settings, or the response policy, are not valid.
        Unsupported: The state is from a newer version.
    """
    clock = clock or SystemClock()
    catalog = build_catalog(settings, integrations)
    redactor = redactor_for(catalog, settings)
    policy = load_policy(settings)
    team = team_policy(clock, policy)
    if not looks_only:
        team.require()
    async with open_database(database_path(settings)) as database:
        journal = Journal(database, redactor, clock.now)
        desk = ApprovalDesk(
            database,
            journal,
            clock,
            settings.approval_ttl_s,
            partial(terms, team, clock),
            lambda: team.current.limits,
        )
        services = Registry(catalog, clock)
        services.add(database, Database)
        services.add(journal, Journal)
        services.add(redactor, Redactor)
        services.add(desk)
        services.add(settings)
        services.add(catalog)
        gateway = Gateway(
            catalog=catalog,
            services=services,
            settings=settings,
            journal=journal,
            consent=Consent(desk, settings, clock),
            ledger=Ledger(database, journal, desk, clock, settings.change_deadline_s),
            redactor=redactor,
            clock=clock,
        )
        services.add(gateway)
        services.add(policy, Policy)
        services.add(team, PolicyFile)
        services.add(IncidentStore(database, journal, clock))
        body = {
            "version": __version__,
            "allow_writes": list(settings.allow_writes),
            "automatic_namespaces": list(settings.automatic_namespaces),
            "approval_channels": list(settings.approval_channels),
        }
        await journal.append(
            EntryKind.SERVER_STARTED, actor=channel, subject="mcp-devops", body=body
        )
        try:
            yield gateway
        finally:
            await gateway.drain(DRAIN_S)
            await services.close()
            await journal.append(
                EntryKind.SERVER_STOPPED, actor=channel, subject="mcp-devops", body={}
            )
