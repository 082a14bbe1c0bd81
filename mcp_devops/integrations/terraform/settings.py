"""Which Terraform or OpenTofu is run, where it may run, and what it may be given."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from mcp_devops.settings import IntegrationSettings, Names, Pairs


class TerraformSettings(IntegrationSettings):
    """The `[terraform]` table; variables start with MCP_DEVOPS_TERRAFORM__."""

    table = "terraform"

    binary: str = Field("terraform", min_length=1, max_length=4096)
    """Program: terraform, tofu, or a path to either."""
    roots: Names = ()
    """Directories in which configurations may be read and planned; empty: the integration is
    off. Providers installed below them are executed, so name only directories you trust."""
    deadline_s: float = Field(50, gt=0, le=570)
    """Seconds one run may take; MCP clients commonly give up at 60."""
    stop_grace_s: float = Field(5, gt=0, le=60)
    """Seconds between the two interrupts and the kill of a run that must end; an interrupted
    Terraform 1.11.4 was measured to need 2 to 2.5 s."""
    lock_timeout_s: int = Field(30, ge=0, le=300)
    """Seconds to wait for the state lock, where a call asks for the lock."""
    allowed_providers: Names = ("registry.terraform.io/*", "registry.opentofu.org/*")
    """Patterns of provider addresses (host/namespace/type) that may be executed."""
    allow_external_data: bool = False
    """Whether configurations may use the `external` provider, which runs any program."""
    allow_dev_overrides: bool = False
    """Whether cli_config_file may replace providers by local builds."""
    cli_config_file: Path | None = None
    """Terraform's CLI configuration; unset: an empty one, never the user's own."""
    pass_env: Names = ()
    """Variables handed to the program, names or patterns: AWS_*, TF_VAR_region. Beside them it
    sees PATH, HOME, LANG, TMPDIR, proxies and certificate paths, and nothing else."""
    investigate: bool = True
    """Whether an investigation looks for drift, next to the tool of its own."""
    services: Pairs = Field(default_factory=dict)
    """Root of each service, SERVICE=DIRECTORY; * for all others. Not needed with one root."""
    reuse_s: float = Field(180, ge=0, le=3600)
    """Seconds for which an investigation uses the last plan of a root again."""
    state_dir: Path | None = None
    """Directory of copied or replicated state files, which are read without running anything."""
