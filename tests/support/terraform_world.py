"""A real Terraform or OpenTofu with a small provider, a configuration and a world to change."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import venv
from pathlib import Path
from typing import Any

from mcp_devops.integrations.terraform.client import TerraformClient
from mcp_devops.integrations.terraform.settings import TerraformSettings
from mcp_devops.toolkit.clock import SystemClock
from mcp_devops.toolkit.context import Caller, ToolContext

PROVIDER = Path(__file__).with_name("terraform_provider.py")
PASSWORD = "s3cr3t-" + "fake-9417"
MAIN = """\
terraform {
  required_providers {
    demo = { source = "local.test/demo/demo", version = "0.1.0" }
  }
}

provider "demo" {
  root = "CLOUD"
}

variable "pw" {
  type      = string
  default   = "PASSWORD"
  sensitive = true
}

resource "demo_service" "web" {
  name     = "web"
  replicas = 3
  image    = "app:1.0"
  password = var.pw
}

resource "demo_service" "worker" {
  for_each = toset(["a", "b"])
  name     = "worker-${each.key}"
  replicas = 1
  image    = "app:1.0"
}

module "cache" {
  source = "./cache"
}

output "address" {
  value = "https://shop.test"
}

output "pw" {
  value     = var.pw
  sensitive = true
}
"""
CACHE = """\
terraform {
  required_providers {
    demo = { source = "local.test/demo/demo", version = "0.1.0" }
  }
}

# The second block of the file.
resource "demo_service" "redis" {
  name     = "redis"
  replicas = 1
  image    = "redis:7"
}
"""


@functools.cache
def binary() -> str | None:
    """The program these tests run, or None."""
    return shutil.which(os.environ.get("TEST_TERRAFORM", "terraform")) or shutil.which("tofu")


@functools.cache
def interpreter() -> str | None:
    """An interpreter with the provider framework, installed once into the user's cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mcp-devops-terraform"
    base.mkdir(parents=True, exist_ok=True)
    python = base / "provider/bin/python"
    with (base / "lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        works = [str(python), "-c", "import tf.runner"]
        if python.exists() and subprocess.run(works, capture_output=True).returncode == 0:
            return str(python)
        venv.create(base / "provider", with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--retries", "1", "tf==1.2.0"]
        done = subprocess.run(pip, capture_output=True, timeout=300)
        return str(python) if done.returncode == 0 else None


def why_not() -> str | None:
    """Why no real run is possible here, or None."""
    if binary() is None:
        return "no terraform or tofu on PATH"
    if interpreter() is None:
        return "the provider framework (tf==1.2.0) cannot be installed"
    return None


class World:
    """One root module that was applied once, and the world behind it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "root"
        self.cloud = base / "cloud"
        self.temp = base / "temp"
        self.config = base / "cli.tfrc"

    def make(self) -> World:
        mirror = self.base / "mirror/local.test/demo/demo/0.1.0" / _platform()
        (self.root / "cache").mkdir(parents=True)
        for folder in (self.cloud, self.temp, mirror):
            folder.mkdir(parents=True)
        program = mirror / "terraform-provider-demo_v0.1.0"
        program.write_text(f"#!{interpreter()}\n{PROVIDER.read_text()}")
        program.chmod(0o755)
        self.config.write_text(
            "disable_checkpoint = true\nprovider_installation {\n  filesystem_mirror {\n"
            f'    path = "{self.base / "mirror"}"\n  }}\n}}\n'
        )
        main = MAIN.replace("CLOUD", str(self.cloud)).replace("PASSWORD", PASSWORD)
        (self.root / "main.tf").write_text(main)
        (self.root / "cache/main.tf").write_text(CACHE)
        self.tf("init", "-input=false")
        self.tf("apply", "-auto-approve", "-input=false")
        return self

    def copy(self, base: Path) -> World:
        """The same world elsewhere: an apply takes seconds, a copy does not."""
        shutil.copytree(self.base, base, symlinks=True, dirs_exist_ok=True)
        other = World(base)
        for file in (*other.root.glob("*.tf"), other.config):
            file.write_text(file.read_text().replace(str(self.base), str(base)))
        return other

    def tf(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(binary()), *arguments],
            cwd=self.root,
            env=os.environ | {"TF_CLI_CONFIG_FILE": str(self.config), "CHECKPOINT_DISABLE": "1"},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def service(self, name: str, **changes: Any) -> None:
        """Change a service behind Terraform's back."""
        file = self.cloud / f"{name}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    def client(self, **settings: Any) -> TerraformClient:
        given = {
            "binary": str(binary()),
            "roots": (str(self.root),),
            "allowed_providers": ("local.test/demo/*",),
            "cli_config_file": self.config,
            "stop_grace_s": 20,
            **settings,
        }
        return TerraformClient(TerraformSettings(**given), SystemClock())

    def digest(self) -> str:
        """Of every file below the root, names and contents."""
        whole = hashlib.sha256()
        for file in sorted(p for p in self.root.rglob("*") if p.is_file()):
            whole.update(str(file.relative_to(self.root)).encode())
            whole.update(file.read_bytes())
        return whole.hexdigest()

    def processes(self) -> dict[int, str]:
        """Command lines of live processes that run in this world or name it.

        One without a command line has given up its memory: it is gone but for its table entry.
        """
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                state = (place / "stat").read_text().rpartition(")")[2].split()[0]
                where = str((place / "cwd").readlink())
            except (OSError, UnicodeDecodeError):
                continue
            here = str(self.base) in line or where.startswith(str(self.base))
            if state != "Z" and line and here:
                found[int(place.name)] = line
        return found

    def pids(self, command: str) -> list[int]:
        """Processes of the program that run this command."""
        start = f"{binary()} {command} "
        return [pid for pid, line in self.processes().items() if line.startswith(start)]


def context(client: TerraformClient) -> ToolContext[TerraformClient]:
    """A tool's context without other services."""
    services: Any = None
    return ToolContext(client, services, client.clock, Caller("test", "test"), "call")


def _platform() -> str:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    return f"{os.uname().sysname.lower()}_{machine}"
