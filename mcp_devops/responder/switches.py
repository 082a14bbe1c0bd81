"""What people switch by hand, for all replicas at once: freezes, and the storm breaker.

A switch is one row, read anew each time; setting it and its journal entry are one transaction.
"""

from __future__ import annotations

import re
from datetime import datetime

from mcp_devops.errors import InvalidArguments
from mcp_devops.gateway.acts import REASON_CHARS, breaker_in, set_breaker_in
from mcp_devops.gateway.freezes import (
    Freeze,
    freezes_in,
    frozen_error,
    frozen_in,
    packed,
    switch_name,
)
from mcp_devops.journal.connection import Connection
from mcp_devops.journal.database import Database
from mcp_devops.journal.entry import EntryKind
from mcp_devops.journal.journal import Journal
from mcp_devops.model.target import Workload
from mcp_devops.response_policy.limits import Breaker

_PATTERN = re.compile(r"[a-z0-9*?\[\]!-]{1,63}")


async def is_frozen(db: Database, target: Workload, now: datetime) -> bool:
    """Whether nothing automatic may be done to a workload. Ask again right before acting."""
    return await frozen_by(db, target, now) is not None


async def frozen_by(db: Database, target: Workload, now: datetime) -> Freeze | None:
    """The freeze that holds for a workload, if there is one."""
    return await db.read(lambda connection: frozen_in(connection, target, now))


async def require_unfrozen(db: Database, target: Workload, now: datetime) -> None:
    """Refuse what is automatic while a freeze holds; to be called right before it is sent.

    Raises:
        PreconditionFailed: A freeze holds for the workload.
    """
    freeze = await frozen_by(db, target, now)
    if freeze is not None:
        raise frozen_error(freeze)


async def freezes(db: Database, now: datetime) -> list[Freeze]:
    """All freezes in force, oldest first."""
    return await db.read(lambda connection: freezes_in(connection, now))


async def freeze(
    db: Database,
    journal: Journal,
    *,
    now: datetime,
    who: str,
    reason: str,
    pattern: str | None = None,
    until: datetime | None = None,
) -> Freeze:
    """Freeze everything automatic, or what is in namespaces of a pattern. The newest word counts.

    Raises:
        InvalidArguments: There is no reason, the pattern fits no namespace, or the end is past.
    """
    reason = " ".join(reason.split())[:REASON_CHARS]
    if not reason:
        raise InvalidArguments("A freeze needs a reason.", fix="Say why: --reason TEXT.")
    if until is not None and until <= now:
        raise InvalidArguments("The freeze would be over already.", fix="Give a later end.")
    _check(pattern)
    made = Freeze(pattern=pattern, reason=reason, by_whom=who, at=now, until=until)

    def write(connection: Connection) -> None:
        kept = packed(reason, until)
        _set(connection, switch_name(pattern), is_on=True, who=who, reason=kept, now=now)
        journal.append_in(
            connection,
            EntryKind.NOTE,
            actor=who,
            subject=switch_name(pattern),
            body={"what": made.says(), "freeze": made.model_dump(mode="json")},
        )

    await db.run(write)
    return made


async def unfreeze(
    db: Database,
    journal: Journal,
    *,
    now: datetime,
    who: str,
    pattern: str | None = None,
    every: bool = False,
) -> list[Freeze]:
    """Lift one freeze, or every one.

    Args:
        db: The open state.
        journal: Where it is written down.
        now: The moment.
        who: Who lifts it.
        pattern: The pattern it was set with; null: the one for all namespaces.
        every: All freezes instead.

    Returns:
        What was lifted; empty: there was none.
    """

    def write(connection: Connection) -> list[Freeze]:
        lifted = [f for f in freezes_in(connection, now) if every or f.pattern == pattern]
        for old in lifted:
            name = switch_name(old.pattern)
            _set(connection, name, is_on=False, who=who, reason=packed("lifted", None), now=now)
            journal.append_in(
                connection,
                EntryKind.NOTE,
                actor=who,
                subject=name,
                body={"what": f"lifted: {old.says()}", "freeze": old.model_dump(mode="json")},
            )
        return lifted

    return await db.run(write)


async def breaker_of(db: Database) -> Breaker:
    """The breaker's switch as it was last set. `limits.is_open` says whether it is open."""
    return await db.read(breaker_in)


async def close_breaker(
    db: Database, journal: Journal, *, now: datetime, who: str, reason: str = ""
) -> None:
    """Close the breaker. What the last hour has seen still counts for the hourly limit."""
    why = reason or "closed by a person"
    await db.run(
        lambda connection: set_breaker_in(
            connection, journal, is_open=False, now=now, who=who, reason=why
        )
    )


def _set(
    connection: Connection, name: str, *, is_on: bool, who: str, reason: str, now: datetime
) -> None:
    connection.execute(
        "INSERT INTO switches (name, is_on, by_whom, reason, at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET is_on = excluded.is_on, by_whom = excluded.by_whom,"
        " reason = excluded.reason, at = excluded.at",
        (name, int(is_on), who, reason, now.isoformat()),
    )


def _check(pattern: str | None) -> None:
    if pattern is not None and not _PATTERN.fullmatch(pattern):
        raise InvalidArguments(
            f"{pattern[:80]!r} is not a pattern of namespaces.",
            fix="Use small letters, digits, - and the wildcards * ? [ ], at most 63 characters.",
        )
