"""What is refused before a run: providers, external programs and local builds nobody allowed.

Protected: a provider is executed only if its address fits the allowed patterns, by the lock file
as the program itself reads it; the `external` provider and local provider builds only where a
setting allows them. Not protected: providers are programs with the server's rights, so that
whoever can write below a root, or publish an allowed provider, can run code; allowed providers
may use the network, and `file()` may read what the server's user may.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from mcp_devops.errors import NotConfigured, PermissionDenied
from mcp_devops.integrations.terraform.settings import TerraformSettings
from mcp_devops.integrations.terraform.sources import external_data

SOURCE = "terraform"
PROTECTION = (
    "Checked before the run: provider addresses, external data sources, local builds. Not"
    " confined: the code of allowed providers."
)
"""The note that every plan carries."""
_ADDRESS = re.compile(r"[A-Za-z0-9.-]+(?::\d+)?/[\w-]+/[\w-]+")
_BUILT_IN = "terraform.io/builtin/terraform"


def check_cli_config(settings: TerraformSettings) -> None:
    """Refuse a CLI configuration that cannot be read or replaces providers unasked.

    Raises:
        NotConfigured: It does not exist, or has dev_overrides that no setting allows.
    """
    path = settings.cli_config_file
    if path is None:
        return
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as problem:
        raise NotConfigured(
            f"The CLI configuration cannot be read ({type(problem).__name__}).",
            fix="Correct MCP_DEVOPS_TERRAFORM__CLI_CONFIG_FILE.",
            source=SOURCE,
        ) from problem
    if "dev_overrides" in text and not settings.allow_dev_overrides:
        raise NotConfigured(
            "The CLI configuration replaces providers by local builds (dev_overrides).",
            fix="Remove them, or set MCP_DEVOPS_TERRAFORM__ALLOW_DEV_OVERRIDES=true.",
            source=SOURCE,
        )


def check_providers(addresses: Iterable[str], settings: TerraformSettings) -> None:
    """Refuse providers that no pattern allows.

    Raises:
        PermissionDenied: At least one may not be executed.
    """
    refused = sorted(a for a in addresses if not _allowed(a, settings.allowed_providers))
    if refused:
        raise PermissionDenied(
            f"The directory uses {len(refused)} provider(s) that may not be executed here.",
            fix="If they are trusted, add them to MCP_DEVOPS_TERRAFORM__ALLOWED_PROVIDERS.",
            source=SOURCE,
            providers=refused[:20],
        )


def check_external(directory: Path, addresses: Iterable[str], settings: TerraformSettings) -> None:
    """Refuse configurations that run programs through the `external` provider.

    Raises:
        PermissionDenied: There is such a block, or such a provider is installed.
    """
    if settings.allow_external_data:
        return
    places = external_data(directory)
    installed = [a for a in addresses if a.rpartition("/")[2] == "external"]
    if places or installed:
        where = f" ({', '.join(places[:5])})" if places else ""
        raise PermissionDenied(
            f"The configuration runs programs by data sources of type external{where}.",
            fix="Remove them, or set MCP_DEVOPS_TERRAFORM__ALLOW_EXTERNAL_DATA=true.",
            source=SOURCE,
            places=places[:20],
        )


def _allowed(address: str, patterns: Iterable[str]) -> bool:
    if address == _BUILT_IN:
        return True
    return _ADDRESS.fullmatch(address) is not None and any(
        fnmatchcase(address, pattern) for pattern in patterns
    )
