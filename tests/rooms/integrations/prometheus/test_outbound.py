"""Calls to dependencies, found under the names that the common libraries give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mcp_devops.integrations.prometheus.outbound import MOST_DEPENDENCIES, outbound_calls
from mcp_devops.integrations.prometheus.series import Subject
from mcp_devops.model.surroundings import OutboundCalls
from mcp_devops.model.window import WindowRule, windows_around
from mcp_devops.scenarios.packing import Samples
from tests.support.prometheus_api import NOW, SCRAPE_S, minutes_ago, prometheus

DEPLOYED = minutes_ago(10)
RULE = WindowRule(baseline_s=600, buffer_s=60, step_s=60)
SPLIT = Subject("checkout", "shop", "checkout-new", "checkout-old")


def counter(name: str, rate: float, begun: float = 25, /, **labels: str) -> Samples:
    """A counter that has grown evenly since some minutes ago."""
    start = minutes_ago(begun).timestamp()
    count = int((NOW.timestamp() - start) // SCRAPE_S) + 1
    times = [start + i * SCRAPE_S for i in range(count)]
    values = [round(rate * SCRAPE_S * i, 6) for i in range(count)]
    return Samples({"__name__": name, **labels}, times, values)


async def calls(
    samples: Sequence[Samples], subject: Subject = SPLIT, **settings: Any
) -> list[OutboundCalls]:
    windows = windows_around(DEPLOYED, NOW, RULE)
    assert windows is not None
    async with prometheus(samples, **settings) as client:
        return await outbound_calls(client, subject, windows)


OTEL = "http_client_request_duration_seconds_count"


async def test_calls_are_told_by_dependency_before_after_and_by_revision() -> None:
    def peer(pod: str, host: str, begun: float, good: float, bad: float) -> list[Samples]:
        base = {"service_name": "checkout", "pod": pod, "server_address": host}
        ok = counter(OTEL, good, begun, **base, http_response_status_code="200")
        timed_out = counter(OTEL, bad, begun, **base, error_type="timeout")
        return [ok, timed_out] if bad else [ok]

    old, new = "checkout-old-aaaaa", "checkout-new-bbbbb"
    found = await calls(
        [
            *peer(old, "bank.example", 25, 5, 0),
            *peer(new, "bank.example", 10, 5, 5),
            *peer(old, "mail.example", 25, 2, 0),
        ]
    )
    bank, mail = found
    assert (bank.dependency, mail.dependency) == ("bank.example", "mail.example")
    assert bank.baseline_error_rate == 0 and bank.after_error_rate == pytest.approx(1 / 3, abs=0.02)
    assert bank.old_error_rate == 0 and bank.new_error_rate == pytest.approx(0.5, abs=0.02)
    assert mail.failed == 0 and mail.new_error_rate is None
    assert 'error_type!=""' in bank.query and "sum by (server_address)" in bank.query


async def test_what_the_caller_did_wrong_is_not_the_dependencys_failure() -> None:
    base = {"service_name": "checkout", "server_address": "bank.example"}
    found = await calls(
        [
            counter(OTEL, 5, **base, http_response_status_code="200"),
            counter(OTEL, 5, **base, http_response_status_code="404", error_type="404"),
        ]
    )
    assert [(c.failed, c.after_error_rate) for c in found] == [(0, 0)]


@pytest.mark.parametrize(
    ("name", "labels", "failed"),
    [
        ("http_client_requests_seconds_count", {"application": "checkout", "client_name": "bank"},
         {"outcome": "UNKNOWN"}),
        ("http_client_duration_milliseconds_count", {"job": "checkout", "net_peer_name": "bank"},
         {"http_status_code": "503"}),
        ("http_client_requests_total", {"app": "checkout", "dependency": "bank"},
         {"status": "500"}),
        ("grpc_client_handled_total", {"service": "checkout", "grpc_service": "bank"},
         {"grpc_code": "Unavailable"}),
        ("istio_requests_total", {"source_workload": "checkout", "reporter": "source",
          "destination_service_name": "bank"}, {"response_code": "503"}),
    ],
)  # fmt: skip
async def test_each_convention_is_found(
    name: str, labels: dict[str, str], failed: dict[str, str]
) -> None:
    good = {k: "200" if v != "Unavailable" else "OK" for k, v in failed.items()}
    good = {k: "SUCCESS" if k == "outcome" else v for k, v in good.items()}
    found = await calls([counter(name, 3, **labels, **good), counter(name, 1, **labels, **failed)])
    assert [c.dependency for c in found] == ["bank"]
    assert found[0].after_error_rate == pytest.approx(0.25, abs=0.01)


async def test_a_service_graph_counts_its_failures_apart() -> None:
    labels = {"client": "checkout", "server": "bank"}
    found = await calls(
        [
            counter("traces_service_graph_request_total", 4, **labels),
            counter("traces_service_graph_request_failed_total", 1, **labels),
        ]
    )
    assert found[0].after_error_rate == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [counter(OTEL, 3, service_name="other", server_address="bank")],
        [counter(OTEL, 3, service_name="checkout", http_response_status_code="200")],
        [counter("grpc_client_handled_total", 3, service="checkout", grpc_service="bank")],
    ],
    ids=["nothing", "another service", "no peer", "no failures told apart"],
)
async def test_what_cannot_be_told_is_left_out(samples: list[Samples]) -> None:
    assert await calls(samples) == []


async def test_only_the_busiest_dependencies_are_told_and_names_are_cleaned() -> None:
    base = {"service_name": "checkout", "http_response_status_code": "200"}
    found = await calls(
        [counter(OTEL, 1 + n, **base, server_address=f"host-{n}\x1b[31m") for n in range(40)]
    )
    assert len(found) == MOST_DEPENDENCIES
    assert found[0].dependency == "host-39"
