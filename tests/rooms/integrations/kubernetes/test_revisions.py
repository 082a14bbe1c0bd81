"""Revisions by their template: history, rollback targets, rounding, who else manages it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.integrations.kubernetes.revisions import (
    bounds_of,
    holder_of_pod,
    live_holder,
    managed_by,
    number_of,
    revision_of,
    rollback_target,
    scaled,
    template_hash,
    template_of,
)
from mcp_devops.model.target import WorkloadKind
from tests.support.kubernetes_api import scene_data

D, S, A = WorkloadKind.DEPLOYMENT, WorkloadKind.STATEFUL_SET, WorkloadKind.DAEMON_SET


def deployment(version: str, uid: str = "u") -> dict[str, Any]:
    containers = [{"name": "app", "image": f"shop:{version}"}]
    return {
        "metadata": {"name": "d", "uid": uid},
        "spec": {
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": containers}}
        },
    }


def replicaset(version: str, number: int, uid: str = "u", **annotations: str) -> dict[str, Any]:
    thing = copy.deepcopy(deployment(version))
    thing["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] = f"h{version}"
    thing["metadata"] = {
        "name": f"d-h{version}",
        "uid": f"rs-{version}",
        "creationTimestamp": f"2026-01-01T00:0{number}:00Z",
        "annotations": {"deployment.kubernetes.io/revision": str(number), **annotations},
        "ownerReferences": [{"uid": uid, "controller": True}],
    }
    return thing


def test_the_recorded_revisions_are_told_apart_by_template() -> None:
    data = scene_data("crash_loop")
    live = live_holder(data["workload"], data["holders"])
    assert live is not None and number_of(live) == 2
    target = rollback_target(data["workload"], data["holders"])
    assert target is not None and number_of(target) == 1
    record = revision_of(target)
    assert (record.images, record.ready_replicas) == (("test/shop:1",), 3)
    new = [p for p in data["pods"] if holder_of_pod(p, D, data["holders"]) is live]
    assert len(new) == 1


def test_after_two_bad_rollouts_the_target_is_not_the_previous_number() -> None:
    holders = [replicaset(v, n) for n, v in enumerate(("good", "bad1", "bad2"), start=1)]
    bad = [template_hash(replicaset("bad1", 0))]
    target = rollback_target(deployment("bad2"), holders, bad)
    assert target is not None and target["metadata"]["name"] == "d-hgood"


def test_undoing_twice_does_not_return_to_the_bad_one() -> None:
    holders = [replicaset("bad", 2), replicaset("good", 3), replicaset("older", 1)]
    target = rollback_target(deployment("good"), holders, [template_hash(deployment("bad"))])
    assert target is not None and target["metadata"]["name"] == "d-holder"


def test_replicasets_of_a_namesake_are_not_ours() -> None:
    assert rollback_target(deployment("v2"), [replicaset("v1", 1, uid="other")]) is None


def test_no_history_gives_no_target() -> None:
    assert rollback_target(deployment("v1"), [replicaset("v1", 1)]) is None


def test_a_controller_revision_compares_with_its_workload() -> None:
    workload = deployment("v1")
    data = {
        "spec": {"template": {**copy.deepcopy(workload["spec"]["template"]), "$patch": "replace"}}
    }
    data["spec"]["template"]["metadata"]["creationTimestamp"] = None
    holder = {
        "data": data,
        "revision": 4,
        "metadata": {"name": "d-abc", "ownerReferences": [{"uid": "u", "controller": True}]},
    }
    assert template_of(holder) == template_of(workload)
    assert live_holder(workload, [holder]) is holder
    pod = {"metadata": {"labels": {"controller-revision-hash": "d-abc"}}}
    assert holder_of_pod(pod, S, [holder]) is holder


# Seen on a real controller: replicas and strategy -> old kept + new pods that never turned ready.
@pytest.mark.parametrize(
    ("n", "surge", "out", "kept", "new"),
    [(1, "25%", "25%", 1, 1), (2, "25%", "25%", 2, 1), (3, "25%", "25%", 3, 1),
     (4, "25%", "25%", 3, 2), (5, "25%", "25%", 4, 3), (10, "25%", "25%", 8, 5),
     (3, 0, "1%", 2, 1), (3, "1%", 0, 3, 1), (2, "25%", "100%", 0, 2)],
)  # fmt: skip
def test_a_deployments_bounds_round_as_the_controller_does(
    n: int, surge: Any, out: Any, kept: int, new: int
) -> None:
    strategy = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": out}}
    bounds = bounds_of({"spec": {"replicas": n, "strategy": strategy}}, D)
    assert bounds.fewest == kept
    assert kept + new <= bounds.most


def test_recreate_promises_nothing_and_a_statefulset_all_but_one() -> None:
    assert bounds_of({"spec": {"replicas": 3, "strategy": {"type": "Recreate"}}}, D).fewest == 0
    assert bounds_of({"spec": {"replicas": 3}}, S).fewest == 2
    assert bounds_of({"status": {"desiredNumberScheduled": 4}}, A).fewest == 3
    update = {"rollingUpdate": {"maxUnavailable": "30%"}}
    assert bounds_of({"spec": {"replicas": 4, "updateStrategy": update}}, S).fewest == 2


@given(st.integers(0, 200), st.integers(0, 100))
def test_a_percentage_is_rounded_by_less_than_one_pod(n: int, percent: int) -> None:
    up, down = scaled(f"{percent}%", n, up=True), scaled(f"{percent}%", n, up=False)
    assert 0 <= up - down <= 1
    assert down <= n * percent / 100 <= up


@pytest.mark.parametrize(
    ("meta", "who"),
    [
        ({"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/x"}}, "Argo CD"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}, "Flux"),
        ({"annotations": {"meta.helm.sh/release-name": "shop"}}, "Helm"),
        ({"labels": {"app.kubernetes.io/managed-by": "Tanka"}}, "Tanka"),
    ],
)
def test_a_tool_that_re_applies_is_recognised(meta: dict[str, Any], who: str) -> None:
    assert (managed_by({"metadata": {"name": "d", **meta}}, D) or "").startswith(who)


def test_an_autoscaler_is_recognised_by_its_target() -> None:
    scaler = {
        "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}},
    }
    assert "HorizontalPodAutoscaler h" in (
        managed_by({"metadata": {"name": "d"}}, D, [scaler]) or ""
    )
    assert managed_by({"metadata": {"name": "d"}}, S, [scaler]) is None
