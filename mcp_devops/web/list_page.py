"""The page that lists incidents, newest first, and the small page that says what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import urlencode

from mcp_devops.model.incident import OPEN_STATUSES, Incident
from mcp_devops.text.people import ago, percent, plural
from mcp_devops.web import words
from mcp_devops.web.html import Child, Html, document, el
from mcp_devops.web.style import CSS, icon

WHAT_CHARS = 240
"""Characters of the newest line that the list shows."""


def list_page(
    incidents: Sequence[Incident],
    now: datetime,
    *,
    total: int,
    open_only: bool,
    at: str,
    next_cursor: str | None = None,
    first: bool = True,
) -> str:
    """One page of the list.

    Args:
        incidents: Those of this page, cleaned, newest first.
        now: For their ages.
        total: All that fit.
        open_only: Whether only open ones were asked for.
        at: Address of the list, such as /incidents.
        next_cursor: Leads to the next page.
        first: Whether this is the first page.
    """
    waiting = any(i.status in OPEN_STATUSES for i in incidents)
    tone = "warn" if waiting else "good"
    other = el("a", "All incidents", href=at) if open_only else None
    if not open_only:
        other = el("a", "Only those somebody still has to look at", href=f"{at}?open=1")
    body: Child = el("ul", [_row(i, now, at) for i in incidents], class_="rows")
    if not incidents:
        body = el("p", "No incident is open." if open_only else "There is no incident yet.")
    title = f"{plural(total, 'incident')}{' open' if open_only else ''}"
    return document(
        title,
        CSS,
        icon(tone),
        el("header", el("h1", title), el("p", other), class_="top"),
        el("main", el("section", body, class_="card long", aria_label="Incidents, newest first"),
           _pager(at, open_only, next_cursor, first)),
        el("footer", el("p", f"Written {words.full(now)}. All times are UTC.")),
    )  # fmt: skip


def _pager(at: str, open_only: bool, next_cursor: str | None, first: bool) -> Child:
    links: list[Html] = []
    same = {"open": "1"} if open_only else {}
    if not first:
        links.append(el("a", "Newest", href=f"{at}?{urlencode(same)}" if same else at))
    if next_cursor:
        query = urlencode({**same, "cursor": next_cursor})
        links.append(el("a", "Older", href=f"{at}?{query}", rel="next"))
    return el("nav", links, class_="pager", aria_label="Pages") if links else None


def _row(incident: Incident, now: datetime, at: str) -> Html:
    state, tone = words.state_of(incident)
    verdict = incident.verdict
    what = verdict.headline if verdict else ""
    if incident.verification is not None:
        what = incident.verification.says
    elif not what and incident.timeline:
        what = incident.timeline[-1].what
    sure = f", the deployment did it: {percent(verdict.confidence)}" if verdict else ""
    age = ago((now - incident.opened_at).total_seconds())
    return el(
        "li",
        el(
            "div",
            el("span", el("span", words.MARKS[tone], class_="mark", aria_hidden="true"), " ",
               state, class_="state"),
            class_=f"tone-{tone}",
        ),
        el(
            "div",
            el("a", str(incident.target), href=f"{at}/{incident.id}"),
            el("div", what if len(what) <= WHAT_CHARS else f"{what[: WHAT_CHARS - 1]}…"),
            el("div", el("code", incident.id), sure, class_="small dim"),
            class_="what",
        ),
        el("time", age, datetime=words.iso(incident.opened_at), title=words.full(
            incident.opened_at), class_="age"),
        class_="list",
    )  # fmt: skip


def problem_page(title: str, what: str, fix: str, *, list_at: str | None = None) -> str:
    """What went wrong, and the next move.

    Args:
        title: In a few words.
        what: In a sentence.
        fix: The next move.
        list_at: Address of the list, where there is one.
    """
    return document(
        title,
        CSS,
        icon("bad"),
        el(
            "main",
            el(
                "section",
                el("h1", el("span", "✕", class_="mark", aria_hidden="true"), " ", title,
                   class_="state"),
                el("p", what, class_="lead"),
                el("p", fix),
                el("p", el("a", "All incidents", href=list_at)) if list_at else None,
                class_="card hero tone-bad",
            ),
        ),
    )  # fmt: skip
