"""The replayed Prometheus answers like one."""

from mcp_devops.scenarios.promql import LOOKBACK_S
from tests.rooms.scenarios.conftest import Play, Played
from tests.rooms.scenarios.test_replayed_cluster import undo


async def value(played: Played, query: str, at: float | None = None) -> float:
    form = {"query": query} | ({"time": str(at)} if at is not None else {})
    answer = (await played.prometheus.post("/api/v1/query", data=form)).json()
    (one,) = answer["data"]["result"]
    return float(one["value"][1])


async def test_errors_are_those_of_the_new_release(play: Play) -> None:
    async with play("error-spike") as played:
        failed = await value(
            played, 'sum(increase(http_requests_total{service="payments",status="500"}[60s]))'
        )
        counted = await value(
            played,
            'sum(increase(http_requests_total{service="payments",version="2.4.0"}[60s]))',
        )
        assert 0.15 < failed / counted < 0.3


async def test_series_are_found_by_selector_and_time(play: Play) -> None:
    async with play("error-spike") as played:
        now = played.world.now()
        match = 'http_requests_total{service="payments",version="2.4.0"}'
        for start, some in ((now - 30, True), (now - 900, False)):
            form = {"match[]": match, "start": str(start), "end": str(start + 30)}
            found = (await played.prometheus.post("/api/v1/series", data=form)).json()["data"]
            assert bool(found) is some
            assert all(s["version"] == "2.4.0" for s in found)


async def test_a_range_has_a_value_at_each_step(play: Play) -> None:
    async with play("error-spike") as played:
        now = played.world.now()
        form = {
            "query": 'sum(rate(http_requests_total{service="catalog"}[20s]))',
            "start": str(now - 60),
            "end": str(now),
            "step": "10",
        }
        answer = (await played.prometheus.post("/api/v1/query_range", data=form)).json()
        (row,) = answer["data"]["result"]
        assert len(row["values"]) == 7
        assert all(8 < float(v) < 12 for _, v in row["values"])


async def test_nothing_is_known_of_the_future(play: Play) -> None:
    async with play("error-spike") as played:
        later = played.world.now() + 10 * LOOKBACK_S
        answer = await played.prometheus.get(
            "/api/v1/query", params={"query": "http_requests_total", "time": str(later)}
        )
        assert answer.json()["data"]["result"] == []


async def test_a_query_it_cannot_answer_is_an_error_that_says_so(play: Play) -> None:
    async with play("error-spike") as played:
        for query in ("deriv(up[5m])", "sum(", ""):
            answer = await played.prometheus.post("/api/v1/query", data={"query": query})
            assert answer.status_code == 400
            assert answer.json()["status"] == "error"
        answer = await played.prometheus.post(
            "/api/v1/query_range", data={"query": "up", "start": "0", "end": "9e9", "step": "1"}
        )
        assert answer.json()["errorType"] == "bad_data"


async def test_time_runs_faster_once_the_rollback_is_made(play: Play) -> None:
    async with play("error-spike") as played:
        assert played.world.clock.speed == 1
        before = played.world.clock.now()
        assert (await undo(played)).status_code == 200
        assert played.world.clock.speed > 1
        assert played.world.clock.now() >= before
