"""The policy: bounds, version, description, windows."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mcp_devops.decision import ChangeHistory, Policy
from mcp_devops.decision.policy import Limits, TimeRules, Weights


def test_other_numbers_are_another_version() -> None:
    changed = Policy(limits=Limits(automatic_confidence=0.9))
    assert Policy().version == Policy().version
    assert changed.version != Policy().version
    assert changed.version.startswith("default-")


@pytest.mark.parametrize(
    ("record", "number", "value"),
    [
        (Limits, "automatic_confidence", 0.5),
        (Limits, "exposure_unknown_cap", 0.85),
        (TimeRules, "sustained_s", 10),
        (Weights, "fires", 9.0),
    ],
)
def test_a_number_outside_its_safe_bounds_is_refused(
    record: type[Limits] | type[TimeRules] | type[Weights], number: str, value: float
) -> None:
    with pytest.raises(ValidationError):
        record.model_validate({number: value})


def test_the_description_has_every_number_with_its_meaning() -> None:
    text = Policy().describe()
    for number in (
        "automatic_confidence | 0.8 |",
        "sustained_s | 60",
        "age_s | 900",
        "floor | 0.005",
    ):
        assert number in text
    assert "windows of sentry" in text
    assert not [line for line in text.splitlines() if line.endswith("|  |")]


def test_a_source_that_lags_has_a_grace_of_its_own() -> None:
    assert Policy().window_rule("sentry").grace_s == 180
    assert Policy().window_rule("prometheus").grace_s == 0


def test_the_prior_is_the_services_own_failure_rate() -> None:
    assert ChangeHistory().failure_rate == pytest.approx(0.1)
    assert ChangeHistory(deployments=90, failed=29).failure_rate == pytest.approx(0.3)
    assert ChangeHistory(deployments=10, failed=40).failure_rate == 0.9
