"""Remembers the tool list of the last start, so that the next one need not load every room first.

Agents start the server with each of their sessions and want its list at once. The list depends on
the code, the settings and which systems are configured; a fingerprint of all that guards it. Where
it fits, the remembered list is told, and the rooms are opened behind it; where it does not, the
rooms come first, as ever.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp import types as t

import mcp_devops
from mcp_devops.errors import DevOpsError
from mcp_devops.journal.database import default_state_dir
from mcp_devops.settings import ENV_PREFIX, config_file

if TYPE_CHECKING:
    from mcp_devops.settings import ServerSettings

log = logging.getLogger(__name__)

DECIDES = (
    "KUBECONFIG",
    "KUBERNETES_SERVICE_HOST",
    "HOME",
    "PATH",
    "DOCKER_HOST",
    "XDG_CONFIG_HOME",
)
"""Variables besides our own that decide which systems are configured."""
SOCKETS = ("/var/run/docker.sock", "/var/run/secrets/kubernetes.io/serviceaccount/token")
"""Files whose presence decides it."""


def fingerprint(settings: ServerSettings, environ: Mapping[str, str]) -> str:
    """What the list depends on, as a digest; secrets go into it and not beside it.

    Raises:
        NotConfigured: The settings file cannot be read.
    """
    own = {k: v for k, v in environ.items() if k.upper().startswith(ENV_PREFIX)}
    named = [p for p in environ.get("KUBECONFIG", "").split(os.pathsep) if p]
    files = [*(named or [os.path.expanduser("~/.kube/config")]), *SOCKETS]
    path = config_file()
    parts = [
        mcp_devops.__version__,
        _code_stamp(),
        settings.model_dump_json(),
        sorted(own.items()),
        [environ.get(name) for name in DECIDES],
        [os.path.exists(f) for f in files],
        path.read_text(encoding="utf-8") if path else None,
    ]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def _code_stamp() -> int:
    """The newest change to the package's code: an edit in place must not be hidden."""
    return max(_modified(Path(mcp_devops.__file__).parent))


def _modified(folder: Path) -> Iterator[int]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if entry.name != "__pycache__":
                    yield from _modified(Path(entry.path))
            elif entry.name.endswith(".py"):
                yield entry.stat().st_mtime_ns


def _path(settings: ServerSettings) -> Path:
    return (settings.state_dir or default_state_dir()) / "tools.json"


def remembered(settings: ServerSettings, environ: Mapping[str, str]) -> list[t.Tool] | None:
    """The list of the last start under the same circumstances, or None."""
    try:
        stored = json.loads(_path(settings).read_text(encoding="utf-8"))
        if stored["fingerprint"] != fingerprint(settings, environ):
            return None
        return [t.Tool.model_validate(tool) for tool in stored["tools"]]
    except (OSError, ValueError, KeyError, TypeError, DevOpsError):
        return None  # absent, damaged or of another form: the rooms will tell


def wire(tools: Sequence[t.Tool]) -> list[dict[str, Any]]:
    """A list as it is told, to be kept or compared."""
    return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]


def remember(settings: ServerSettings, environ: Mapping[str, str], tools: Sequence[t.Tool]) -> None:
    """Keep a list for the next start. Where that cannot be, the next start is as slow as this."""
    kept = {"fingerprint": fingerprint(settings, environ), "tools": wire(tools)}
    content = json.dumps(kept)
    path = _path(settings)
    spare = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        spare.write_text(content, encoding="utf-8")
        spare.replace(path)
    except OSError as problem:
        log.info("the tool list is not kept for the next start: %s", problem)
