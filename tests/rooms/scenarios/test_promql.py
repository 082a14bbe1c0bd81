"""The replay's arithmetic, held against answers of a real Prometheus."""

import json
import math

import pytest

from mcp_devops.scenarios.counting import increase, quantile
from mcp_devops.scenarios.packing import Samples, pack_samples, read_packed, unpack_samples
from mcp_devops.scenarios.promql import BadQuery, compile_query, parse_selector
from mcp_devops.scenarios.recorded import folders

SERIES = [
    Samples({"__name__": "n", "pod": "a-1", "status": "200"}, [0, 10, 20], [0, 10, 20]),
    Samples({"__name__": "n", "pod": "b-1", "status": "500"}, [0, 10, 20], [5, 5, 8]),
]


@pytest.mark.parametrize("name", folders())
def test_queries_of_the_product_give_the_numbers_that_prometheus_gave(name: str) -> None:
    folder = folders()[name]
    samples = unpack_samples(read_packed(folder / "metrics.json.gz"))
    answers = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    assert len(answers) >= 10
    for answer in answers:
        found = compile_query(answer["query"])(samples, answer["time"])
        assert isinstance(found, list)
        ours = {tuple(sorted(labels.items())): value for labels, value in found}
        real = {
            tuple(sorted(r["metric"].items())): pytest.approx(float(r["value"][1]), rel=1e-6)
            for r in answer["result"]
        }
        assert ours == real, answer["query"]


def test_a_counter_that_began_anew_keeps_what_it_had_counted() -> None:
    assert increase([(0, 90), (10, 100), (20, 10)], 0, 20) == pytest.approx(20)


def test_one_sample_is_no_increase() -> None:
    assert increase([(0, 1)], 0, 10) is None


def test_matchers_take_all_four_signs() -> None:
    labels = {"__name__": "n", "pod": "a-1", "status": "200"}
    for text, fits in (
        ('n{status=~"2.."}', True),
        ('n{status!~"2.."}', False),
        ('{__name__=~"n|m",pod!="b-1"}', True),
        ('n{pod="a-1",missing=""}', True),
        ('n{pod=~"a"}', False),
    ):
        assert parse_selector(text).fits(labels) is fits, text


def test_sums_differences_and_ratios_follow_the_labels() -> None:
    run = compile_query('100 * sum(n{status="500"}) / sum by (nothing) (n)')
    found = run(SERIES, 20)
    assert isinstance(found, list)
    assert found[0][0] == {}
    assert found[0][1] == pytest.approx(100 * 8 / 28)
    assert compile_query("sum without (pod, status) (n) - 3")(SERIES, 20) == [({}, 25)]
    assert compile_query("-(2 - 5)")(SERIES, 20) == 3


def test_a_sample_that_is_too_old_is_gone() -> None:
    assert compile_query("n")(SERIES, 31) == []


@pytest.mark.parametrize(
    "query",
    ["predict_linear(n[5m], 60)", "sum(n", "n[5m]", "n{a~1}", 'n{a=~"("}', "increase(n)", "n n"],
)
def test_what_is_not_replayed_is_refused(query: str) -> None:
    with pytest.raises(BadQuery):
        compile_query(query)


def test_a_quantile_lies_inside_its_bucket_and_stops_at_the_last_edge() -> None:
    buckets = [(0.1, 50.0), (0.5, 100.0), (math.inf, 100.0)]
    assert quantile(0.75, buckets) == pytest.approx(0.3)
    assert quantile(0.99, [(0.1, 1.0), (math.inf, 100.0)]) == 0.1
    assert math.isnan(quantile(0.5, [(0.1, 0.0), (math.inf, 0.0)]))


def test_packed_samples_come_back_as_they_were() -> None:
    matrix = [{"metric": {"a": "b"}, "values": [[1.5, "3"], [3.501, "4.25"], [5.5, "0"]]}]
    (one,) = unpack_samples(pack_samples(matrix, 0, 9))
    assert (list(one.times), list(one.values)) == ([1.5, 3.501, 5.5], [3, 4.25, 0])
