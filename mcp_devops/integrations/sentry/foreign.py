"""Text, links and numbers that Sentry repeats from somebody else: bounded and cleaned. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from mcp_devops.errors import InvalidArguments
from mcp_devops.text.budget import cut_end
from mcp_devops.text.clean import clean

TITLE_CHARS = 160
"""Characters of a title, culprit or name; enough to recognise it."""
LOOKED_AT_CHARS = 8_000
"""Characters of a text that are cleaned: far more than is shown, so that no secret is cut first."""
LINK_CHARS = 300
SAAS = "sentry.io"
"""Sentry's own domain: organisations and regions are its subdomains."""


def shown(value: object, limit: int = TITLE_CHARS) -> str:
    """Foreign text on one line, without escapes and known secrets, at most `limit` characters."""
    if not isinstance(value, str):
        return ""
    return cut_end(" ".join(clean(value[:LOOKED_AT_CHARS]).split()), limit)


def number(value: object) -> float | None:
    """A finite number of a JSON answer, also one written as a string; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def count(value: object) -> int | None:
    """A whole number that is not negative; else None."""
    found = number(value)
    return int(found) if found is not None and found >= 0 else None


def moment(value: object) -> datetime | None:
    """A time of a JSON answer in UTC; without a zone it is Sentry's own UTC."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        found = datetime.fromisoformat(value)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def own_link(value: object, base: str) -> str | None:
    """A link to show, if it leads to the configured Sentry; else None."""
    if not isinstance(value, str) or len(value) > LINK_CHARS or not value.isprintable():
        return None
    return value if " " not in value and at_home(value, base) else None


def at_home(link: str, base: str) -> bool:
    """Whether an address lies at the configured Sentry.

    Of Sentry's own service that is any host under its domain: organisations and regions have one
    each.
    """
    try:
        there, own = urlsplit(link), urlsplit(base)
        host, home = there.hostname or "", own.hostname or ""
        same_port = there.port == own.port
    except ValueError:
        return False
    if there.scheme not in ("http", "https") or there.username or there.password:
        return False
    domain = SAAS if home == SAAS or home.endswith(f".{SAAS}") else home
    return bool(host) and same_port and (host == domain or host.endswith(f".{domain}"))


def term(key: str, value: str) -> str:
    """One `key:"value"` of a search, in which the value cannot become syntax or a wildcard.

    Raises:
        InvalidArguments: The value has control characters; no release has.
    """
    if not value or not value.isprintable():
        raise InvalidArguments(
            f"{key}: empty, or with characters that no release or environment has.",
            fix="Pass the version as sentry_list_deploys shows it.",
            field=key,
        )
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("*", "\\*")
    return f'{key}:"{escaped}"'


def listed(value: Any) -> list[dict[str, Any]]:
    """The objects of a JSON list; anything else is an empty list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def record(value: Any) -> dict[str, Any]:
    """A JSON object; anything else is an empty one."""
    return value if isinstance(value, dict) else {}
