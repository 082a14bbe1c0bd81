from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.errors import DevOpsError, InvalidArguments, UpstreamUnavailable
from mcp_devops.integrations.datadog.answers import Points, check_spacing, read_v1, read_v2
from mcp_devops.integrations.datadog.queries import TAG_VALUE, operation_name, tag_value

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["data", "attributes", "series", "values", "times", "status", "pointlist", "unit",
             "query_index", "errors", "error", "family", "scale_factor"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=20,
)  # fmt: skip


def v2(times: list[Any], *rows: tuple[int, list[Any]], unit: Any = None) -> dict[str, Any]:
    series = [{"query_index": i, "unit": unit, "group_tags": []} for i, _ in rows]
    attributes = {"times": times, "series": series, "values": [v for _, v in rows]}
    return {"data": {"attributes": attributes}}


@given(JSON, st.integers(1, 4))
def test_whatever_is_answered_is_points_or_our_error(body: Any, count: int) -> None:
    for read in (read_v1, read_v2):
        try:
            found = read(body, count)
        except DevOpsError:
            continue
        assert len(found) == count
        for points in found:
            assert all(v is None or v >= 0 for v in points.values.values())


@given(st.lists(st.none() | st.floats(0, 1e9), min_size=1, max_size=30))
def test_both_versions_are_read_alike(values: list[float | None]) -> None:
    times = [60_000 * i for i in range(len(values))]
    first = {
        "status": "ok",
        "series": [{"pointlist": [[float(t), v] for t, v in zip(times, values, strict=True)]}],
    }
    assert read_v1(json.loads(json.dumps(first)), 1) == read_v2(v2(times, (0, values)), 1)


def test_null_and_what_is_no_number_stay_missing() -> None:
    strange = [None, float("nan"), float("inf"), -1, "7", True, 0]
    (points,) = read_v2(v2([60_000 * i for i in range(7)], (0, strange)), 1)
    assert list(points.values.values()) == [None] * 6 + [0.0]


def test_a_query_without_a_series_is_told_from_one_with_nulls() -> None:
    nulls, nothing = read_v2(v2([0, 60_000], (0, [None, None])), 2)
    assert nulls.found and not nothing.found and nothing == Points()


def test_units_of_time_are_read_and_others_are_not() -> None:
    for unit, expected in [
        ([{"family": "time", "scale_factor": 1e-9}, None], 1e-9),
        ([{"family": "bytes", "scale_factor": 1.0}, None], None),
        ([{"family": "time"}], None),
        (None, None),
        ([None, None], None),
    ]:
        assert read_v2(v2([0], (0, [1]), unit=unit), 1)[0].unit_s == expected


@pytest.mark.parametrize(
    "body",
    [
        v2([0, 60_000], (0, [1])),
        v2([0.5], (0, [1])),
        v2([True], (0, [1])),
        v2([1e300], (0, [1])),
        v2([0], (3, [1])),
        {"data": {"attributes": {"times": [0], "series": [{}], "values": []}}},
        {"data": None},
        [],
    ],
)
def test_another_shape_is_not_read_as_data(body: Any) -> None:
    with pytest.raises(UpstreamUnavailable):
        read_v2(body, 1)


def test_several_queries_without_their_index_are_not_guessed() -> None:
    body = {"status": "ok", "series": [{"pointlist": []}]}
    assert read_v1(body, 1)[0].found
    with pytest.raises(UpstreamUnavailable):
        read_v1(body, 2)


def test_an_error_within_the_second_version_is_one() -> None:
    for said in ("too much", ["too", "much"]):
        with pytest.raises(InvalidArguments):
            read_v2({"errors": said}, 1)


def test_sparse_points_are_not_taken_for_coarse_buckets() -> None:
    check_spacing([Points({0: 1.0, 600: 1.0, 1200: 1.0}), Points(), Points({0: 1.0})], 60)
    check_spacing([Points({0: 1.0, 300: 1.0, 600: 1.0, 660: 1.0})], 60)
    with pytest.raises(InvalidArguments):
        check_spacing([Points({0: 1.0, 300: 1.0, 600: 1.0, 900: 1.0})], 60)


@given(st.text(max_size=40))
def test_a_name_cannot_break_out_of_its_filter(name: str) -> None:
    try:
        value = tag_value(name, "service")
    except InvalidArguments:
        assert not TAG_VALUE.fullmatch(name)
        return
    assert not set(value) & set("{}(),*!\"'$ \n\t\\") and len(value) <= 600


def test_names_are_written_as_datadog_keeps_them() -> None:
    assert tag_value("Checkout/API", "service") == "checkout/api"
    assert tag_value("1.2.3+abc", "version") == "1.2.3_abc"
    assert operation_name("undertow-http.request") == "undertow_http.request"
    for wrong in ("flask.request{*}", "", "ünder", "a b"):
        with pytest.raises(InvalidArguments):
            operation_name(wrong)
