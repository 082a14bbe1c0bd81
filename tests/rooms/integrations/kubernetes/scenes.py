"""Recorded scenes, and changes to them that the recording could not show."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mcp_devops.integrations.kubernetes.trouble import Scene
from mcp_devops.model.target import WorkloadKind
from tests.support.kubernetes_api import scene_data


def scene(case: str) -> Scene:
    """A recorded case as the pure rooms take it."""
    return scene_of(scene_data(case))


def scene_of(data: dict[str, Any]) -> Scene:
    events: dict[str, list[dict[str, Any]]] = {}
    for event in data["events"]:
        events.setdefault(event["involvedObject"]["uid"], []).append(event)
    return Scene(
        WorkloadKind.DEPLOYMENT,
        data["workload"],
        data["holders"],
        data["pods"],
        datetime.fromisoformat(data["at"]),
        events,
    )


def hash_of(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["labels"]["pod-template-hash"])


def old_and_new(data: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Pods of the old and the new revision, by their restarts-or-readiness in the recording."""
    newest = max(
        data["holders"],
        key=lambda h: int(h["metadata"]["annotations"]["deployment.kubernetes.io/revision"]),
    )
    suffix = newest["metadata"]["name"].rsplit("-", 1)[1]
    old = [p for p in data["pods"] if hash_of(p) != suffix]
    return old, [p for p in data["pods"] if hash_of(p) == suffix]


def crash_like(pod: dict[str, Any], other: dict[str, Any]) -> None:
    """Give a pod the container states and conditions of another."""
    pod["status"] = copy.deepcopy(other["status"])


def with_status(data: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Change numbers of the status, and the Available condition with them."""
    status = data["workload"]["status"]
    status.update(values)
    for condition in status["conditions"]:
        if condition["type"] == "Available":
            enough = status.get("availableReplicas", 0) >= data["workload"]["spec"]["replicas"]
            condition["status"] = "True" if enough else "False"
    return data


def progress(data: dict[str, Any], reason: str, status: str = "True") -> None:
    """Set the Progressing condition."""
    conditions: Sequence[dict[str, Any]] = data["workload"]["status"]["conditions"]
    for condition in conditions:
        if condition["type"] == "Progressing":
            condition.update(reason=reason, status=status)
