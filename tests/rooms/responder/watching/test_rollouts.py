"""Hearing of rollouts: nothing is missed, nothing told twice, whatever becomes of the watch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_devops.errors import DevOpsError, PermissionDenied, UpstreamUnavailable
from mcp_devops.integrations.kubernetes.cluster import Cluster
from mcp_devops.journal.database import Database, open_database
from mcp_devops.model.target import Workload, WorkloadKind
from mcp_devops.responder.bookmarks import restoring_in
from mcp_devops.responder.watching.rollouts import (
    LEAST_PAUSE_S,
    TRIES,
    Rollout,
    RolloutWatch,
    Scope,
)
from mcp_devops.toolkit.clock import SystemClock
from tests.support.kubernetes_api import Asked, Reply, client_of, ok, serving, write_kubeconfig
from tests.support.waiting import until

Json = dict[str, Any]
CART = Workload(cluster="test", namespace="shop", name="cart")
LONG_AGO = "2020-01-01T00:00:00Z"
EXPIRED = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}


def deployment(image: str, name: str = "cart", version: int = 1) -> Json:
    done = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "generation": version,
            "resourceVersion": str(version),
            "creationTimestamp": LONG_AGO,
        },
        "spec": {
            "replicas": 1,
            "template": {"spec": {"containers": [{"name": "app", "image": image}]}},
        },
        "status": {
            "observedGeneration": version,
            "replicas": 1,
            "updatedReplicas": 1,
            "readyReplicas": 1,
            "availableReplicas": 1,
            "conditions": [{**done, "lastUpdateTime": LONG_AGO}],
        },
    }


def pod(name: str, reason: str | None = None) -> Json:
    state = {"waiting": {"reason": reason}} if reason else {"running": {}}
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "9"},
        "status": {"containerStatuses": [{"name": "app", "state": state, "restartCount": 0}]},
    }


def events(*changes: tuple[str, Json] | Json) -> Reply:
    """A watch that tells these and is closed."""
    told = [c if isinstance(c, dict) else {"type": c[0], "object": c[1]} for c in changes]
    return Reply(body=b"".join(json.dumps(t).encode() + b"\n" for t in told))


class World:
    """What a list gives, and what the next watches tell."""

    def __init__(self, *listed: Json) -> None:
        self.listed = list(listed)
        self.watches: list[Reply] = []
        self.pods: list[Reply] = []
        self.versions: list[str] = []
        self.lists = 0

    def __call__(self, asked: Asked) -> Reply:
        pods = asked.path.endswith("/pods")
        if "watch" not in asked.query:
            self.lists += not pods
            items = [] if pods else self.listed
            return ok({"items": items, "metadata": {"resourceVersion": "5"}})
        coming = self.pods if pods else self.watches
        if not pods:
            self.versions.append(asked.query["resourceVersion"])
        return coming.pop(0) if coming else Reply(silent=True)


class Heard:
    """Takes note of rollouts, and fails as often as it is told to."""

    def __init__(self, *fails: DevOpsError) -> None:
        self.told: list[Rollout] = []
        self.fails = list(fails)

    async def __call__(self, rollout: Rollout) -> None:
        if self.fails:
            raise self.fails.pop(0)
        self.told.append(rollout)

    @property
    def names(self) -> list[str]:
        return [r.target.name for r in self.told]


async def at_once(seconds: float) -> None:
    """A pause that the test does not wait for."""


@asynccontextmanager
async def cluster_of(world: World, folder: Path) -> AsyncIterator[Cluster]:
    async with serving(world) as api, client_of(write_kubeconfig(folder, api.url)) as client:
        yield await client.cluster()


@asynccontextmanager
async def watching(
    world: World, database: Database, folder: Path, heard: Callable[[Rollout], Any]
) -> AsyncIterator[RolloutWatch]:
    async with cluster_of(world, folder) as cluster:
        scope = Scope(("shop",), (WorkloadKind.DEPLOYMENT,))
        watch = RolloutWatch(cluster, database, SystemClock(), scope, heard, at_once)
        async with watch.running():
            await asyncio.wait_for(watch.listed.wait(), 20)
            yield watch


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "state.db") as opened:
        yield opened


async def settled(world: World, watches: int) -> None:
    """Until so many watches were asked for: all that came before was taken note of."""

    async def asked() -> bool:
        return len(world.versions) >= watches

    await until(asked)


async def test_a_rollout_that_began_while_nobody_watched_is_told_once(
    tmp_path: Path, database: Database
) -> None:
    heard = Heard()
    async with watching(World(deployment("shop/cart:1")), database, tmp_path, heard):
        assert heard.told == [], "an old rollout of a workload that was never seen is no news"
    for _ in range(2):
        async with watching(World(deployment("shop/cart:2", version=2)), database, tmp_path, heard):
            pass
    assert heard.names == ["cart"]


async def test_a_closed_watch_goes_on_from_where_it_was(tmp_path: Path, database: Database) -> None:
    heard = Heard()
    world = World(deployment("shop/cart:1"), deployment("shop/web:1", "web"))
    world.watches = [
        events(("MODIFIED", deployment("shop/cart:2", version=6))),
        events(
            ("MODIFIED", deployment("shop/cart:2", version=6)),
            ("MODIFIED", deployment("shop/web:2", "web", version=7)),
        ),
    ]
    async with watching(world, database, tmp_path, heard):
        await settled(world, 3)
    assert heard.names == ["cart", "web"]
    assert world.versions == ["5", "6", "7"] and world.lists == 1


async def test_a_version_that_is_too_old_lists_anew_and_finds_what_happened_in_the_gap(
    tmp_path: Path, database: Database
) -> None:
    heard = Heard()
    world = World(deployment("shop/cart:1"), deployment("shop/web:1", "web"))
    world.watches = [events(("MODIFIED", deployment("shop/cart:2", version=6)), EXPIRED)]
    async with watching(world, database, tmp_path, heard):
        world.listed = [
            deployment("shop/cart:2", version=6),
            deployment("shop/web:2", "web", version=8),
        ]
        await settled(world, 2)
    assert heard.names == ["cart", "web"] and world.lists == 2


async def test_a_moment_in_which_no_run_can_be_started_costs_no_rollout(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    away = [UpstreamUnavailable("Away.", fix="Wait.") for _ in range(TRIES - 1)]
    heard = Heard(*away)
    world = World(deployment("shop/cart:1"))
    world.watches = [
        events(
            ("MODIFIED", deployment("shop/cart:2", version=6)),
            ("ADDED", deployment("shop/web:1", "web", version=7)),
            ("MODIFIED", deployment("shop/web:2", "web", version=8)),
        )
    ]
    async with watching(world, database, tmp_path, heard):
        await settled(world, 2)
    assert heard.names == ["cart", "web"]
    assert "cart is looked at again" in caplog.text


@pytest.mark.parametrize("lasting", [True, False], ids=["too often", "for good"])
async def test_a_run_that_cannot_be_started_ends_the_watch_and_is_told_again_by_the_next(
    tmp_path: Path, database: Database, lasting: bool
) -> None:
    failure = UpstreamUnavailable if lasting else PermissionDenied
    heard = Heard(*(failure("No.", fix="Help.") for _ in range(TRIES if lasting else 1)))
    async with watching(World(deployment("shop/cart:1")), database, tmp_path, heard):
        pass
    world = World(deployment("shop/cart:2", version=2))
    with pytest.raises(ExceptionGroup) as caught:
        async with watching(world, database, tmp_path, heard):
            pass
    assert [type(e) for e in caught.value.exceptions] == [failure]
    async with watching(world, database, tmp_path, heard):
        pass
    assert heard.names == ["cart"]


async def test_a_workload_that_was_deleted_is_forgotten(tmp_path: Path, database: Database) -> None:
    heard = Heard()
    world = World(deployment("shop/cart:1"), deployment("shop/web:1", "web"))
    world.watches = [events(("DELETED", deployment("shop/web:1", "web", version=6)), EXPIRED)]
    async with watching(world, database, tmp_path, heard) as watch:
        world.listed = []
        await settled(world, 2)
        assert watch._templates == {}


async def test_trouble_wakes_the_run_it_is_about_and_no_later_one(
    tmp_path: Path, database: Database
) -> None:
    world = World(deployment("shop/cart:1"))
    world.pods = [
        events(
            ("ADDED", pod("cart-6d4c-xx", "CrashLoopBackOff")),
            ("ADDED", pod("cart-6d4c-yy")),
            ("ADDED", pod("nobody-6d4c-xx", "CrashLoopBackOff")),
        )
    ]
    api = CART.model_copy(update={"name": "cart-api"})
    async with cluster_of(world, tmp_path) as cluster:
        scope = Scope(("shop",), (WorkloadKind.DEPLOYMENT,))
        watch = RolloutWatch(cluster, database, SystemClock(), scope, Heard())
        with watch.attending(CART), watch.attending(api):
            async with watch.running():

                async def troubled() -> bool:
                    return watch.in_trouble(CART)

                await until(troubled)
                assert not watch.in_trouble(api)
                assert await watch.wake(CART, 30) and watch.in_trouble(CART)
                assert not await watch.wake(CART, LEAST_PAUSE_S / 2)
                assert not watch.in_trouble(CART), "it is told once"
                watch.found(CART, troubled=True)
                assert watch.in_trouble(CART)
                assert watch.rouse("cart") == 1
        assert watch.rouse("cart") == 0 and watch._attended == {}
        with watch.attending(CART), watch.attending(CART):
            assert not watch.in_trouble(CART), "an earlier run's trouble is not this one's"
        assert not watch.in_trouble(CART)


async def test_pods_that_may_not_be_watched_are_told_and_cost_nothing_else(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(deployment("shop/cart:1"))
    world.pods = [Reply(403, b'{"kind":"Status","code":403,"message":"no"}')]
    world.watches = [events(("MODIFIED", deployment("shop/cart:2", version=6)))]
    heard = Heard()
    async with watching(world, database, tmp_path, heard):
        await settled(world, 2)
    assert heard.names == ["cart"]
    assert "pods are not watched" in caplog.text


async def test_the_same_version_rolled_out_again_is_a_rollout_of_its_own(
    tmp_path: Path, database: Database
) -> None:
    heard = Heard()
    world = World(deployment("shop/cart:1"))
    images = ("shop/cart:2", "shop/cart:1", "shop/cart:2")
    world.watches = [
        events(*(("MODIFIED", deployment(i, version=6 + n)) for n, i in enumerate(images)))
    ]
    async with watching(world, database, tmp_path, heard):
        await settled(world, 2)
    assert len(heard.told) == 3 and len({r.run_id for r in heard.told}) == 3
    assert heard.told[0].template_hash == heard.told[2].template_hash


async def test_what_we_bring_back_is_no_rollout_and_is_one_when_it_is_rolled_out_again(
    tmp_path: Path, database: Database
) -> None:
    heard = Heard()
    first = World(deployment("shop/cart:1"))
    async with watching(first, database, tmp_path, heard) as watch:
        rollout = await watch.live(CART, deployment("shop/cart:1"))
        assert rollout is not None
        now = SystemClock().now()
        await database.run(lambda c: restoring_in(c, rollout.uid, rollout.template_hash, now))
        assert await watch.live(CART, deployment("shop/cart:1")) is None
    world = World(deployment("shop/cart:2", version=2))
    world.watches = [
        events(
            ("MODIFIED", deployment("shop/cart:1", version=6)),
            ("MODIFIED", deployment("shop/cart:2", version=7)),
            ("MODIFIED", deployment("shop/cart:1", version=8)),
        )
    ]
    async with watching(world, database, tmp_path, heard) as watch:
        await settled(world, 2)
        now_live = await watch.live(CART, deployment("shop/cart:1", version=8))
    hashes = [r.template_hash for r in heard.told]
    assert len(hashes) == 3 and hashes[0] == hashes[1] != hashes[2] == rollout.template_hash
    assert now_live == heard.told[-1], "a webhook that comes late names the same run"


async def test_a_replica_that_lags_behind_tells_no_rollout_again(
    tmp_path: Path, database: Database
) -> None:
    first, late = Heard(), Heard()
    changes = [("MODIFIED", deployment(f"shop/cart:{n}", version=4 + n)) for n in (2, 3)]
    one = World(deployment("shop/cart:1"))
    one.watches = [events(*changes)]
    async with watching(one, database, tmp_path, first):
        await settled(one, 2)
    other = World(deployment("shop/cart:1"))
    other.watches = [events(*changes, ("MODIFIED", deployment("shop/cart:4", version=8)))]
    async with watching(other, database, tmp_path, late):
        await settled(other, 2)
    assert len(first.told) == 2
    assert [r.number for r in late.told] == [4], "only what nobody had heard of"


def changed(workload: Json, **spec: Any) -> Json:
    return {**workload, "spec": {**workload["spec"], **spec}}


async def test_a_change_of_scale_is_no_rollout(tmp_path: Path, database: Database) -> None:
    heard = Heard()
    world = World(deployment("shop/cart:1"))
    larger = changed(deployment("shop/cart:1", version=6), replicas=9)
    world.watches = [events(("MODIFIED", larger))]
    async with watching(world, database, tmp_path, heard):
        await settled(world, 2)
    assert heard.told == []


async def test_what_is_changed_while_it_is_paused_rolls_out_when_it_is_resumed(
    tmp_path: Path, database: Database
) -> None:
    heard = Heard()
    world = World(deployment("shop/cart:1"))
    paused = changed(deployment("shop/cart:2", version=6), paused=True)
    world.watches = [events(("MODIFIED", paused))]
    async with watching(world, database, tmp_path, heard) as watch:
        await settled(world, 2)
        assert heard.told == [], "nothing rolls out"
        assert await watch.live(CART, paused) is None
    resumed = World(deployment("shop/cart:2", version=7))
    async with watching(resumed, database, tmp_path, heard):
        pass
    assert [r.number for r in heard.told] == [2]


async def test_a_workload_made_anew_under_its_old_name_is_a_rollout_of_its_own(
    tmp_path: Path, database: Database
) -> None:
    heard = Heard()
    old = deployment("shop/cart:1")
    made = SystemClock().now().isoformat()
    anew = deployment("shop/cart:1", version=8)
    anew["metadata"] |= {"uid": "uid-anew", "generation": 1, "creationTimestamp": made}
    world = World(old)
    world.watches = [events(("DELETED", old), ("ADDED", anew))]
    async with watching(world, database, tmp_path, heard):
        await settled(world, 2)
    assert [r.uid for r in heard.told] == ["uid-anew"]


async def test_two_replicas_that_hear_of_a_rollout_at_once_name_the_same_run(
    tmp_path: Path, database: Database
) -> None:
    both: list[Rollout] = []
    met = asyncio.Barrier(2)

    async def heard(rollout: Rollout) -> None:
        both.append(rollout)
        await met.wait()

    for_one, for_two = tmp_path / "one", tmp_path / "two"
    for_one.mkdir()
    for_two.mkdir()
    async with watching(World(deployment("shop/cart:1")), database, for_one, heard):
        pass
    new = World(deployment("shop/cart:2", version=2)), World(deployment("shop/cart:2", version=2))
    async with (
        asyncio.timeout(20),
        asyncio.TaskGroup() as tasks,
    ):
        for world, folder in zip(new, (for_one, for_two), strict=True):
            tasks.create_task(_watched(world, database, folder, heard))
    assert len({r.run_id for r in both}) == 1 and both[0].number == 2


async def _watched(
    world: World, database: Database, folder: Path, heard: Callable[[Rollout], Any]
) -> None:
    async with watching(world, database, folder, heard):
        pass
