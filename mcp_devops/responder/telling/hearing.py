"""What people do in PagerDuty, written into the incident's timeline. It approves nothing."""

from __future__ import annotations

from datetime import datetime

from mcp_devops.incidents.store import IncidentStore
from mcp_devops.integrations.pagerduty.events import incident_of
from mcp_devops.integrations.pagerduty.webhook import WebhookEvent
from mcp_devops.journal.database import Database
from mcp_devops.responder.bookmarks import bookmark_in, set_bookmark_in

OPENED = "incident.triggered"
NOT_OURS = "not ours"


async def heard_from_pagerduty(
    event: WebhookEvent, database: Database, store: IncidentStore, now: datetime
) -> str:
    """Write down what a person did; what automation did is known here or needs no line.

    Args:
        event: A genuine event.
        database: Where PagerDuty's ids of our incidents are kept: a note does not tell our key.
        store: The incidents.
        now: The moment.

    Returns:
        What became of it, for the answer.
    """
    name = f"pagerduty:{event.incident_id}"
    incident_id = incident_of(event.dedup_key) if event.dedup_key else None
    known = await database.read(lambda c: bookmark_in(c, name))
    found = incident_id or known
    if found is None:
        return NOT_OURS
    if found != known:
        await database.run(lambda c: set_bookmark_in(c, name, found, now))
    if not event.by_person or event.kind == OPENED:
        return "nothing to do"
    who = f"{event.person_name or 'somebody'} (PagerDuty {event.person_id})"
    noted = await store.note(found, event.says, who, at_pagerduty=event.occurred_at.isoformat())
    return NOT_OURS if noted is None else "written down"
