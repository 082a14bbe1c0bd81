"""`mcp-devops freeze | unfreeze`: stop everything automatic at once, and let it go on."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcp_devops.cli.recording import AsJson, open_records, tell
from mcp_devops.cli.serving import StateDir
from mcp_devops.toolkit.local_user import local_user

if TYPE_CHECKING:
    from mcp_devops.gateway.freezes import Freeze
    from mcp_devops.response_policy.limits import Breaker

LONGEST = timedelta(days=30)
"""A freeze for longer is one without an end, and somebody should lift it."""

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "min": "minutes", "s": "seconds"}
_LENGTH = re.compile(r"(?:[0-9]{1,6}(?:d|h|min|m|s))+")
_PART = re.compile(r"([0-9]+)(d|h|min|m|s)")

Pattern = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="PATTERN", help="Only there (shop, team-*)."),
]


def freeze(
    reason: Annotated[str, typer.Option("--reason", help="Why; everybody is shown it.")] = "",
    namespace: Pattern = None,
    length: Annotated[
        str | None,
        typer.Option("--for", metavar="LENGTH", help="Ends by itself: 90m, 2h, 1h30m, 3d."),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Only show what is frozen, and the breaker.")
    ] = False,
    as_json: AsJson = False,
    state_dir: StateDir = None,
) -> None:
    """Freeze: nothing automatic is executed from now on, on any replica. People still may act."""
    if status:
        _show_status(state_dir, as_json)
        return
    made = asyncio.run(_freeze(state_dir, reason, namespace, _length(length)))
    says = made.says()
    tell(f"{says[:1].upper()}{says[1:]}", made.model_dump(mode="json"), as_json=as_json)


def unfreeze(
    namespace: Pattern = None,
    every: Annotated[bool, typer.Option("--all", help="Lift every freeze.")] = False,
    breaker: Annotated[
        bool, typer.Option("--breaker", help="Close the storm breaker; freezes stay.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Goes into the record.")] = "",
    as_json: AsJson = False,
    state_dir: StateDir = None,
) -> None:
    """Lift the freeze for all namespaces, or the one of a pattern, or close the breaker.

    Exit code 1: there was nothing to lift.
    """
    if breaker:
        asyncio.run(_close_breaker(state_dir, reason))
        says = "The breaker is closed. What the last hour has seen still counts for the limits."
        tell(says, {"breaker": "closed"}, as_json=as_json)
        return
    lifted, left = asyncio.run(_unfreeze(state_dir, namespace, every))
    lines = [f"Lifted: {f.says()}" for f in lifted] or ["There is no such freeze."]
    lines += [f"Still {f.says()}" for f in left]
    data = {"lifted": _dumped(lifted), "left": _dumped(left)}
    tell("\n".join(lines), data, as_json=as_json)
    if not lifted:
        raise typer.Exit(1)


async def _freeze(
    state_dir: Path | None, reason: str, pattern: str | None, length: timedelta | None
) -> Freeze:
    from mcp_devops.responder import switches

    async with open_records(state_dir) as records:
        return await switches.freeze(
            records.database,
            records.journal,
            now=records.now,
            who=local_user(),
            reason=reason,
            pattern=pattern,
            until=records.now + length if length is not None else None,
        )


async def _unfreeze(
    state_dir: Path | None, pattern: str | None, every: bool
) -> tuple[list[Freeze], list[Freeze]]:
    from mcp_devops.responder import switches

    async with open_records(state_dir) as records:
        lifted = await switches.unfreeze(
            records.database,
            records.journal,
            now=records.now,
            who=local_user(),
            pattern=pattern,
            every=every,
        )
        return lifted, await switches.freezes(records.database, records.now)


async def _close_breaker(state_dir: Path | None, reason: str) -> None:
    from mcp_devops.responder import switches

    async with open_records(state_dir) as records:
        await switches.close_breaker(
            records.database,
            records.journal,
            now=records.now,
            who=local_user(),
            reason=reason,
        )


def _show_status(state_dir: Path | None, as_json: bool) -> None:
    async def look() -> tuple[list[Freeze], Breaker, datetime]:
        from mcp_devops.responder import switches

        async with open_records(state_dir) as records:
            found = await switches.freezes(records.database, records.now)
            return found, await switches.breaker_of(records.database), records.now

    found, breaker, now = asyncio.run(look())
    lines = [f"{f.says()[:1].upper()}{f.says()[1:]}{_left(f, now)}" for f in found]
    lines = lines or ["Nothing is frozen."]
    if breaker.is_open:
        lines.append(f"The breaker is open since {breaker.at:%Y-%m-%d %H:%M} UTC: {breaker.reason}")
    data = {"freezes": _dumped(found), "breaker": breaker.model_dump(mode="json")}
    tell("\n".join(lines), data, as_json=as_json)


def _left(found: Freeze, now: datetime) -> str:
    from mcp_devops.text.people import duration

    return f" ({duration((found.until - now).total_seconds())} left)" if found.until else ""


def _dumped(freezes: list[Freeze]) -> list[dict[str, Any]]:
    return [f.model_dump(mode="json") for f in freezes]


def _length(text: str | None) -> timedelta | None:
    from mcp_devops.errors import InvalidArguments

    if text is None:
        return None
    length = timedelta()
    if _LENGTH.fullmatch(text):
        for number, unit in _PART.findall(text):
            length += timedelta(**{_UNITS[unit]: int(number)})
    if not timedelta() < length <= LONGEST:
        raise InvalidArguments(
            f"--for {text[:40]!r} is not a length of time up to {LONGEST.days} days.",
            fix="Write 90m, 2h, 1h30m or 3d; leave it out for a freeze that somebody lifts.",
        )
    return length
