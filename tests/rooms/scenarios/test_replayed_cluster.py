"""The replayed API server behaves like one."""

import copy
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Any

import httpx2
import pytest

from mcp_devops.errors import NotFound
from mcp_devops.scenarios.recorded import folders, load
from tests.rooms.scenarios.conftest import Play, Played

APPS = "/apis/apps/v1/namespaces/shop"
CORE = "/api/v1/namespaces/shop"
JSON_PATCH = {"content-type": "application/json-patch+json"}


async def old_template(played: Played, name: str) -> dict[str, Any]:
    """The template of the revision before the live one."""
    sets = (
        await played.api.get(f"{APPS}/replicasets", params={"labelSelector": f"app={name}"})
    ).json()
    (old,) = [
        s
        for s in sets["items"]
        if s["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    ]
    template: dict[str, Any] = copy.deepcopy(old["spec"]["template"])
    del template["metadata"]["labels"]["pod-template-hash"]
    return template


async def undo(played: Played, version: str | None = None, **params: str) -> httpx2.Response:
    """Send the rollback's patch."""
    name = played.world.scenario.about.workload
    live = (await played.api.get(f"{APPS}/deployments/{name}")).json()
    wanted = version or live["metadata"]["resourceVersion"]
    body = [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": wanted},
        {"op": "replace", "path": "/spec/template", "value": await old_template(played, name)},
    ]
    path = f"{APPS}/deployments/{name}"
    return await played.api.patch(path, json=body, headers=JSON_PATCH, params=params)


def test_an_unknown_scenario_is_refused_with_the_names() -> None:
    with pytest.raises(NotFound) as caught:
        load("no-such")
    assert caught.value.details["known"] == list(folders())


async def test_a_call_without_the_token_is_refused(play: Play) -> None:
    async with play("crash-loop") as played:
        answer = await played.api.get("/version", headers={"authorization": "Bearer other"})
        assert (answer.status_code, answer.json()["reason"]) == (401, "Unauthorized")
        assert (await played.api.get("/version")).json()["gitVersion"].startswith("v1.")


async def test_what_is_not_there_is_a_status_of_404(play: Play) -> None:
    async with play("crash-loop") as played:
        for path in (f"{CORE}/pods/none", f"{CORE}/pods/none/log", f"{CORE}/secrets", "/nowhere"):
            answer = await played.api.get(path)
            assert (answer.status_code, answer.json()["kind"]) == (404, "Status"), path


async def test_another_namespace_is_forbidden_and_the_user_is_named(play: Play) -> None:
    async with play("crash-loop") as played:
        for path in ("/api/v1/namespaces/kube-system/pods", "/api/v1/pods"):
            answer = await played.api.get(path)
            assert answer.status_code == 403
            assert 'User "demo-agent"' in answer.json()["message"]


async def test_access_is_granted_in_the_scenarios_namespace_only(play: Play) -> None:
    async with play("crash-loop") as played:
        for namespace, allowed in (("shop", True), ("other", False)):
            body = {"spec": {"resourceAttributes": {"namespace": namespace, "verb": "patch"}}}
            answer = await played.api.post(
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json=body
            )
            assert (answer.status_code, answer.json()["status"]["allowed"]) == (201, allowed)


async def test_selectors_choose(play: Play) -> None:
    async with play("crash-loop") as played:

        async def names(path: str, **params: str) -> list[str]:
            found = (await played.api.get(path, params=params)).json()["items"]
            return [f["metadata"]["name"] for f in found]

        assert await names(f"{APPS}/deployments", fieldSelector="metadata.name=cart") == ["cart"]
        assert len(await names(f"{CORE}/pods", labelSelector="app in (cart, catalog)")) == 6
        assert len(await names(f"{CORE}/pods", labelSelector="app!=cart,app")) == 4
        everything = await names(f"{CORE}/events")
        warnings = await names(f"{CORE}/events", fieldSelector="type=Warning")
        assert 0 < len(warnings) < len(everything)
        assert await names("/apis/autoscaling/v1/namespaces/shop/horizontalpodautoscalers") == []


async def test_times_are_moved_to_the_scenarios_present(play: Play) -> None:
    async with play("crash-loop") as played:
        events = (await played.api.get(f"{CORE}/events")).json()["items"]
        newest = max(
            datetime.fromisoformat(e["lastTimestamp"]) for e in events if e["lastTimestamp"]
        )
        age = (played.world.clock.now() - newest).total_seconds()
        assert 0 <= age < 120


async def test_a_log_has_both_runs_and_keeps_the_newest_lines(play: Play) -> None:
    async with play("crash-loop") as played:
        pods = (await played.api.get(f"{CORE}/pods", params={"labelSelector": "app=cart"})).json()
        counts = {
            p["metadata"]["name"]: p["status"]["containerStatuses"][0]["restartCount"]
            for p in pods["items"]
        }
        crashed = next(name for name, count in counts.items() if count)
        steady = next(name for name, count in counts.items() if not count)
        query = {"previous": "true", "tailLines": "1"}
        last = await played.api.get(f"{CORE}/pods/{crashed}/log", params=query)
        assert last.text.count("\n") == 1
        assert "panic" in last.text
        stamped = await played.api.get(
            f"{CORE}/pods/{crashed}/log", params={**query, "timestamps": "true"}
        )
        assert stamped.text.endswith(last.text)
        assert stamped.text != last.text
        none = await played.api.get(f"{CORE}/pods/{steady}/log", params={"previous": "true"})
        assert none.status_code == 400
        wrong = await played.api.get(f"{CORE}/pods/{steady}/log", params={"container": "x"})
        assert wrong.status_code == 400


async def test_a_dry_run_answers_and_changes_nothing(play: Play) -> None:
    async with play("crash-loop") as played:
        before = (await played.api.get(f"{APPS}/deployments/cart")).json()
        answer = await undo(played, dryRun="All")
        assert answer.status_code == 200
        assert answer.json()["metadata"]["generation"] == before["metadata"]["generation"] + 1
        assert answer.json()["spec"]["template"] != before["spec"]["template"]
        assert (await played.api.get(f"{APPS}/deployments/cart")).json() == before
        assert played.world.turned_at is None


async def test_a_patch_for_another_version_is_a_conflict(play: Play) -> None:
    async with play("crash-loop") as played:
        for params in ({}, {"dryRun": "All"}):
            answer = await undo(played, version="1", **params)
            assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")
        assert played.world.turned_at is None


async def test_a_change_that_was_not_recorded_is_refused(play: Play) -> None:
    async with play("crash-loop") as played:
        merge = {"content-type": "application/merge-patch+json"}
        for name, body in (
            ("cart", {"spec": {"replicas": 9}}),
            ("cart", {"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}}),
            ("catalog", {"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}}),
        ):
            path = f"{APPS}/deployments/{name}"
            answer = await played.api.patch(path, json=body, headers=merge)
            assert (answer.status_code, answer.json()["reason"]) == (422, "Invalid")
            assert "recording" in answer.json()["message"]
        assert (await played.api.delete(f"{APPS}/deployments/cart")).status_code == 405
        garbage = await played.api.patch(
            f"{APPS}/deployments/cart", content=b"{", headers=JSON_PATCH
        )
        assert garbage.status_code == 422


async def name_of_the_next_deleted(events: AsyncIterator[tuple[str, Any]]) -> str:
    async for kind, thing in events:
        if kind == "DELETED":
            return str(thing["metadata"]["name"])
    raise AssertionError("the watch ended")


async def test_a_watch_tells_the_recorded_changes_once_the_rollback_is_made(play: Play) -> None:
    async with play("crash-loop") as played:
        selector: dict[str, str | int] = {"labelSelector": "app=cart"}
        async with aclosing(played.cluster.watch(f"{CORE}/pods", selector)) as events:
            kind, pods = await anext(events)
            assert (kind, len(pods)) == ("SYNC", 4)
            template = await old_template(played, "cart")
            answer = await undo(played)
            assert answer.status_code == 200
            crashed = await name_of_the_next_deleted(events)
        assert played.world.find("pods", crashed) is None
        assert (await played.api.get(f"{CORE}/pods/{crashed}/log")).status_code == 404
        live = (await played.api.get(f"{APPS}/deployments/cart")).json()
        assert live["spec"]["template"] == template
        again = await played.api.patch(
            f"{APPS}/deployments/cart",
            json=[{"op": "replace", "path": "/spec/template", "value": template}],
            headers=JSON_PATCH,
        )
        assert again.json() == live  # it has that template already: nothing to do
