"""Program settings, and the base class of every integration's settings.

A value comes, in this order, from a command-line option, an environment variable, the TOML file,
the default. The server's own table is `[server]` (variables `MCP_DEVOPS_<FIELD>`); an
integration owns the table of its name (`MCP_DEVOPS_<NAME>__<FIELD>`). Nothing central lists them.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from mcp_devops.errors import NotConfigured

ENV_PREFIX = "MCP_DEVOPS_"
CONFIG_VARIABLE = "MCP_DEVOPS_CONFIG"
"""Names the TOML file; without it `mcp-devops.toml` in the working directory is read, if there."""


def _split(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Several names; in an environment variable separated by commas."""


def _split_pairs(value: Any) -> Any:
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",") if part.strip()]
        if any("=" not in part for part in parts):
            raise ValueError("write NAME=VALUE pairs, separated by commas")
        return {k.strip(): v.strip() for k, _, v in (p.partition("=") for p in parts)}
    return value


Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(_split_pairs)]
"""A table of names; in an environment variable NAME=VALUE pairs separated by commas."""


def config_file() -> Path | None:
    """The TOML file in force, or None.

    Raises:
        NotConfigured: MCP_DEVOPS_CONFIG names a file that is not there.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        path = Path(named)
        if not path.is_file():
            raise NotConfigured(
                f"{CONFIG_VARIABLE} names a file that does not exist: {named!r}.",
                fix=f"Correct {CONFIG_VARIABLE} or unset it.",
            )
        return path
    path = Path("mcp-devops.toml")
    return path if path.is_file() else None


def _read_config() -> dict[str, Any]:
    path = config_file()
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise NotConfigured(
            f"{path} is not valid TOML: {problem}.", fix="Correct the file and start again."
        ) from problem
    except OSError as problem:
        raise NotConfigured(
            f"{path} cannot be read: {problem.strerror}.", fix="Correct its place or its rights."
        ) from problem


class OwnTable(BaseSettings):
    """Settings read from one table of the TOML file and one prefix of the environment."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )
    table: ClassVar[str]

    @classmethod
    def env_prefix(cls) -> str:
        """Prefix of this table's environment variables."""
        return ENV_PREFIX if cls.table == "server" else f"{ENV_PREFIX}{cls.table.upper()}__"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, environment, the table of the TOML file."""
        table = _read_config().get(cls.table, {})
        if not isinstance(table, dict):
            raise NotConfigured(
                f"[{cls.table}] of the settings file is not one table.",
                fix=f"Write its keys under one line [{cls.table}].",
            )
        return (
            init_settings,
            EnvSettingsSource(settings_cls, env_prefix=cls.env_prefix()),
            InitSettingsSource(settings_cls, init_kwargs=table),
        )

    @classmethod
    def load(cls, **options: Any) -> Self:
        """Read and check the settings.

        Raises:
            NotConfigured: A value is out of bounds or a key unknown. The value is not repeated:
                it may be a secret.
        """
        try:
            return cls(**options)
        except ValidationError as problem:
            wrong = "; ".join(
                f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problem.errors()
            )
            raise NotConfigured(
                f"Settings of [{cls.table}] are not valid: {wrong}.",
                fix=f"Known keys: {', '.join(cls.model_fields)}. "
                f"In the environment they start with {cls.env_prefix()}.",
            ) from problem


class IntegrationSettings(OwnTable):
    """Base of an integration's settings; `table` is the integration's name."""


class ServerSettings(OwnTable):
    """What the whole program obeys."""

    table = "server"

    allow_writes: Names = ()
    """Namespace patterns (`shop`, `team-*`) in which change tools may run. Empty: read-only."""
    automatic_namespaces: Names = ()
    """Namespace patterns in which policy alone may approve a rollback. Empty: a person always."""
    approval_channels: Names = ("elicitation", "terminal", "policy")
    """Who may answer: a dialog of the client, `mcp-devops approve`, the policy."""
    approval_ttl_s: float = Field(600, ge=1, le=3600)
    """Seconds an approval waits before it is a no; 10 minutes by requirement A12."""
    toolsets: Names = ()
    """Tool sets to publish; empty: every one that is configured."""
    read_deadline_s: float = Field(60, gt=0, le=600)
    """Seconds a read tool may take; MCP clients commonly give up at 60."""
    change_deadline_s: float = Field(600, gt=0, le=3600)
    """Seconds a change tool may take with its verification."""
    state_dir: Path | None = None
    """Directory of the journal; default `$XDG_STATE_HOME/mcp-devops`."""
    database_url: SecretStr | None = None
    """PostgreSQL for many replicas: `postgresql://USER:PASSWORD@HOST:5432/DATABASE`; then journal,
    approvals and incidents are kept there, and not in `state_dir`."""
    policy_file: Path | None = None
    """TOML file with decision policy numbers that differ from the defaults."""
    log_level: str = Field("WARNING", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """Level of the log on stderr."""
    request_state_key: str | None = Field(None, min_length=32, repr=False)
    """Key that seals a 2026-07-28 client's pending question; the same on all replicas."""


def unknown_tables(tables: Iterable[type[OwnTable]]) -> list[str]:
    """Tables and loose keys of the TOML file that nobody owns: a typo that would be ignored.

    Raises:
        NotConfigured: The file cannot be read.
    """
    return sorted(set(_read_config()) - {table.table for table in tables})


def unknown_variables(tables: Iterable[type[OwnTable]], environ: Mapping[str, str]) -> list[str]:
    """Variables that start with our prefix and match no field: a typo that would be ignored."""
    known = {CONFIG_VARIABLE}
    for table in tables:
        known |= {f"{table.env_prefix()}{name.upper()}" for name in table.model_fields}
    return sorted(v for v in environ if v.startswith(ENV_PREFIX) and v.upper() not in known)
