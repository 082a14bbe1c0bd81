"""The only file that runs Terraform or OpenTofu: read-only commands in allowed directories.

No command here writes state: `plan -refresh-only` compares, `state pull` and `workspace list`
read. `apply`, `init` and `force-unlock` are never run.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread

from mcp_devops.errors import NotConfigured, NotFound, Unsupported
from mcp_devops.integrations.terraform.environment import environment
from mcp_devops.integrations.terraform.failures import failure
from mcp_devops.integrations.terraform.places import file_inside, working_directory
from mcp_devops.integrations.terraform.plan import diagnostics, load
from mcp_devops.integrations.terraform.process import MAX_OUTPUT_BYTES, Output, run
from mcp_devops.integrations.terraform.safety import (
    check_cli_config,
    check_external,
    check_providers,
)
from mcp_devops.integrations.terraform.settings import TerraformSettings
from mcp_devops.integrations.terraform.values import as_map
from mcp_devops.text.clean import clean
from mcp_devops.toolkit.clock import Clock

SOURCE = "terraform"
CONCURRENT = 2
"""Runs under way at once: each starts every provider of its directory, 100 MB and more."""


class Version(NamedTuple):
    """Which program answers."""

    program: str
    """terraform or tofu."""
    version: str
    providers: tuple[str, ...]
    """Addresses of the directory's locked providers."""


class Planned(NamedTuple):
    """What a refresh-only plan left behind."""

    events: bytes
    """Its event lines."""
    plan: Mapping[str, Any]
    """The plan as JSON, with every secret in clear: never to be shown whole."""
    program: str
    version: str


class TerraformClient:
    """Runs one configured program. Nothing is started before the first call.

    The deadline counts for all runs of one call together, from when its turn has come.
    """

    def __init__(self, settings: TerraformSettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self._gate = asyncio.Semaphore(CONCURRENT)
        self.reports: dict[str | None, object] = {}
        """The last drift report of each root that an investigation asked for."""

    @property
    def _program(self) -> str:
        return "tofu" if "tofu" in Path(self.settings.binary).name else "terraform"

    async def close(self) -> None:
        """Nothing is kept open between calls."""

    def directory(self, asked: str | None) -> Path:
        """The real directory a call means.

        Raises:
            As places.working_directory.
        """
        return working_directory(asked, self.settings.roots)

    async def version(self, directory: Path | None = None, until: float | None = None) -> Version:
        """The program's version, and the providers that the directory's lock file selects.

        Raises:
            NotConfigured: It is not installed, or is neither Terraform nor OpenTofu.
        """
        with self._private() as private:
            done = await self._run(["version", "-json"], directory or private, private, until=until)
        said = as_map(load(done.out))
        number = said.get("terraform_version")
        if done.code != 0 or not isinstance(number, str):
            raise NotConfigured(
                "The configured binary does not answer as Terraform or OpenTofu.",
                fix="Correct MCP_DEVOPS_TERRAFORM__BINARY.",
                source=SOURCE,
            )
        return Version(
            self._program, number, tuple(map(str, as_map(said.get("provider_selections"))))
        )

    async def plan(
        self,
        directory: Path,
        workspace: str | None = None,
        var_files: Sequence[str] = (),
        lock: bool = False,
    ) -> Planned:
        """Compare the state with the real world, without changing either.

        Raises:
            PermissionDenied: The directory would run what no setting allows.
            NotFound: The workspace does not exist.
            DevOpsError: As failures.failure says.
        """
        variables = [file_inside(directory, name, "var_files") for name in var_files]
        async with self._gate:
            until = anyio.current_time() + self.settings.deadline_s
            version = await self.version(directory, until)
            check_providers(version.providers, self.settings)
            await anyio.to_thread.run_sync(
                check_external, directory, version.providers, self.settings
            )
            await self._check_workspace(directory, workspace, until)
            with self._private() as private:
                out = private / "plan"
                argv = ["plan", "-refresh-only", "-detailed-exitcode", "-json", "-no-color"]
                argv += ["-input=false", f"-lock={str(lock).lower()}", f"-out={out}"]
                if lock:
                    argv.append(f"-lock-timeout={self.settings.lock_timeout_s}s")
                argv += [f"-var-file={path}" for path in variables]
                done = await self._run(argv, directory, private, workspace, until)
                said = diagnostics(done.out)
                if done.code not in (0, 2) or any(d.severity == "error" for d in said):
                    raise failure(said, done.code, version.program, _text(done.err))
                shown = await self._run(
                    ["show", "-json", "-no-color", str(out)], directory, private, workspace, until
                )
        plan = await anyio.to_thread.run_sync(load, shown.out)
        if shown.code != 0 or not isinstance(plan, dict):
            raise failure([], shown.code, version.program, _text(shown.err))
        return Planned(done.out, plan, version.program, version.version)

    async def state(self, directory: Path, workspace: str | None = None) -> bytes:
        """The whole state of a directory's backend, in clear; no provider is executed.

        `show -json` would execute every provider for its schema, and leaves the serial out.

        Raises:
            NotFound: The workspace does not exist.
            DevOpsError: As failures.failure says.
        """
        async with self._gate:
            until = anyio.current_time() + self.settings.deadline_s
            await self._check_workspace(directory, workspace, until)
            with self._private() as private:
                done = await self._run(["state", "pull"], directory, private, workspace, until)
        if done.code != 0:
            raise failure([], done.code, self._program, _text(done.err))
        return done.out

    def replica(self, name: str) -> bytes:
        """A file of the configured state directory; nothing is run.

        Raises:
            NotConfigured: There is no such directory.
            InvalidArguments: The name leads out of it.
            Unsupported: The file is larger than a state is.
        """
        base = self.settings.state_dir
        if base is None or not base.is_dir():
            raise NotConfigured(
                "No directory of state files is configured.",
                fix="Set MCP_DEVOPS_TERRAFORM__STATE_DIR, or leave state_file out.",
                source=SOURCE,
            )
        path = file_inside(base.resolve(), name, "state_file")
        if path.stat().st_size > MAX_OUTPUT_BYTES:
            raise Unsupported(
                f"The state file is larger than {MAX_OUTPUT_BYTES >> 20} MB.",
                fix="Split the configuration into smaller states.",
                source=SOURCE,
            )
        return path.read_bytes()

    async def _check_workspace(self, directory: Path, asked: str | None, until: float) -> None:
        """A workspace that does not exist plans an empty state and would read as no drift."""
        chosen = asked or selected_workspace(directory)
        if chosen in (None, "default"):
            return
        with self._private() as private:
            done = await self._run(["workspace", "list"], directory, private, until=until)
        if done.code != 0:
            raise failure([], done.code, self._program, _text(done.err))
        known = [line.lstrip("* ").strip() for line in _text(done.out).splitlines()]
        if chosen not in known:
            raise NotFound(
                f"There is no workspace {clean(chosen[:90])!r}.",
                fix="Name one of those that exist, or leave it out.",
                source=SOURCE,
                candidates=[w for w in known if w][:20],
            )

    @contextmanager
    def _private(self) -> Iterator[Path]:
        """A directory only we can read, gone afterwards: a plan file holds secrets in clear."""
        with tempfile.TemporaryDirectory(prefix="mcp-devops-terraform-") as place:
            (Path(place) / "cli.tfrc").touch(mode=0o600)
            yield Path(place)

    def _binary(self) -> str:
        """The absolute path of the program: the working directory must not choose it."""
        found = shutil.which(self.settings.binary)
        if found is None:
            raise NotConfigured(
                "The configured Terraform binary is not there.",
                fix="Install it, or set MCP_DEVOPS_TERRAFORM__BINARY.",
                source=SOURCE,
            )
        return str(Path(found).absolute())

    async def _run(
        self,
        arguments: Sequence[str],
        directory: Path,
        private: Path,
        workspace: str | None = None,
        until: float | None = None,
    ) -> Output:
        settings = self.settings
        check_cli_config(settings)
        config = settings.cli_config_file or private / "cli.tfrc"
        return await run(
            [self._binary(), *arguments],
            directory,
            environment(settings.pass_env, os.environ, config.absolute(), workspace),
            deadline_s=settings.deadline_s
            if until is None
            else max(until - anyio.current_time(), 0.0),
            grace_s=settings.stop_grace_s,
        )


def selected_workspace(directory: Path) -> str | None:
    """The workspace that was last selected in the directory, if one was."""
    try:
        name = (directory / ".terraform/environment").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return name or None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
