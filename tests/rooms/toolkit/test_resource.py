from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.toolkit.context import Services
from mcp_devops.toolkit.resource import ResourceSpec

PARTS = st.text(st.characters(codec="utf-8"), max_size=30)


async def read(services: Services, parameters: Mapping[str, str]) -> str:
    return ""


def family(uri: str) -> ResourceSpec:
    return ResourceSpec(uri=uri, name="x", description="x", mime_type="text/plain", read=read)


POD = family("incident://pods/{namespace}/{pod}")


@given(namespace=PARTS, pod=PARTS)
def test_whatever_the_names_hold_an_address_gives_them_back(namespace: str, pod: str) -> None:
    address = POD.address(namespace=namespace, pod=pod)
    assert address.isascii() and " " not in address
    assert POD.match(address) == {"namespace": namespace, "pod": pod}


@given(st.text(max_size=80))
def test_a_foreign_address_never_gives_a_name_with_a_raw_slash(address: str) -> None:
    found = POD.match(address)
    assert found is None or address.startswith("incident://pods/")


@pytest.mark.parametrize(
    "address",
    [
        "incident://pods/shop",
        "incident://pods/shop/a/b",
        "incident://podsXshop/a",
        "xincident://pods/shop/a",
        "incident://pods/shop/a/",
        "",
    ],
)
def test_an_address_of_another_shape_is_not_of_the_family(address: str) -> None:
    assert POD.match(address) is None


def test_a_percent_encoded_slash_stays_inside_its_name() -> None:
    assert POD.match("incident://pods/a%2Fb/c%20d") == {"namespace": "a/b", "pod": "c d"}


def test_dots_and_brackets_of_an_address_are_taken_as_they_stand() -> None:
    policy = family("incident://policy.v1?x=(1)")
    assert not policy.is_template and POD.is_template
    assert policy.match("incident://policy.v1?x=(1)") == {}
    assert policy.match("incident://policyXv1?x=(1)") is None
