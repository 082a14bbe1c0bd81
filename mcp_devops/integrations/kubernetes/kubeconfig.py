"""Kubeconfig files and a pod's own service account, read into plain data. No network here."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp_devops.errors import NotConfigured

if TYPE_CHECKING:
    from mcp_devops.integrations.kubernetes.settings import KubernetesSettings

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a kubelet mounts a pod's token, CA and namespace."""
IN_CLUSTER = "in-cluster"
"""Name of the context made from a pod's service account."""


@dataclass(frozen=True)
class Material:
    """A certificate, key or CA: in a file, or inline."""

    file: Path | None = None
    data: bytes | None = field(default=None, repr=False)

    def read(self) -> bytes:
        """Its bytes, read again at each call: files rotate."""
        if self.data is not None:
            return self.data
        return self.file.read_bytes() if self.file is not None else b""


@dataclass(frozen=True)
class ContextEntry:
    """One context: where its API server is and how to prove who we are.

    `repr` leaves the user out: it holds tokens.
    """

    name: str
    server: str
    namespace: str | None = None
    ca: Material | None = None
    insecure: bool = False
    tls_server_name: str | None = None
    proxy_url: str | None = field(default=None, repr=False)
    user: Mapping[str, Any] = field(default_factory=dict, repr=False)
    user_dir: Path = Path()
    """Directory that relative paths of the user entry start from."""
    cluster_info: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The cluster entry, for plug-ins that ask for it."""


@dataclass(frozen=True)
class Kubeconfig:
    """All contexts, and the current one. A context that is broken says why when it is used."""

    current: str | None
    contexts: Mapping[str, ContextEntry]
    broken: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


def kubeconfig_paths(settings: KubernetesSettings, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The files that would be read, existing or not, in order."""
    named: Sequence[str] = settings.kubeconfig
    if not named:
        named = [p for p in environ.get("KUBECONFIG", "").split(os.pathsep) if p]
    if not named:
        named = ["~/.kube/config"]
    return tuple(Path(p).expanduser() for p in named)


def in_pod(environ: Mapping[str, str]) -> bool:
    """Whether this process runs in a pod that has a service account."""
    return (
        bool(environ.get("KUBERNETES_SERVICE_HOST")) and (SERVICE_ACCOUNT_DIR / "token").is_file()
    )


def load(settings: KubernetesSettings, environ: Mapping[str, str]) -> Kubeconfig:
    """Read and merge the kubeconfig files; without any, the pod's service account.

    Blocking; belongs in a worker thread. The first file that names a context, cluster, user or
    current context wins, as with kubectl.

    Raises:
        NotConfigured: No file is there and this is not a pod, or a file is not a kubeconfig.
    """
    paths = kubeconfig_paths(settings, environ)
    there = tuple(p for p in paths if p.is_file() and p.stat().st_size)
    if not there:
        if in_pod(environ):
            return Kubeconfig(IN_CLUSTER, {IN_CLUSTER: _service_account(environ)})
        raise NotConfigured(
            f"No kubeconfig was found at {', '.join(map(str, paths))}.",
            fix="Set KUBECONFIG, or [kubernetes] kubeconfig in mcp-devops.toml.",
            source="kubernetes",
        )
    import yaml
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.kube_config import KubeConfigMerger

    try:
        merger = KubeConfigMerger(  # type: ignore[no-untyped-call]
            os.pathsep.join(map(str, there))
        )
    except (
        ConfigException,
        yaml.YAMLError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OSError,
    ) as e:
        # The parser's message quotes the file, which holds credentials: only its kind is told.
        raise NotConfigured(
            f"A kubeconfig cannot be read ({type(e).__name__}): {', '.join(map(str, there))}.",
            fix="Check it with `kubectl config view`.",
            source="kubernetes",
        ) from None
    # The merger lets the last file's current-context win; kubectl takes the first one that has it.
    current = next(
        (
            str(c["current-context"])
            for c in merger.config_files.values()
            if c.get("current-context")
        ),
        None,
    )
    sections = {
        kind: _named(merger.config.value.get(kind) or [])
        for kind in ("contexts", "clusters", "users")
    }
    contexts: dict[str, ContextEntry] = {}
    broken: dict[str, str] = {}
    for name, (entry, _) in sections["contexts"].items():
        try:
            contexts[name] = _context(name, entry, sections)
        except (KeyError, TypeError, AttributeError, binascii.Error, ValueError) as e:
            broken[name] = _why_broken(e)
    return Kubeconfig(current, contexts, broken, there)


def _why_broken(problem: Exception) -> str:
    if isinstance(problem, KeyError):
        return f"its entry lacks {problem.args[0]!r}"
    return f"its entry is malformed ({type(problem).__name__})"


def _named(nodes: Sequence[Any]) -> dict[str, tuple[Mapping[str, Any], Path]]:
    return {
        str(node.value["name"]): (node.value, Path(node.path).absolute().parent) for node in nodes
    }


def _context(
    name: str,
    entry: Mapping[str, Any],
    sections: Mapping[str, Mapping[str, tuple[Mapping[str, Any], Path]]],
) -> ContextEntry:
    context = entry["context"]
    cluster_name = str(context["cluster"])
    if cluster_name not in sections["clusters"]:
        raise KeyError(f"cluster {cluster_name}")
    cluster_entry, cluster_dir = sections["clusters"][cluster_name]
    cluster = cluster_entry["cluster"]
    user: Mapping[str, Any] = {}
    user_dir = cluster_dir
    if user_name := context.get("user"):
        if str(user_name) not in sections["users"]:
            raise KeyError(f"user {user_name}")
        user_entry, user_dir = sections["users"][str(user_name)]
        user = user_entry.get("user") or {}
    namespace = context.get("namespace")
    return ContextEntry(
        name=name,
        server=str(cluster["server"]).rstrip("/"),
        namespace=str(namespace) if namespace else None,
        ca=material(cluster, "certificate-authority", cluster_dir),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        tls_server_name=cluster.get("tls-server-name"),
        proxy_url=cluster.get("proxy-url"),
        user=dict(user),
        user_dir=user_dir,
        cluster_info=dict(cluster),
    )


def material(entry: Mapping[str, Any], key: str, base: Path) -> Material | None:
    """A `key`/`key-data` pair of a kubeconfig entry; inline data wins.

    Raises:
        ValueError: The inline data is not base64.
    """
    if data := entry.get(f"{key}-data"):
        return Material(data=base64.b64decode(str(data), validate=False))
    if path := entry.get(key):
        return Material(file=base / Path(str(path)).expanduser())
    return None


def _service_account(environ: Mapping[str, str]) -> ContextEntry:
    host = environ["KUBERNETES_SERVICE_HOST"]
    port = environ.get("KUBERNETES_SERVICE_PORT", "443")
    namespace_file = SERVICE_ACCOUNT_DIR / "namespace"
    return ContextEntry(
        name=IN_CLUSTER,
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        namespace=namespace_file.read_text(encoding="utf-8").strip()
        if namespace_file.is_file()
        else None,
        ca=Material(file=SERVICE_ACCOUNT_DIR / "ca.crt"),
        user={"tokenFile": str(SERVICE_ACCOUNT_DIR / "token")},
        user_dir=SERVICE_ACCOUNT_DIR,
    )
