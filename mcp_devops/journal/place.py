"""Where the state is: a file, or a PostgreSQL database whose password is never shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote

from mcp_devops.errors import NotConfigured

SCHEMA = "mcp_devops"
"""The schema of all tables on PostgreSQL: a database may be shared with other programs."""

SCHEMES = ("postgresql://", "postgres://")
"""What a PostgreSQL URL begins with; libpq takes both."""


def default_state_dir(environment: Mapping[str, str] | None = None) -> Path:
    """Where state lives unless told otherwise: `$XDG_STATE_HOME/mcp-devops`.

    Args:
        environment: Environment variables; None: those of this process. An empty or relative
            `XDG_STATE_HOME` counts as unset, as the XDG specification asks: `~/.local/state`.
    """
    variables = os.environ if environment is None else environment
    base = variables.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):
        home = variables.get("HOME") or os.path.expanduser("~")
        base = os.path.join(home, ".local", "state")
    return Path(base) / "mcp-devops"


def default_database_path(environment: Mapping[str, str] | None = None) -> Path:
    """The state file: `state.db` in `default_state_dir`."""
    return default_state_dir(environment) / "state.db"


class PostgresUrl:
    """A `postgresql://` URL. Its text form has neither password nor query.

    Args:
        url: The whole URL, as libpq takes it.

    Raises:
        NotConfigured: It is no PostgreSQL URL. The text is not repeated.
    """

    def __init__(self, url: str) -> None:
        scheme, found, rest = url.strip().partition("://")
        if not found or f"{scheme}://" not in SCHEMES:
            raise NotConfigured(
                "The database URL does not begin with postgresql://.",
                fix="Set MCP_DEVOPS_DATABASE_URL to postgresql://USER:PASSWORD@HOST:5432/DATABASE,"
                " or unset it to keep the state in a file.",
                source="journal",
            )
        self._url: Final = f"postgresql://{rest}"
        front, _, query = rest.partition("?")
        authority, slash, path = front.partition("/")
        login, _, host = authority.rpartition("@")
        user, _, password = login.partition(":")
        written = [v for k, v in parse_qsl(query) if "password" in k]
        self._passwords: Final = (password, unquote(password), *written, *map(quote, written))
        shown = f"{user}@{host}" if user else host
        self._shown: Final = f"postgresql://{shown}{slash}{path}"

    @property
    def reveal(self) -> str:
        """The URL with its password, for libpq alone."""
        return self._url

    @property
    def secrets(self) -> tuple[str, ...]:
        """What a redactor must know: the URL, and its passwords, percent-encoded and plain."""
        return tuple(dict.fromkeys(s for s in (self._url, *self._passwords) if s))

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PostgresUrl) and other._url == self._url

    def __hash__(self) -> int:
        return hash(self._url)


Place = Path | PostgresUrl
"""A state file, or a database."""


def place_of(where: Place | str) -> Place:
    """A path, or a PostgreSQL URL, from what a caller gave.

    Raises:
        NotConfigured: It is a URL of something else.
    """
    if isinstance(where, str):
        return PostgresUrl(where) if "://" in where else Path(where)
    return where
