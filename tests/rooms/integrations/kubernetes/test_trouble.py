"""What failing pods mean for users: recorded rollouts, and variations of them."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_devops.integrations.kubernetes.podstate import PodPhase, exit_meaning, judge_pod
from mcp_devops.integrations.kubernetes.trouble import judge, started_at
from mcp_devops.model.evidence import PodCause, RolloutClass
from tests.rooms.integrations.kubernetes.scenes import (
    crash_like,
    old_and_new,
    progress,
    scene,
    scene_of,
    with_status,
)
from tests.support.kubernetes_api import scene_data

R, C = RolloutClass, PodCause


@pytest.mark.parametrize(
    ("case", "found", "cause", "immediate"),
    [
        ("surge_crash", R.SURGE_ONLY_CRASH, C.CRASH_LOOP, False),
        ("crash_loop", R.STALLED_ROLLOUT, C.CRASH_LOOP, False),
        ("image_pull", R.STALLED_ROLLOUT, C.IMAGE_PULL, False),
        ("unready", R.STALLED_ROLLOUT, C.PROBE, False),
        ("missing_config", R.STALLED_ROLLOUT, C.CRASH_LOOP, False),
        ("oom", R.PARTIAL_OUTAGE, C.OOM_KILLED, True),
        ("completed_then_crashing", R.PARTIAL_OUTAGE, C.CRASH_LOOP, True),
        ("full_outage", R.FULL_OUTAGE, C.CRASH_LOOP, True),
    ],
)
def test_a_recorded_trouble_has_its_class(
    case: str, found: RolloutClass, cause: PodCause, immediate: bool
) -> None:
    health = judge(scene(case)).health
    assert (health.rollout_class, health.cause, health.immediate) == (found, cause, immediate)


@pytest.mark.parametrize("case", ["surge_crash", "crash_loop", "image_pull", "unready"])
def test_the_old_revision_is_seen_to_serve(case: str) -> None:
    health = judge(scene(case)).health
    assert health.old is not None
    assert (health.old.ready, health.old.failing, health.available) == (3, 0, 3)
    assert (health.new.revision, health.old.revision) == (2, 1)
    assert "3 of 3 pods are available" in health.summary


def test_before_its_deadline_an_unready_rollout_is_never_ready() -> None:
    data = scene_data("unready")
    progress(data, "ReplicaSetUpdated")
    health = judge(scene_of(data)).health
    assert health.rollout_class is R.NEVER_READY
    assert not health.immediate


def test_a_deadline_that_passed_once_stays_passed() -> None:
    health = judge(scene("surge_crash"), deadline_seen=True).health
    assert health.rollout_class is R.STALLED_ROLLOUT
    assert health.deadline_exceeded


def test_pods_that_turn_ready_between_crashes_creep_into_an_outage() -> None:
    data = with_status(scene_data("completed_then_crashing"), availableReplicas=3)
    health = judge(scene_of(data)).health
    assert health.rollout_class is R.CREEPING_OUTAGE
    assert health.immediate


def test_one_bad_pod_of_many_is_no_creeping_outage() -> None:
    data = with_status(scene_data("completed_then_crashing"), availableReplicas=3)
    old, _ = old_and_new(scene_data("surge_crash"))
    for pod in old_and_new(data)[1][1:]:
        crash_like(pod, old[0])
    health = judge(scene_of(data)).health
    assert health.rollout_class is R.PARTIAL_OUTAGE
    assert not health.immediate


def test_the_same_crash_on_both_revisions_is_not_the_deployments_doing() -> None:
    data = scene_data("surge_crash")
    old, new = old_and_new(data)
    for pod in old:
        crash_like(pod, new[0])
    with_status(data, availableReplicas=0)
    assert judge(scene_of(data)).health.rollout_class is R.SAME_CRASH_ON_BOTH


def test_two_different_last_words_are_two_different_crashes() -> None:
    data = scene_data("surge_crash")
    old, new = old_and_new(data)
    crash_like(old[0], new[0])
    lines = {
        new[0]["metadata"]["name"]: "panic: nil map",
        old[0]["metadata"]["name"]: "FATAL: no route to database",
    }
    same = dict.fromkeys(lines, "panic: nil map")
    assert judge(scene_of(data), log_lines=lines).health.rollout_class is R.SURGE_ONLY_CRASH
    assert judge(scene_of(data), log_lines=same).health.rollout_class is R.SAME_CRASH_ON_BOTH


def test_a_first_crash_is_not_yet_the_immediate_path() -> None:
    data = scene_data("full_outage")
    for pod in data["pods"]:
        for status in pod["status"]["containerStatuses"]:
            status["restartCount"] = 1
    health = judge(scene_of(data)).health
    assert (health.rollout_class, health.immediate) == (R.FULL_OUTAGE, False)


def test_failing_pods_on_one_node_only_are_the_nodes_trouble() -> None:
    data = scene_data("completed_then_crashing")
    data["pods"] = old_and_new(data)[1]
    ready = old_and_new(scene_data("surge_crash"))[0][0]
    for pod in data["pods"][:2]:
        crash_like(pod, ready)
        pod["spec"]["nodeName"] = "node-2"
    health = judge(scene_of(with_status(data, availableReplicas=2))).health
    assert health.rollout_class is R.NODE
    assert "node-1" in health.summary


def test_a_refused_pod_stalls_the_rollout_for_quota() -> None:
    data = scene_data("surge_crash")
    old, _ = old_and_new(data)
    data["pods"] = old
    data["workload"]["status"]["conditions"].append(
        {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: compute"}
    )
    health = judge(scene_of(data)).health
    assert (health.rollout_class, health.cause) == (R.STALLED_ROLLOUT, C.QUOTA)
    assert "exceeded quota" in health.summary


def test_pods_being_deleted_do_not_count() -> None:
    data = scene_data("crash_loop")
    for pod in old_and_new(data)[1]:
        pod["metadata"]["deletionTimestamp"] = data["at"]
    health = judge(scene_of(data)).health
    assert health.new.pods == 0
    assert health.new.failing == 0


def test_a_restart_that_has_settled_is_churn() -> None:
    data = scene_data("completed_then_crashing")
    data["pods"] = old_and_new(data)[1]
    with_status(data, availableReplicas=3, readyReplicas=3)
    seen = scene_of(data)
    for pod in data["pods"]:
        for condition in pod["status"]["conditions"]:
            if condition["type"] in ("Ready", "ContainersReady"):
                condition.update(status="True", lastTransitionTime=data["at"])
        for status in pod["status"]["containerStatuses"]:
            end = status["state"].get("terminated") or status["lastState"]["terminated"]
            status.update(ready=True, state={"running": {"startedAt": data["at"]}},
                          lastState={"terminated": end})  # fmt: skip
    later = replace(seen, at=seen.at + timedelta(seconds=61))
    assert judge(later).health.rollout_class is R.START_UP_CHURN
    assert judge(seen).health.rollout_class is not R.START_UP_CHURN


def test_without_the_right_to_read_replicasets_the_condition_tells_the_revisions_apart() -> None:
    data = scene_data("surge_crash")
    seen = replace(scene_of(data), holders=None)
    health = judge(seen).health
    assert (health.new.pods, health.new.failing, health.old and health.old.pods) == (1, 1, 3)


def test_scaled_to_zero_is_healthy() -> None:
    data = scene_data("full_outage")
    data["workload"]["spec"]["replicas"] = 0
    data["pods"] = []
    assert judge(scene_of(data)).health.rollout_class is R.HEALTHY


def test_a_rollout_starts_when_its_replicaset_is_made() -> None:
    seen = scene("crash_loop")
    started = started_at(seen)
    assert started is not None and started < seen.at


def test_a_revision_brought_back_starts_at_its_second_life() -> None:
    data = scene_data("crash_loop")
    old, new = data["holders"]
    newest = max((old, new), key=lambda h: h["metadata"]["creationTimestamp"])
    oldest = min((old, new), key=lambda h: h["metadata"]["creationTimestamp"])
    data["workload"]["spec"]["template"] = copy.deepcopy(oldest["spec"]["template"])
    data["workload"]["spec"]["template"]["metadata"]["labels"].pop("pod-template-hash", None)
    oldest["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "3"
    name = oldest["metadata"]["name"]
    uid = data["workload"]["metadata"]["uid"]
    data["events"] = [
        {"reason": "ScalingReplicaSet", "message": f"Scaled {way} replica set {name} to {n}",
         "lastTimestamp": at, "involvedObject": {"uid": uid}}
        for way, n, at in (("down", 0, "2026-11-20T13:00:00Z"), ("up", 1, "2026-11-20T13:05:00Z"))
    ]  # fmt: skip
    assert newest is not oldest
    assert str(started_at(scene_of(data))) == "2026-11-20 13:05:00+00:00"


ORDER = [R.HEALTHY, R.START_UP_CHURN, R.PROGRESSING, R.NEVER_READY, R.SURGE_ONLY_CRASH,
         R.STALLED_ROLLOUT, R.CREEPING_OUTAGE, R.PARTIAL_OUTAGE, R.FULL_OUTAGE]  # fmt: skip


@given(st.permutations(range(4)), st.permutations(range(2)))
@settings(max_examples=30)
def test_the_order_of_what_was_read_does_not_matter(pods: list[int], holders: list[int]) -> None:
    seen = scene("surge_crash")
    mixed = replace(
        seen,
        pods=[seen.pods[i] for i in pods],
        holders=[(seen.holders or ())[i] for i in holders],
    )
    assert judge(mixed).health == judge(seen).health


def test_fewer_available_pods_never_make_the_class_milder() -> None:
    for case in ("surge_crash", "crash_loop", "oom", "image_pull"):
        ranks = [
            ORDER.index(
                judge(
                    scene_of(with_status(scene_data(case), availableReplicas=n))
                ).health.rollout_class
            )
            for n in (3, 2, 1, 0)
        ]
        assert all(a <= b for a, b in itertools.pairwise(ranks)), (case, ranks)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 500) | st.text(max_size=8),
    lambda inner: st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    reason=st.text(max_size=30),
    message=st.text(max_size=400),
    code=st.integers(0, 255),
    restarts=st.integers(0, 1000),
    extra=st.dictionaries(st.text(max_size=8), json_values, max_size=3),
)
@settings(max_examples=80)
def test_hostile_words_in_a_status_stay_data(
    reason: str, message: str, code: int, restarts: int, extra: dict[str, Any]
) -> None:
    seen = scene("crash_loop")
    pod = copy.deepcopy(dict(seen.pods[0]))
    pod["status"] = {
        **extra,
        "startTime": "2026-11-20T12:00:00Z",
        "containerStatuses": [
            {
                "name": "app",
                "restartCount": restarts,
                "state": {"waiting": {"reason": reason, "message": message}},
                "lastState": {
                    "terminated": {"exitCode": code, "reason": reason, "message": message}
                },
            }
        ],
    }
    state = judge_pod(pod, seen.at)
    assert "\x1b" not in state.why and "\n" not in state.why
    assert len(state.why) < 700


@pytest.mark.parametrize(
    ("code", "meaning"), [(137, "SIGKILL"), (139, "SIGSEGV"), (127, "command not found"), (1, "")]
)
def test_exit_codes_are_explained(code: int, meaning: str) -> None:
    assert exit_meaning(code) == meaning


def test_pods_come_worst_first() -> None:
    phases = [s.phase for s, _ in judge(scene("crash_loop")).pods]
    assert phases == sorted(phases, key=list(PodPhase).index)
    assert phases[0] is PodPhase.FAILING
