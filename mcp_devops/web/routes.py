"""The pages over HTTP. Whoever mounts them puts them behind the same authentication as all else."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from functools import partial

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from mcp_devops.errors import CallerError, DevOpsError, InvalidArguments, NotFound, UpstreamError
from mcp_devops.gateway.door import Gateway
from mcp_devops.incidents.account import account_of, cleaned
from mcp_devops.incidents.decide import INCIDENT_ID
from mcp_devops.incidents.records import ListIncidents
from mcp_devops.incidents.store import IncidentStore
from mcp_devops.journal.entry import EntryKind
from mcp_devops.text.clean import clean
from mcp_devops.toolkit.context import Caller
from mcp_devops.toolkit.local_user import local_user
from mcp_devops.toolkit.paging import page
from mcp_devops.web.html import policy
from mcp_devops.web.incident_page import incident_page
from mcp_devops.web.list_page import list_page, problem_page
from mcp_devops.web.style import CSS

log = logging.getLogger(__name__)

AT = "/incidents"
"""Where the list is; an incident is below it."""
HEADERS = {
    "content-security-policy": f"{policy(CSS)}; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
"""Sent with every page."""

Page = Callable[[Request], Awaitable[str]]


def page_routes(gateway: Gateway) -> list[Route]:
    """`/incidents` and `/incidents/{id}`: they read, and change nothing.

    Without authentication of their own: the caller mounts them behind it.
    """
    return [
        Route(AT, _answering(gateway, partial(_list, gateway)), methods=["GET"]),
        Route(
            f"{AT}/{{incident_id}}", _answering(gateway, partial(_one, gateway)), methods=["GET"]
        ),
    ]


async def page_file(gateway: Gateway, incident_id: str) -> bytes:
    """An incident's page as one HTML file that opens anywhere, such as beside a mail.

    Raises:
        NotFound: There is no such incident.
    """
    account = await account_of(gateway.services, incident_id)
    made = await to_thread.run_sync(partial(incident_page, account, gateway.clock.now()))
    return made.encode()


def _answering(gateway: Gateway, make: Page) -> Callable[[Request], Awaitable[Response]]:
    """Turn what went wrong into a small page with the right status."""

    async def answer(request: Request) -> Response:
        try:
            async with asyncio.timeout(gateway.settings.read_deadline_s):
                return _response(await make(request))
        except TimeoutError:
            problem = problem_page(
                "Too slow", "The page took longer than a read may.", "Try again.", list_at=AT
            )
            return _response(problem, 504)
        except DevOpsError as failed:
            if not isinstance(failed, CallerError):
                log.warning("a page cannot be shown: %s", failed)
            status, title = status_of(failed)
            told = (clean(text, gateway.redactor) for text in (failed.what, failed.fix))
            return _response(problem_page(title, *told, list_at=AT), status)

    return answer


def status_of(failed: DevOpsError) -> tuple[int, str]:
    """The HTTP status of a failure, and its name for people."""
    if isinstance(failed, NotFound):
        return 404, "Not found"
    if isinstance(failed, CallerError):
        return 400, "That cannot be asked"
    if isinstance(failed, UpstreamError):
        return 503, "Not available now"
    return 500, "That failed"


def _response(html: str, status: int = 200) -> Response:
    return HTMLResponse(html, status, headers=HEADERS)


async def _one(gateway: Gateway, request: Request) -> str:
    incident_id = request.path_params["incident_id"]
    if not re.fullmatch(INCIDENT_ID, incident_id):
        raise NotFound(
            f"{incident_id[:40]!r} is no incident's id.", fix="An id is inc- and 8 hex digits."
        )
    account = await account_of(gateway.services, incident_id)
    await _record(gateway, request, f"{AT}/{incident_id}")
    return await to_thread.run_sync(
        partial(incident_page, account, gateway.clock.now(), list_at=AT)
    )


async def _list(gateway: Gateway, request: Request) -> str:
    query = request.query_params
    unknown = sorted(set(query) - {"open", "cursor"})
    if unknown:
        raise InvalidArguments(
            f"Unknown: {', '.join(unknown)[:80]}.", fix="Known: open=1, cursor=..."
        )
    open_only, cursor = query.get("open") == "1", query.get("cursor")
    asked = ListIncidents(open_only=open_only)
    store = await gateway.services.get(IncidentStore)
    found = await store.all(open_only=open_only)
    shown, following = page(found, asked, cursor, asked.limit)
    await _record(gateway, request, AT)
    return list_page(
        await to_thread.run_sync(cleaned, tuple(shown), gateway.redactor),
        gateway.clock.now(),
        total=len(found),
        open_only=open_only,
        at=AT,
        next_cursor=following,
        first=cursor is None,
    )


async def _record(gateway: Gateway, request: Request, what: str) -> None:
    """Write down who looked, as for every other reading."""
    await gateway.journal.append(
        EntryKind.NOTE,
        actor=str(Caller(_identity(request), "http", "page")),
        subject=f"read {what}",
        body={"what": "read"},
    )


def _identity(request: Request) -> str:
    """The token's subject; without authentication the operating-system user."""
    token = getattr(request.scope.get("user"), "access_token", None)
    if token is not None:
        return str(token.subject or token.client_id)
    return local_user()
