from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.errors import DevOpsError
from mcp_devops.integrations.sentry.foreign import moment, number, own_link, shown, term
from mcp_devops.integrations.sentry.pauses import LONGEST_PAUSE_S, next_page, pause
from mcp_devops.integrations.sentry.projects import choose, read_projects
from mcp_devops.integrations.sentry.timeseries import read_stats, read_timeseries
from tests.support.sentry import NOW

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
ROW = st.fixed_dictionaries(
    {
        "timestamp": JSON | st.integers(0, 10**13),
        "value": JSON | st.floats(0, 9),
        "incomplete": JSON,
    }
)
SERIES = st.fixed_dictionaries(
    {
        "yAxis": st.sampled_from(["count()", 7]),
        "meta": st.fixed_dictionaries({"interval": JSON, "valueUnit": JSON}) | JSON,
        "values": st.lists(ROW) | JSON,
    }
)


@given(JSON | st.fixed_dictionaries({"timeSeries": st.lists(SERIES) | JSON}))
def test_any_new_answer_is_read_and_what_is_incomplete_never_counts(body: Any) -> None:
    complete = str(body).count("'incomplete': False")
    for axis in read_timeseries(body).values():
        assert len(axis.points) <= complete
        assert all(v >= 0 for v in axis.points.values())


@given(
    JSON
    | st.fixed_dictionaries(
        {
            "data": st.lists(st.tuples(JSON | st.integers(0, 10**10), st.lists(JSON)))
            | st.lists(JSON)
        }
    ),
    st.sampled_from([("count()",), ("count()", "failure_count()")]),
)
def test_any_old_answer_is_read(body: Any, axes: tuple[str, ...]) -> None:
    assert all(v >= 0 for a in read_stats(body, axes).values() for v in a.points.values())


def row(minute: int, **more: Any) -> dict[str, Any]:
    return {"timestamp": minute * 60_000, "value": 1, "incomplete": False, **more}


@pytest.mark.parametrize(
    ("interval", "told"), [(60_000, 60), (60, 60), (None, 60), (3600, None), (300_000, None)]
)
def test_the_distance_of_the_buckets_is_their_length_and_meta_must_agree(
    interval: Any, told: float | None
) -> None:
    values = [row(m) for m in (1, 2, 4)]
    series = {"yAxis": "count()", "meta": {"interval": interval}, "values": values}
    assert read_timeseries({"timeSeries": [series]})["count()"].interval_s == told


def test_few_samples_and_the_first_of_two_equal_axes_are_noticed() -> None:
    first = {"yAxis": "count()", "meta": {}, "values": [row(1, confidence="low"), row(2)]}
    second = {"yAxis": "count()", "meta": {}, "values": []}
    axis = read_timeseries({"timeSeries": [first, second]})["count()"]
    assert axis.guessed and len(axis.points) == 2
    single = {"yAxis": "count()", "meta": {"interval": 60_000}, "values": [row(1)]}
    assert read_timeseries({"timeSeries": [single]})["count()"].interval_s == 60


def test_an_old_answer_with_several_axes_is_keyed_by_them() -> None:
    one = {"data": [[60, [{"count": 2}]], [120, []]], "meta": {"units": {"p": "second"}}}
    found = read_stats({"a()": one, "b()": {}}, ("a()", "b()"))
    assert set(found) == {"a()"}
    assert found["a()"].points == {60: 2, 120: 0} and found["a()"].unit_ms == 1000


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:09 GMT"}, 9),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "1e99"}, LONGEST_PAUSE_S),
        ({"x-sentry-rate-limit-reset": str(NOW.timestamp() + 3)}, 3),
        ({"retry-after": "soon", "x-sentry-rate-limit-reset": str(NOW.timestamp() + 3)}, 3),
        ({"x-sentry-rate-limit-reset": "nan"}, None),
        ({}, None),
    ],
)
def test_a_pause_is_read_from_whichever_header_says_it(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert pause(headers, NOW) == seconds


@given(st.text(), st.text())
def test_any_pause_is_bounded(after: str, reset: str) -> None:
    found = pause({"retry-after": after, "x-sentry-rate-limit-reset": reset}, NOW)
    assert found is None or 0 <= found <= LONGEST_PAUSE_S


def test_the_next_page_is_one_only_with_results() -> None:
    before = '<https://s/?cursor=0>; rel="previous"; results="true"; cursor="0:0:1"'
    after = '<https://s/?cursor=1>; rel="next"; results="{}"; cursor="0:100:0"'
    assert next_page(f"{before}, {after.format('true')}") == ("https://s/?cursor=1", "0:100:0")
    assert next_page('<https://s/>; rel="next"; results="true"') is None
    assert next_page(f"{before}, {after.format('false')}") is None
    assert next_page(None) is None and next_page(before) is None


@given(st.text())
def test_any_link_header_is_read(link: str) -> None:
    assert next_page(link) is None or 'rel="next"' in link


@given(st.text(min_size=1))
def test_a_term_has_no_end_and_no_wildcard_inside(value: str) -> None:
    try:
        found = term("release", value)
    except DevOpsError:
        assert not value.isprintable()
        return
    inside = found.removeprefix('release:"').removesuffix('"')
    assert re.fullmatch(r'(?:[^"\\*]|\\["\\*])*', inside)
    assert re.sub(r"\\(.)", r"\1", inside) == value


@pytest.mark.parametrize(
    ("link", "base", "kept"),
    [
        ("https://sentry.io/x", "https://sentry.io", True),
        ("https://acme.sentry.io/x", "https://de.sentry.io", True),
        ("https://notsentry.io/x", "https://sentry.io", False),
        ("https://sentry.io.evil.example/x", "https://sentry.io", False),
        ("https://user@sentry.io/x", "https://sentry.io", False),
        ("javascript:alert(1)", "https://sentry.io", False),
        ("https://s.example:8443/x", "https://s.example", False),
        ("https://s.example/x", "https://s.example", True),
        ("https://[x/", "https://s.example", False),
        ("https://s.example/a b", "https://s.example", False),
        ("https://s.example/" + "x" * 300, "https://s.example", False),
        (None, "https://s.example", False),
    ],
)
def test_a_link_is_shown_only_if_it_leads_to_the_configured_sentry(
    link: Any, base: str, kept: bool
) -> None:
    assert own_link(link, base) == (link if kept else None)


@given(JSON)
def test_any_value_is_a_text_a_number_a_time_or_nothing(value: Any) -> None:
    assert len(shown(value, 50)) <= 50 and "\n" not in shown(value, 50)
    assert number(value) is None or isinstance(number(value), float)
    assert moment(value) is None or isinstance(moment(value), datetime)


def test_a_time_without_a_zone_is_sentrys_utc() -> None:
    assert moment("2026-03-01T12:00:00") == NOW.astimezone(UTC)
    assert moment("2026-03-01T13:00:00+01:00") == NOW


def test_projects_without_id_or_slug_are_left_out_and_many_are_not_all_named() -> None:
    rows: list[dict[str, Any]] = [{"id": "x", "slug": "a"}, {"id": 1}, {"id": 2, "slug": "b"}]
    (only,) = read_projects(rows)
    assert (only.id, only.slug, only.silent) == ("2", "b", False)
    assert choose([only], "x", "2", ()) == (only,)
    many = read_projects({"id": n, "slug": f"p{n}"} for n in range(14))
    with pytest.raises(DevOpsError) as raised:
        choose(many, "web", None, ("p1", "gone"))
    assert "and 4 more" in raised.value.fix and "gone" in raised.value.what
    with pytest.raises(DevOpsError) as none:
        choose([], "web", None, ())
    assert "none" in none.value.fix
