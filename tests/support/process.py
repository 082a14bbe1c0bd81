"""The real server as a process, with a cluster that cannot be reached unless a test gives one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mcp import StdioServerParameters

UNREACHABLE = """\
apiVersion: v1
kind: Config
current-context: nowhere
clusters: [{name: nowhere, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: nobody, user: {token: "not-a-real-token"}}]
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody, namespace: shop}}]
"""


def environment(state_dir: Path, **more: str) -> dict[str, str]:
    """The process's environment: nothing of ours leaks in from outside."""
    kubeconfig = state_dir / "kubeconfig"
    if not kubeconfig.exists():
        kubeconfig.write_text(UNREACHABLE, encoding="utf-8")
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith("MCP_DEVOPS_") and k not in ("KUBECONFIG", "PROMETHEUS_URL")
    }
    return {**kept, "KUBECONFIG": str(kubeconfig), "PYTHONWARNINGS": "error", **more}


def command(*arguments: str, state_dir: Path) -> list[str]:
    """`mcp-devops serve` with these arguments."""
    return [
        *(sys.executable, "-m", "mcp_devops", "serve"),
        *("--state-dir", str(state_dir), *arguments),
    ]


def stdio(state_dir: Path, *arguments: str, **more: str) -> StdioServerParameters:
    """Parameters with which a client starts the server itself."""
    first, *rest = command(*arguments, state_dir=state_dir)
    return StdioServerParameters(command=first, args=rest, env=environment(state_dir, **more))
