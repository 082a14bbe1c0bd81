"""The connection to Kubernetes: one kept HTTP client for each kubeconfig context, raw JSON bodies.

`KubernetesClient.cluster(context)` gives a `Cluster`; its methods raise the errors of
`mcp_devops.errors` and nothing else. Nothing heavy is imported before the first call.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from mcp_devops.errors import NotConfigured, NotFound, UpstreamTimeout
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.kubeconfig import IN_CLUSTER, Kubeconfig, load

if TYPE_CHECKING:
    from mcp_devops.integrations.kubernetes.settings import KubernetesSettings
    from mcp_devops.toolkit.clock import Clock


class KubernetesClient:
    """All clusters of the kubeconfig.

    The default context is fixed when it is first used: somebody who switches kubectl to another
    cluster in the middle of an incident does not move this server with it.
    """

    def __init__(
        self,
        settings: KubernetesSettings,
        clock: Clock,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self._environ = os.environ if environ is None else environ
        self._kubeconfig: Kubeconfig | None = None
        self._stamp: tuple[tuple[str, int, int], ...] = ()
        self._default: str | None = None
        self._clusters: dict[str, Cluster] = {}
        self._lock = anyio.Lock()

    async def kubeconfig(self) -> Kubeconfig:
        """The merged kubeconfig, read again when one of its files changed.

        Raises:
            NotConfigured: There is none, or it cannot be read.
            UpstreamTimeout: The file system did not answer within `load_timeout_s`.
        """
        async with self._lock:
            if self._kubeconfig is None or self._stamp != _stamp(self._kubeconfig):
                fresh = await self._load()
                await self._forget_changed(fresh)
                self._kubeconfig, self._stamp = fresh, _stamp(fresh)
            return self._kubeconfig

    async def _load(self) -> Kubeconfig:
        try:
            with anyio.fail_after(self.settings.load_timeout_s):
                return await anyio.to_thread.run_sync(
                    load, self.settings, self._environ, abandon_on_cancel=True
                )
        except TimeoutError:
            raise UpstreamTimeout(
                f"The kubeconfig could not be read within {self.settings.load_timeout_s:g} s.",
                fix="Check the file system it lies on.",
                source="kubernetes",
            ) from None

    async def _forget_changed(self, fresh: Kubeconfig) -> None:
        for name, cluster in list(self._clusters.items()):
            if fresh.contexts.get(name) != cluster.entry:
                del self._clusters[name]
                await cluster.aclose()

    async def contexts(self) -> tuple[str, ...]:
        """Names of all contexts."""
        return tuple((await self.kubeconfig()).contexts)

    async def cluster(self, context: str | None = None) -> Cluster:
        """The cluster behind a context; the default one for None.

        Raises:
            NotFound: No such context; `details["known"]` lists the contexts.
            NotConfigured: No kubeconfig, no current context, or the context's entry is broken.
        """
        config = await self.kubeconfig()
        name = context or self._default or self.settings.context or config.current
        if name is None:
            raise NotConfigured(
                "The kubeconfig names no current context.",
                fix=f"Pass context, one of: {_names(config)}.",
                source="kubernetes",
            )
        if name in config.broken:
            raise NotConfigured(
                f"Context {name!r} cannot be used: {config.broken[name]}.",
                fix="Correct the kubeconfig.",
                source="kubernetes",
            )
        if name not in config.contexts:
            near = difflib.get_close_matches(name, config.contexts, n=1)
            raise NotFound(
                f"There is no kubeconfig context {name!r}.",
                fix=(f"Did you mean {near[0]!r}? " if near else "") + f"Known: {_names(config)}.",
                source="kubernetes",
                known=sorted(config.contexts),
            )
        if context is None:
            self._default = name
        if name not in self._clusters:
            self._clusters[name] = Cluster(config.contexts[name], self.settings, self.clock)
        return self._clusters[name]

    async def aclose(self) -> None:
        """Close all connections; a later call opens new ones."""
        clusters, self._clusters = self._clusters, {}
        for cluster in clusters.values():
            await cluster.aclose()


def _names(config: Kubeconfig) -> str:
    names = sorted(config.contexts)
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return (", ".join(names[:20]) or "none") + more


def _stamp(config: Kubeconfig) -> tuple[tuple[str, int, int], ...]:
    found = []
    for path in config.files:
        try:
            stat = path.stat()
        except OSError:
            # A file that is gone changes the stamp, so the next call reads what is left.
            continue
        found.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(found)


__all__ = ["IN_CLUSTER", "Cluster", "KubernetesClient"]
