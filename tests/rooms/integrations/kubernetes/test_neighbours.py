from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mcp_devops.integrations.kubernetes import facts
from mcp_devops.model.target import Workload
from tests.support.kubernetes_api import (
    Asked,
    FixedClock,
    Reply,
    client_of,
    ok,
    serving,
    write_kubeconfig,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DEPLOYED = NOW - timedelta(minutes=5)


def deployment(name: str, unavailable_since: datetime | None) -> dict[str, Any]:
    """One that is fine, or has been below its promise since a moment."""
    at = (unavailable_since or NOW - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    state = "False" if unavailable_since else "True"
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": name, "annotations": {}},
        "spec": {"replicas": 2, "template": {"spec": {"containers": []}}},
        "status": {
            "replicas": 2,
            "availableReplicas": 0 if unavailable_since else 2,
            "updatedReplicas": 2,
            "conditions": [{"type": "Available", "status": state, "lastTransitionTime": at}],
        },
    }


async def test_a_neighbour_is_sick_only_if_it_broke_at_about_the_same_time(tmp_path: Path) -> None:
    around = [
        deployment("judged", DEPLOYED),
        deployment("broken-for-hours", NOW - timedelta(hours=3)),
        deployment("broke-just-then", DEPLOYED + timedelta(seconds=20)),
        deployment("broke-a-moment-before", DEPLOYED - timedelta(minutes=2)),
        deployment("fine", None),
    ]

    def answer(asked: Asked) -> Reply:
        items = around if asked.path.endswith("/deployments") else []
        return ok({"metadata": {"resourceVersion": "1"}, "items": items})

    async with serving(answer) as api:
        kubeconfig = write_kubeconfig(tmp_path, api.url)
        async with client_of(kubeconfig, FixedClock(NOW)) as client:
            cluster = await client.cluster()
            target = Workload(namespace="shop", name="judged")
            found, gaps = await facts.neighbours(cluster, target, NOW, DEPLOYED)
    assert gaps == []
    assert {n.service for n in found if n.sick} == {"broke-just-then", "broke-a-moment-before"}
    assert {n.service for n in found if not n.sick} == {"broken-for-hours", "fine"}
