"""Turns the tools' declared needs into the Kubernetes manifests that grant exactly them. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from mcp_devops.model.target import WorkloadKind
from mcp_devops.toolkit.risk import Rbac

WATCHING = tuple(
    Rbac(verb, resource, group)
    for resource, group in (*((kind.resource, "apps") for kind in WorkloadKind), ("pods", ""))
    for verb in ("list", "watch")
)
"""What `mcp-devops watch` needs to hear of rollouts and of failing pods."""


def rules_for(needs: Iterable[Rbac]) -> list[dict[str, list[str]]]:
    """RBAC rules, resources with the same group and verbs joined, in a stable order."""
    verbs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for need in needs:
        verbs[need.group, need.resource].add(need.verb)
    joined: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (group, resource), allowed in sorted(verbs.items()):
        joined[group, tuple(sorted(allowed))].append(resource)
    return [
        {"apiGroups": [group], "resources": resources, "verbs": list(allowed)}
        for (group, allowed), resources in joined.items()
    ]


def role_manifests(
    needs: Sequence[Rbac],
    namespaces: Sequence[str] | None,
    name: str,
    account_namespace: str,
    user: str | None,
) -> str:
    """A ServiceAccount (or none, for a user), and a Role with its binding in each namespace.

    What has no namespace, as nodes have none, becomes a ClusterRole; everything does where
    `namespaces` is None, which stands for all of them. JSON inside YAML documents: every YAML
    reader takes it.
    """
    subject: dict[str, Any]
    documents: list[dict[str, Any]] = []
    if user is None:
        subject = {"kind": "ServiceAccount", "name": name, "namespace": account_namespace}
        documents.append(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": name, "namespace": account_namespace},
            }
        )
    else:
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    inside = rules_for(n for n in needs if not n.cluster_wide)
    for namespace in namespaces or ():
        documents += _bound("Role", name, inside, subject, namespace)
    outside = rules_for(n for n in needs if n.cluster_wide or namespaces is None)
    if outside:
        documents += _bound("ClusterRole", name, outside, subject, None)
    return "\n".join("---\n" + _yaml(d) for d in documents)


def _bound(
    kind: str, name: str, rules: list[dict[str, list[str]]], subject: Any, namespace: str | None
) -> list[dict[str, Any]]:
    group = "rbac.authorization.k8s.io"
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    head = {"apiVersion": f"{group}/v1", "metadata": metadata}
    return [
        {**head, "kind": kind, "rules": rules},
        {
            **head,
            "kind": f"{kind}Binding",
            "roleRef": {"apiGroup": group, "kind": kind, "name": name},
            "subjects": [subject],
        },
    ]


def _yaml(document: dict[str, Any]) -> str:
    """One key a line at the top, compact JSON below."""
    order = ("apiVersion", "kind", "metadata", "rules", "roleRef", "subjects")
    lines = []
    for key in (k for k in order if k in document):
        value = document[key]
        if isinstance(value, str):
            lines.append(f"{key}: {value}")
        elif isinstance(value, list):
            lines += [f"{key}:", *(f"- {_json(v)}" for v in value)]
        else:
            lines.append(f"{key}: {_json(value)}")
    return "\n".join(lines)


def _json(value: Any) -> str:
    """YAML knows no pairs of escapes for one character, as JSON writes some by default."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)
