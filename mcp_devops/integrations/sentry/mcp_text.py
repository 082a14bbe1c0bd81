"""The Markdown that Sentry's MCP server answers with, read back into facts. Pure.

Its titles, culprits and commit messages are foreign: a text that does not add up is refused whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from mcp_devops.errors import UpstreamUnavailable
from mcp_devops.integrations.sentry.foreign import count, moment

_FOUND = re.compile(r"^Found \*\*(\d{1,4})\*\* issues?:", re.MULTILINE)
_ISSUE = re.compile(r"^## (\d{1,4})\. \[([^\]\n]{1,200})\]\(([^)\n]{0,500})\)[ \t]*$", re.MULTILINE)
_BOLD = re.compile(r"^\*\*(.{1,2000})\*\*[ \t]*$", re.MULTILINE)
_ITEM = re.compile(r"^- \*\*([A-Za-z ]{1,40})\*\*: (.{0,2000})$", re.MULTILINE)
_RELEASE = re.compile(r"^## (.{1,250})$", re.MULTILINE)
_FIELD = re.compile(r"^\*\*([A-Za-z ]{1,40})\*\*: (.{0,2000})$", re.MULTILINE)
_NO_ISSUES, _NO_RELEASES = "No issues found", "No releases found"
_NOTES = "Response Notes"
FIX = "Unset MCP_DEVOPS_SENTRY__MCP_URL until this program knows its form."


@dataclass(frozen=True)
class ToldIssue:
    """One issue, as the text tells it."""

    id: str
    link: str
    title: str
    culprit: str
    status: str
    events: int | None
    users: int | None


@dataclass(frozen=True)
class ToldRelease:
    """One release and its last deploy, as the text tells them."""

    version: str
    environment: str
    started_at: datetime | None
    finished_at: datetime | None


def read_issues(text: str) -> list[ToldIssue]:
    """The issues of a `search_issues` answer.

    Raises:
        UpstreamUnavailable: It is not such an answer, or its parts do not add up.
    """
    said = _FOUND.search(text)
    if said is None:
        if _NO_ISSUES in text and not _ISSUE.search(text):
            return []
        raise _unreadable("search_issues")
    heads = list(_ISSUE.finditer(text, said.end()))
    if [int(h[1]) for h in heads] != list(range(1, int(said[1]) + 1)):
        raise _unreadable("search_issues")
    ends = [*(h.start() for h in heads[1:]), len(text)]
    return [_issue(h, text[h.end() : end]) for h, end in zip(heads, ends, strict=True)]


def _issue(head: re.Match[str], body: str) -> ToldIssue:
    title = _BOLD.search(body)
    # The title and culprit are one line each, so the first of a name is the server's own.
    items: dict[str, str] = {}
    for item in _ITEM.finditer(body):
        items.setdefault(item[1], item[2])
    if title is None or "Status" not in items:
        raise _unreadable("search_issues")
    return ToldIssue(
        id=head[2],
        link=head[3],
        title=title[1],
        culprit=items.get("Culprit", "").strip("`"),
        status=items["Status"],
        events=count(items.get("Events")),
        users=count(items.get("Users")),
    )


def read_releases(text: str) -> list[ToldRelease]:
    """The releases of a `find_releases` answer.

    Raises:
        UpstreamUnavailable: It is not such an answer.
    """
    heads = [h for h in _RELEASE.finditer(text) if h[1].strip() != _NOTES]
    if not heads:
        if _NO_RELEASES in text:
            return []
        raise _unreadable("find_releases")
    ends = [*(h.start() for h in heads[1:]), len(text)]
    return [_release(h[1].strip(), text[h.end() : e]) for h, e in zip(heads, ends, strict=True)]


def _release(version: str, body: str) -> ToldRelease:
    fields: dict[str, str] = {m[1]: m[2].strip() for m in _FIELD.finditer(body)}
    if "Created" not in fields:
        raise _unreadable("find_releases")
    return ToldRelease(
        version=version,
        environment=fields.get("Environment", ""),
        started_at=moment(fields.get("Deploy Started")),
        finished_at=moment(fields.get("Deploy Finished")),
    )


def _unreadable(tool: str) -> UpstreamUnavailable:
    return UpstreamUnavailable(
        f"Sentry's MCP server answered {tool} in a form that is not known.",
        fix=FIX,
        source="sentry mcp",
    )
