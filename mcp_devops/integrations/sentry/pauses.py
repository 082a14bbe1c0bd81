"""How long Sentry asks to wait, and the next page it names: read from headers. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mcp_devops.integrations.sentry.foreign import number

LONGEST_PAUSE_S = 3600.0
"""No answer is believed that asks for more; the caller has given up long before."""

_CURSOR = re.compile(r'cursor="([\w:.+/=-]{1,200})"')
_LINK = re.compile(r"<([^<>]{1,4000})>([^<]{0,1000})")


def pause(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait after a 429; None: it does not say.

    Retry-After (seconds or a date) counts before the end of the limit's own window.
    """
    asked = headers.get("retry-after", "").strip()
    if asked:
        seconds = number(asked)
        if seconds is None:
            try:
                when = parsedate_to_datetime(asked)
                when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
                seconds = (when - now).total_seconds()
            except (ValueError, TypeError, OverflowError):
                seconds = None
        if seconds is not None:
            return min(max(seconds, 0.0), LONGEST_PAUSE_S)
    reset = number(headers.get("x-sentry-rate-limit-reset", ""))
    if reset is None:
        return None
    return min(max(reset - now.timestamp(), 0.0), LONGEST_PAUSE_S)


def next_page(link: str | None) -> tuple[str, str] | None:
    """Address and cursor of the next page; None at the end.

    The link is there on the last page too: only results="true" says that something follows.
    """
    for url, rest in _LINK.findall((link or "")[:10_000]):
        if 'rel="next"' in rest:
            cursor = _CURSOR.search(rest)
            return (url, cursor[1]) if cursor and 'results="true"' in rest else None
    return None
