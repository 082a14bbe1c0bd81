"""The environment a run gets: an allow-list, never what the server itself was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from mcp_devops.settings import ENV_PREFIX
from mcp_devops.text.secrets import is_secret_name

BASE = (
    *("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
"""Variables every run gets: to find programs, credentials files and the network."""

FORBIDDEN = (
    f"{ENV_PREFIX}*",
    *("TF_CLI_ARGS*", "TF_LOG*", "TF_REATTACH_PROVIDERS", "TF_WORKSPACE", "TF_DATA_DIR"),
    *("TF_CLI_CONFIG_FILE", "TERRAFORM_CONFIG", "TF_INPUT", "TF_IN_AUTOMATION"),
    *("TF_PLUGIN_CACHE_DIR", "LD_*", "DYLD_*"),
)
"""Patterns that no setting can pass on: our own settings, and what would change what is run."""


def passed(names: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that the setting `pass_env` selects, without the forbidden ones."""
    return {
        name: value
        for name, value in environ.items()
        if any(fnmatchcase(name, pattern) for pattern in names)
        and not any(fnmatchcase(name, pattern) for pattern in FORBIDDEN)
    }


def environment(
    names: Sequence[str],
    environ: Mapping[str, str],
    cli_config: Path,
    workspace: str | None = None,
) -> dict[str, str]:
    """Everything a run sees.

    Args:
        names: The setting `pass_env`.
        environ: The server's own environment.
        cli_config: CLI configuration to use in place of the user's.
        workspace: Workspace to select; None: the directory's own.
    """
    result = {name: environ[name] for name in BASE if name in environ}
    result |= passed(names, environ)
    result |= {
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
        "CHECKPOINT_DISABLE": "1",
        "TF_CLI_CONFIG_FILE": str(cli_config),
        "NO_COLOR": "1",
    }
    if workspace is not None:
        result["TF_WORKSPACE"] = workspace
    return result


def secret_values(names: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Values of passed variables whose names say secret: masked wherever they appear."""
    return [value for name, value in passed(names, environ).items() if is_secret_name(name)]
