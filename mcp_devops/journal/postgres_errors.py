"""What PostgreSQL's refusals mean for a person, by SQLSTATE. Pure but for psycopg's classes."""

from __future__ import annotations

import psycopg

from mcp_devops.errors import (
    CredentialsRejected,
    DevOpsError,
    NotConfigured,
    PermissionDenied,
    Unsupported,
    UpstreamUnavailable,
)
from mcp_devops.journal.connection import ConstraintBroken
from mcp_devops.journal.place import SCHEMA, PostgresUrl
from mcp_devops.journal.postgres_rows import Silence

_AGAIN = frozenset({"40001", "40P01"})
_ENDED = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})
_BAD_LOGIN = ("password authentication failed", "no password supplied", "pg_hba.conf")
_NO_PLACE = ("does not exist",)
_FIX_DOWN = "Check that the PostgreSQL server runs and can be reached from here, then call again."


def is_lost(error: psycopg.Error, raw: psycopg.Connection[object] | None) -> bool:
    """Whether the connection ended, so that nothing more can be asked over it."""
    state = error.sqlstate or ""
    gone = state in _ENDED or state.startswith("08") or isinstance(error, Silence)
    return gone or raw is None or raw.closed


def may_repeat(error: psycopg.Error) -> bool:
    """Whether PostgreSQL itself asks to run the transaction again."""
    return (error.sqlstate or "") in _AGAIN


def refused_connection(error: psycopg.Error, place: PostgresUrl) -> DevOpsError:
    """Why no connection could be made."""
    text = safe_text(error, place)
    state = error.sqlstate or ""
    if state.startswith("28") or any(mark in text for mark in _BAD_LOGIN):
        return CredentialsRejected(
            f"PostgreSQL does not let us in at {place}.",
            fix="Correct user and password in MCP_DEVOPS_DATABASE_URL (a password with special"
            " characters is percent-encoded), or the server's pg_hba.conf.",
            source="journal",
            upstream=text,
        )
    if state == "3D000" or any(mark in text for mark in _NO_PLACE):
        return NotConfigured(
            f"PostgreSQL has no such database or user: {place}.",
            fix="Create it (CREATE DATABASE ...), or correct MCP_DEVOPS_DATABASE_URL.",
            source="journal",
            upstream=text,
        )
    return UpstreamUnavailable(
        f"PostgreSQL at {place} cannot be reached; nothing was read or written.",
        fix=_FIX_DOWN,
        source="journal",
        upstream=text,
    )


def explained(
    error: psycopg.Error, place: PostgresUrl, *, read_only: bool
) -> DevOpsError | ConstraintBroken | None:
    """What a failed statement means; None: a bug of ours, to be raised as it is."""
    state = error.sqlstate or ""
    text = safe_text(error, place)
    if state.startswith("23"):
        return ConstraintBroken(text)
    if state == "42501":
        return PermissionDenied(
            f"The PostgreSQL user of {place} may not do this.",
            fix=f"Grant CREATE on the database, or on the schema {SCHEMA}, for the first start;"
            " later SELECT and INSERT on all its tables, UPDATE and DELETE on all but entries.",
            source="journal",
            upstream=text,
        )
    if state == "25006" and read_only:
        return NotConfigured(
            "A read of the state tried to write.", fix="Report this bug.", source="journal"
        )
    if state in {"25006", "0A000"}:
        return UpstreamUnavailable(
            f"PostgreSQL at {place} is read-only: a standby, or set so; nothing was written.",
            fix="Point MCP_DEVOPS_DATABASE_URL at the primary"
            " (target_session_attrs=read-write finds it among several hosts), then call again.",
            source="journal",
            upstream=text,
        )
    if state in {"55P03", "57014"}:
        return UpstreamUnavailable(
            f"Another transaction has held the state at {place} for too long; nothing was written.",
            fix="See pg_stat_activity for the session that holds it, then call again.",
            source="journal",
            upstream=text,
        )
    if state.startswith("42") or (not state and isinstance(error, psycopg.ProgrammingError)):
        return None
    if state.startswith("XX"):
        return Unsupported(
            f"PostgreSQL reports damaged data at {place}.",
            fix="Restore the database from a backup; keep the damaged one.",
            source="journal",
            upstream=text,
        )
    return UpstreamUnavailable(
        f"The state at {place} could not be used; nothing was written.",
        fix=_FIX_DOWN,
        source="journal",
        upstream=text,
    )


def safe_text(error: psycopg.Error, place: PostgresUrl) -> str:
    """The server's first line, without what the URL keeps secret and without row contents."""
    text = error.diag.message_primary or str(error)
    for secret in place.secrets:
        text = text.replace(secret, "[REDACTED:configured]")
    return " ".join(text.split())
