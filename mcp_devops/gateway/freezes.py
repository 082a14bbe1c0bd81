"""Whether everything automatic is frozen: read inside the transaction that would begin an action.

A freeze is a row of `switches`: `freeze` for all namespaces, `freeze:PATTERN` for some. Its reason
column holds JSON with the reason and the end; whatever cannot be read counts as frozen.
"""

from __future__ import annotations

import json
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from mcp_devops.errors import PreconditionFailed
from mcp_devops.journal.connection import Connection
from mcp_devops.model.record import Moment, Record
from mcp_devops.model.target import Workload

FREEZE = "freeze"
"""Name of the switch for all namespaces; with a colon and a pattern: for those that fit."""


class Freeze(Record):
    """A freeze in force: nothing automatic is executed; people still may act."""

    pattern: str | None = None
    """Namespaces it holds for; null: all."""
    reason: str
    """Why."""
    by_whom: str
    """Who set it."""
    at: Moment
    """Since when."""
    until: Moment | None = None
    """When it ends by itself; null: when somebody lifts it."""

    def holds_for(self, target: Workload) -> bool:
        """Whether it is about this workload."""
        return self.pattern is None or fnmatchcase(target.namespace, self.pattern)

    def says(self) -> str:
        """The freeze in one line."""
        where = "everywhere" if self.pattern is None else f"in {self.pattern}"
        end = f" until {self.until:%Y-%m-%d %H:%M} UTC" if self.until else ""
        return f"frozen {where} by {self.by_whom} since {self.at:%Y-%m-%d %H:%M} UTC{end}: " + (
            self.reason
        )


def switch_name(pattern: str | None) -> str:
    """Name of the switch of a freeze."""
    return FREEZE if pattern is None else f"{FREEZE}:{pattern}"


def packed(reason: str, until: datetime | None) -> str:
    """What the reason column of a freeze holds."""
    return json.dumps({"reason": reason, "until": until.isoformat() if until else None})


def freezes_in(connection: Connection, now: datetime) -> list[Freeze]:
    """All freezes in force, oldest first."""
    rows = connection.execute(
        "SELECT name, by_whom, reason, at FROM switches WHERE is_on <> 0"
        " AND (name = ? OR name LIKE ?) ORDER BY at, name",
        (FREEZE, f"{FREEZE}:%"),
    ).fetchall()
    found = [_from_row(row, now) for row in rows]
    return [freeze for freeze in found if freeze.until is None or freeze.until > now]


def frozen_in(connection: Connection, target: Workload, now: datetime) -> Freeze | None:
    """The oldest freeze that holds for a workload, if there is one."""
    return next((f for f in freezes_in(connection, now) if f.holds_for(target)), None)


def require_unfrozen_in(connection: Connection, target: Workload, now: datetime) -> None:
    """Refuse what is automatic while a freeze holds.

    Raises:
        PreconditionFailed: A freeze holds for the workload.
    """
    freeze = frozen_in(connection, target, now)
    if freeze is not None:
        raise frozen_error(freeze)


def frozen_error(freeze: Freeze) -> PreconditionFailed:
    """The error of an automatic action that meets a freeze."""
    lift = "" if freeze.pattern is None else f" --namespace '{freeze.pattern}'"
    return PreconditionFailed(
        f"Nothing automatic is done: {freeze.says()}.",
        fix=f"A person may still approve it, or lift the freeze: `mcp-devops unfreeze{lift}`.",
        freeze=freeze.model_dump(mode="json"),
    )


def _from_row(row: Any, now: datetime) -> Freeze:
    _, _, pattern = str(row["name"]).partition(":")
    reason, until = str(row["reason"]), None
    try:
        kept = json.loads(reason)
        reason = str(kept["reason"])
        until = datetime.fromisoformat(kept["until"]) if kept["until"] else None
        until = until if until is None or until.tzinfo else None
    except (ValueError, KeyError, TypeError):
        until = None
    return Freeze(
        pattern=pattern or None,
        reason=reason,
        by_whom=str(row["by_whom"]),
        at=_moment(row["at"], now),
        until=until,
    )


def _moment(text: Any, now: datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return now
    return moment if moment.tzinfo else now
