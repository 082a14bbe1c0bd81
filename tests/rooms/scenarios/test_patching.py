"""Patches as an API server applies them."""

from typing import Any

import pytest

from mcp_devops.scenarios.patching import BadPatch, Stale, merged, patched

JSON_PATCH = "application/json-patch+json"
THING: dict[str, Any] = {
    "metadata": {"resourceVersion": "7", "uid": "u"},
    "spec": {"list": [1, 2], "a/b": 1},
}


def test_operations_add_replace_remove_and_test() -> None:
    result = patched(
        THING,
        [
            {"op": "test", "path": "/metadata/uid", "value": "u"},
            {"op": "add", "path": "/spec/list/-", "value": 3},
            {"op": "replace", "path": "/spec/a~1b", "value": 2},
            {"op": "remove", "path": "/spec/list/0"},
        ],
        JSON_PATCH,
    )
    assert result["spec"] == {"list": [2, 3], "a/b": 2}
    assert THING["spec"]["list"] == [1, 2]


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/spec/none", "value": 1},
        {"op": "test", "path": "/metadata/uid", "value": "other"},
        {"op": "move", "path": "/spec/list", "from": "/spec/a"},
        {"op": "add"},
    ],
)
def test_an_operation_that_does_not_apply_is_refused(operation: dict[str, object]) -> None:
    with pytest.raises(BadPatch):
        patched(THING, [operation], JSON_PATCH)


def test_another_resource_version_is_stale() -> None:
    operation = {"op": "replace", "path": "/metadata/resourceVersion", "value": "6"}
    with pytest.raises(Stale):
        patched(THING, [operation], JSON_PATCH)


def test_a_merge_patch_drops_nulls_and_replaces_where_it_says_so() -> None:
    old = {"a": {"b": 1, "c": 2}, "d": 3}
    assert merged(old, {"a": {"b": None}, "d": {"e": 1}}) == {"a": {"c": 2}, "d": {"e": 1}}
    assert merged(old, {"a": {"$patch": "replace", "x": 1}})["a"] == {"x": 1}


def test_an_unknown_media_type_is_refused() -> None:
    with pytest.raises(BadPatch):
        patched(THING, {}, "text/plain")
