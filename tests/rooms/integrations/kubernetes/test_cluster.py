"""What the API server can do to us, over real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_devops.errors import (
    CredentialsRejected,
    DevOpsError,
    InvalidArguments,
    NotConfigured,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    PreconditionFailed,
    RateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mcp_devops.integrations.kubernetes.answers import refusal
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.integrations.kubernetes.paths import path_of, target_of
from tests.support.kubernetes_api import (
    Api,
    Asked,
    Handler,
    Reply,
    client_of,
    ok,
    serving,
    status,
    write_kubeconfig,
)

PODS = path_of("pods", namespace="shop")
POD = path_of("pods", namespace="shop", name="p")


def in_turn(*replies: Reply) -> Handler:
    """Answer with each reply once, then with the last for ever."""
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


@asynccontextmanager
async def cluster_on(
    tmp_path: Path, handler: Handler, **options: Any
) -> AsyncIterator[tuple[Cluster, Api]]:
    async with serving(handler) as api:
        config = write_kubeconfig(tmp_path, api.url)
        async with client_of(config, **options) as client:
            yield await client.cluster(), api


async def test_a_read_returns_the_body_and_names_itself(tmp_path: Path) -> None:
    async with cluster_on(tmp_path, in_turn(ok({"kind": "Pod"}))) as (cluster, api):
        assert await cluster.get(POD) == {"kind": "Pod"}
    assert api.asked[0].headers["authorization"] == "Bearer test-token"
    assert api.asked[0].headers["user-agent"].startswith("mcp-devops/")


async def test_rejected_credentials_are_renewed_once_and_then_reported(tmp_path: Path) -> None:
    async with cluster_on(tmp_path, in_turn(status(401, "Unauthorized"), ok({}))) as (cluster, api):
        assert await cluster.get(POD) == {}
        assert len(api.asked) == 2
    async with cluster_on(tmp_path, in_turn(status(401, "Unauthorized"))) as (cluster, api):
        with pytest.raises(CredentialsRejected) as caught:
            await cluster.get(POD)
        assert len(api.asked) == 2
    assert "test-token" not in str(caught.value)


async def test_a_denial_names_user_permission_and_grant(tmp_path: Path) -> None:
    words = 'pods is forbidden: User "viewer" cannot list resource "pods" in API group ""'
    async with cluster_on(tmp_path, in_turn(status(403, words, "Forbidden"))) as (cluster, _):
        with pytest.raises(PermissionDenied) as caught:
            await cluster.list_all(PODS)
    details = caught.value.details
    assert (details["user"], details["verb"], details["resource"]) == ("viewer", "list", "pods")
    assert "kubectl create role" in details["grants"][0]
    assert "--user=viewer" in details["grants"][0]


async def test_a_missing_object_comes_with_similar_names(tmp_path: Path) -> None:
    names = {"items": [{"metadata": {"name": n}} for n in ("checkout", "cart", "zebra")]}

    def answer(asked: Asked) -> Reply:
        return ok(names) if asked.path.endswith("/deployments") else status(404, "not found")

    async with cluster_on(tmp_path, answer) as (cluster, _):
        with pytest.raises(NotFound) as caught:
            await cluster.find("deployments", "apps", "shop", "chekout")
    assert caught.value.details["near"] == ["checkout"]


@pytest.mark.parametrize("code", [409, 422])
async def test_a_refused_change_is_a_failed_precondition_with_causes(
    tmp_path: Path, code: int
) -> None:
    causes = {"causes": [{"field": "spec", "message": "is immutable"}]}
    reply = status(code, "no", "Invalid", details=causes)
    async with cluster_on(tmp_path, in_turn(reply)) as (cluster, api):
        with pytest.raises(PreconditionFailed) as caught:
            await cluster.patch(POD, {}, "application/merge-patch+json")
    assert caught.value.details["causes"] == [{"field": "spec", "message": "is immutable"}]
    assert len(api.asked) == 1
    assert api.asked[0].headers["content-type"] == "application/merge-patch+json"


async def test_an_expired_list_begins_again(tmp_path: Path) -> None:
    def page(names: Sequence[str], token: str = "") -> Reply:
        items = [{"metadata": {"name": n}} for n in names]
        return ok({"items": items, "metadata": {"continue": token, "resourceVersion": "7"}})

    replies = (page(["a"], "t"), status(410, "too old", "Expired"), page(["b"], "u"), page(["c"]))
    async with cluster_on(tmp_path, in_turn(*replies)) as (cluster, api):
        items, version = await cluster.list_from(PODS)
    assert [i["metadata"]["name"] for i in items] == ["b", "c"]
    assert version == "7"
    assert [a.query.get("continue") for a in api.asked] == [None, "t", None, "u"]
    assert {a.query["limit"] for a in api.asked} == {"500"}


async def test_a_read_waits_and_repeats_when_asked_to_a_write_does_not(tmp_path: Path) -> None:
    busy = status(429, "slow down", headers={"retry-after": "0"})
    async with cluster_on(tmp_path, in_turn(busy, busy, ok({}))) as (cluster, api):
        assert await cluster.get(POD) == {}
        assert len(api.asked) == 3
    async with cluster_on(tmp_path, in_turn(busy)) as (cluster, api):
        with pytest.raises(RateLimited):
            await cluster.get(POD)
        assert len(api.asked) == 3
        with pytest.raises(RateLimited):
            await cluster.patch(POD, {}, "application/merge-patch+json")
        assert len(api.asked) == 4


async def test_a_long_pause_is_told_and_not_waited_for(tmp_path: Path) -> None:
    busy = status(429, "slow down", headers={"retry-after": "600"})
    async with cluster_on(tmp_path, in_turn(busy)) as (cluster, api):
        with pytest.raises(RateLimited) as caught:
            await cluster.get(POD)
    assert caught.value.details["retry_after_s"] == 600
    assert len(api.asked) == 1


LOGIN_PAGE = Reply(body=b"<html>Please log in</html>", content_type="text/html")
HALF = Reply(body=b'{"kind":"Pod","metadata":{}}', cut_at=9)


@pytest.mark.parametrize(
    "reply",
    [status(500, "etcd is down", "InternalError"), status(503, "no leader"), LOGIN_PAGE, HALF,
     Reply(close=True), Reply(302, headers={"location": "http://elsewhere"}),
     Reply(body=b"[1, 2]"), Reply(502, b"Bad Gateway", content_type="text/plain")],
    ids=["500", "503", "login page", "half a body", "closed", "redirect", "no object", "proxy"],
)  # fmt: skip
async def test_a_broken_server_is_unavailable_and_a_sent_change_unknown(
    tmp_path: Path, reply: Reply
) -> None:
    async with cluster_on(tmp_path, in_turn(reply)) as (cluster, api):
        with pytest.raises(UpstreamUnavailable) as caught:
            await cluster.get(POD)
        assert "test-token" not in str(caught.value)
        before = len(api.asked)
        if reply.status >= 500 or reply.close or reply.cut_at:
            with pytest.raises(OutcomeUnknown):
                await cluster.patch(POD, {}, "application/merge-patch+json")
            assert len(api.asked) == before + 1


async def test_a_connection_that_breaks_is_tried_once_more(tmp_path: Path) -> None:
    async with cluster_on(tmp_path, in_turn(Reply(close=True), ok({"n": 1}))) as (cluster, api):
        assert await cluster.get(POD) == {"n": 1}
    assert len(api.asked) == 2


async def test_a_failing_webhook_has_stored_nothing(tmp_path: Path) -> None:
    words = 'Internal error occurred: failed calling webhook "policy"'
    async with cluster_on(tmp_path, in_turn(status(500, words))) as (cluster, _):
        with pytest.raises(UpstreamUnavailable):
            await cluster.patch(POD, {}, "application/merge-patch+json")


async def test_silence_ends_at_the_deadline(tmp_path: Path) -> None:
    quiet = in_turn(Reply(silent=True))
    async with cluster_on(tmp_path, quiet, request_timeout_s=0.2) as (cluster, _):
        with pytest.raises(UpstreamTimeout):
            await cluster.get(POD)
        with pytest.raises(UpstreamTimeout):
            async with cluster.stream(POD + "/log"):
                pytest.fail("a silent server opened a stream")
        with pytest.raises(OutcomeUnknown):
            await cluster.patch(POD, {}, "application/merge-patch+json")
        with pytest.raises(UpstreamTimeout):
            await cluster.patch(POD, {}, "application/merge-patch+json", {"dryRun": "All"})


async def test_an_unreachable_server_is_unavailable_even_for_a_write(tmp_path: Path) -> None:
    async with serving(in_turn(ok({}))) as api:
        config = write_kubeconfig(tmp_path, api.url)
    async with client_of(config) as client:
        cluster = await client.cluster()
        with pytest.raises(UpstreamUnavailable):
            await cluster.get(POD)
        with pytest.raises(UpstreamUnavailable):
            await cluster.patch(POD, {}, "application/merge-patch+json")


async def test_an_answer_without_end_is_refused(tmp_path: Path) -> None:
    huge = Reply(body=b" " * (2 * 1024 * 1024) + b"{}")
    async with cluster_on(tmp_path, in_turn(huge), max_answer_mb=1) as (cluster, _):
        with pytest.raises(UpstreamUnavailable):
            await cluster.get(POD)


async def test_a_refused_log_is_an_argument_error_with_the_servers_words(tmp_path: Path) -> None:
    reply = status(400, "container is waiting to start", "BadRequest")
    async with cluster_on(tmp_path, in_turn(reply)) as (cluster, _):
        with pytest.raises(InvalidArguments) as caught:
            async with cluster.stream(POD + "/log"):
                pytest.fail("a refused log opened a stream")
    assert caught.value.upstream == "container is waiting to start"


async def test_an_unknown_context_lists_the_known(tmp_path: Path) -> None:
    async with client_of(write_kubeconfig(tmp_path, "http://127.0.0.1:1")) as client:
        with pytest.raises(NotFound) as caught:
            await client.cluster("tset")
    assert caught.value.details["known"] == ["test"]


async def test_another_server_in_the_kubeconfig_is_used_from_the_next_call_on(
    tmp_path: Path,
) -> None:
    async with serving(in_turn(ok({"n": 1}))) as one, serving(in_turn(ok({"n": 2}))) as two:
        config = write_kubeconfig(tmp_path, one.url)
        async with client_of(config) as client:
            assert await (await client.cluster()).get(POD) == {"n": 1}
            write_kubeconfig(tmp_path, two.url + "/changed")
            write_kubeconfig(tmp_path, two.url)
            assert await (await client.cluster()).get(POD) == {"n": 2}


async def test_without_a_kubeconfig_the_call_says_what_to_set(tmp_path: Path) -> None:
    async with client_of(tmp_path / "none") as client:
        with pytest.raises(NotConfigured):
            await client.cluster()


@pytest.mark.parametrize("text", ["{", "a: [", "contexts: 7", "- 1", "\x00"])
async def test_a_broken_kubeconfig_is_not_quoted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("# token: sEcReT\n" + text, encoding="utf-8")
    async with client_of(path) as client:
        with pytest.raises(NotConfigured) as caught:
            await client.cluster()
    assert "sEcReT" not in str(caught.value)


async def test_a_watch_syncs_follows_and_lists_again_when_it_is_too_old(tmp_path: Path) -> None:
    def event(kind: str, version: str) -> bytes:
        thing = {"metadata": {"name": "d", "resourceVersion": version}}
        return json.dumps({"type": kind, "object": thing}).encode() + b"\n"

    gone = json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410}}).encode()
    watches = [
        Reply(body=event("ADDED", "2") + event("BOOKMARK", "3")),
        Reply(body=event("MODIFIED", "4") + gone),
        Reply(body=event("DELETED", "6")),
    ]
    versions: list[str] = []

    def answer(asked: Asked) -> Reply:
        if "watch" not in asked.query:
            return ok({"items": [{}], "metadata": {"resourceVersion": "1"}})
        versions.append(asked.query["resourceVersion"])
        return watches.pop(0)

    seen: list[str] = []
    async with (
        cluster_on(tmp_path, answer) as (cluster, _),
        aclosing(cluster.watch(PODS)) as changes,
    ):
        async for kind, _thing in changes:
            seen.append(kind)
            if kind == "DELETED":
                break
    assert seen == ["SYNC", "ADDED", "MODIFIED", "SYNC", "DELETED"]
    assert versions == ["1", "3", "1"]


async def test_a_stream_of_ten_megabytes_arrives_whole(tmp_path: Path) -> None:
    body = b"x" * (10 * 1024 * 1024)
    async with (
        cluster_on(tmp_path, in_turn(Reply(body=body))) as (cluster, _),
        cluster.stream(POD + "/log") as stream,
    ):
        assert sum([len(chunk) async for chunk in stream.chunks]) == len(body)


@given(
    code=st.sampled_from([400, 401, 403, 404, 409, 410, 422, 429, 500, 504, 418]),
    body=st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda m, r: json.dumps({"kind": "Status", "message": m, "reason": r}).encode(),
            st.text(max_size=80),
            st.one_of(st.none(), st.integers(), st.text(max_size=5)),
        ),
        st.just(b'{"kind":"Status","details":{"causes":["x"]}}'),
    ),
    wait=st.text(max_size=5),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_refusal_becomes_one_of_our_errors(code: int, body: bytes, wait: str) -> None:
    target = target_of("GET", POD)
    error = refusal(code, body, {"retry-after": wait}, target, context="c", sent_change=False)
    assert isinstance(error, DevOpsError)
    assert "\x1b" not in str(error)


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_no_name_leaves_its_place_in_the_path(namespace: str, name: str) -> None:
    path = path_of("pods", namespace=namespace, name=name, subresource="log")
    assert path.count("/") == 7
    assert "?" not in path and "#" not in path
    assert path.startswith("/api/v1/namespaces/")
