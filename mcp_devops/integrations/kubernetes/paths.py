"""URL paths of the Kubernetes API, and what a path means in words of RBAC. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from urllib.parse import quote

GROUP_VERSIONS = {
    "": "v1",
    "apps": "v1",
    "autoscaling": "v1",
    "policy": "v1",
    "authorization.k8s.io": "v1",
    "authentication.k8s.io": "v1",
    "events.k8s.io": "v1",
    "argoproj.io": "v1alpha1",
}
"""Version asked for in each API group: the oldest stable one that all supported servers have."""


def path_of(
    resource: str,
    group: str = "",
    *,
    namespace: str | None = None,
    name: str | None = None,
    subresource: str | None = None,
    version: str | None = None,
) -> str:
    """The path of a collection, an object or a subresource; every part is quoted.

    Args:
        resource: Plural: pods, deployments.
        group: API group; empty is core.
        namespace: None for all namespaces, and for what has none.
        name: Object; None is the collection.
        subresource: log, scale, status.
        version: Group version; by default the one in GROUP_VERSIONS, else v1.
    """
    version = version or GROUP_VERSIONS.get(group, "v1")
    parts = ["apis", group, version] if group else ["api", version]
    if namespace is not None:
        parts += ["namespaces", namespace]
    parts.append(resource)
    if name is not None:
        parts.append(name)
    if subresource is not None:
        parts.append(subresource)
    return "/" + "/".join(quote(p, safe="") for p in parts)


@dataclass(frozen=True)
class Target:
    """What one request does, in words of RBAC."""

    verb: str
    resource: str
    """Plural with its subresource."""
    group: str
    namespace: str | None
    name: str | None

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else ""
        what = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {what}{f' {self.name}' if self.name else ''}{where}"


def target_of(method: str, path: str, *, watch: bool = False) -> Target:
    """Read a request as a verb on a resource; for errors, from our own path and not from theirs."""
    parts = [p for p in path.split("?")[0].split("/") if p]
    group = ""
    if parts[:1] == ["api"]:
        parts = parts[2:]
    elif parts[:1] == ["apis"]:
        group, parts = (parts[1] if len(parts) > 1 else ""), parts[3:]
    namespace = None
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    resource = parts[0] if parts else path
    name = parts[1] if len(parts) > 1 else None
    if len(parts) > 2:
        resource += "/" + parts[2]
    verb = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}.get(method)
    if verb is None:
        verb = "watch" if watch else "get" if name or not parts else "list"
    return Target(verb, resource, group, namespace, name)


def grant_command(
    verb: str, resource: str, group: str, namespace: str | None, identity: str
) -> str:
    """Two kubectl commands that give `identity` one permission.

    Args:
        verb: get, list, patch, ...
        resource: Plural with its subresource.
        group: API group; empty is core.
        namespace: None: cluster-wide.
        identity: User as the API server names it; empty leaves a placeholder.
    """
    base, _, sub = resource.partition("/")
    what = f"{base}.{group}" if group else base
    what += f"/{sub}" if sub else ""
    role = f"mcp-devops-{verb}-{resource.replace('/', '-')}"
    if identity.startswith("system:serviceaccount:") and identity.count(":") == 3:
        _, _, account_namespace, account = identity.split(":")
        subject = f"--serviceaccount={shlex.quote(f'{account_namespace}:{account}')}"
    else:
        subject = f"--user={shlex.quote(identity) if identity else 'USER'}"
    if namespace is None:
        return (
            f"kubectl create clusterrole {role} --verb={verb} --resource={what} && "
            f"kubectl create clusterrolebinding {role} --clusterrole={role} {subject}"
        )
    where = f"-n {shlex.quote(namespace)}"
    return (
        f"kubectl create role {role} --verb={verb} --resource={what} {where} && "
        f"kubectl create rolebinding {role} --role={role} {subject} {where}"
    )
