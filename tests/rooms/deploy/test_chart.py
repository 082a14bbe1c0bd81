"""The chart as Helm renders it: the same as the overlays, refusing what cannot run."""

from __future__ import annotations

import os
from typing import Any

import pytest
import yaml

from tests.rooms.deploy.test_manifests import generated
from tests.support.helm import AVAILABLE, CHART, WHY_NOT, Refused, lint, rendered
from tests.support.manifests import rendered as overlay

RULES = CHART / "files" / "rules.yaml"
needs_helm = pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)
SHARED: dict[str, Any] = {"replicas": 2, "database": {"existingSecret": "mcp-devops-database"}}
OF_OVERLAY: dict[str, dict[str, Any]] = {"single": {}, "replicated": SHARED}
Manifest = dict[str, Any]


def rules(*options: str) -> dict[str, list[Manifest]]:
    printed = yaml.safe_load_all(generated("-n", "shop", *options))
    return {m["kind"]: m["rules"] for m in printed if "rules" in m}


def test_the_charts_rules_are_what_the_command_prints() -> None:
    found = {
        "watch": rules("--watch")["Role"],
        "writes": rules("--writes", "--watch")["Role"],
        "cluster": rules("--writes")["ClusterRole"],
    }
    if os.environ.get("UPDATE_SNAPSHOTS"):
        head = "# Written by `make generate` from the tools' declarations.\n"
        RULES.write_text(head + yaml.safe_dump(found, sort_keys=False), encoding="utf-8")
    assert yaml.safe_load(RULES.read_text(encoding="utf-8")) == found, "run: make generate"


def of(kind: str, manifests: list[Manifest]) -> Manifest:
    (found,) = [m for m in manifests if m["kind"] == kind]
    return found


@needs_helm
def test_helm_has_nothing_against_it() -> None:
    assert [line for line in lint() if "icon is recommended" not in line] == []


@needs_helm
@pytest.mark.parametrize("name", sorted(OF_OVERLAY))
def test_it_renders_what_the_overlay_does(name: str) -> None:
    chart, ours = rendered(OF_OVERLAY[name]), overlay(name)
    kinds = sorted(m["kind"] for m in chart)
    assert kinds == sorted(m["kind"] for m in ours if m["kind"] != "Namespace")
    for kind in ("NetworkPolicy", "Deployment"):
        mine, theirs = of(kind, chart)["spec"], of(kind, ours)["spec"]
        _without_instance(mine)
        for pod in (s["template"]["spec"] for s in (mine, theirs) if kind == "Deployment"):
            for each in pod["containers"]:
                each.pop("imagePullPolicy", None)
                each.get("env", []).sort(key=lambda e: str(e["name"]))
            pod["volumes"].sort(key=lambda v: str(v["name"]))
            pod["containers"].sort(key=lambda c: str(c["name"]))
            for volume in pod["volumes"]:
                volume.pop("persistentVolumeClaim", None)
        if kind == "Deployment":
            mine["template"]["metadata"]["annotations"].pop("checksum/settings")
            theirs["strategy"].setdefault("type", "RollingUpdate")
        assert mine == theirs
    assert policy_in(chart) == policy_in(ours)


def policy_in(manifests: list[Manifest]) -> Any:
    data = [m["data"] for m in manifests if m["kind"] == "ConfigMap"]
    (text,) = [d["policy.yaml"] for d in data if "policy.yaml" in d]
    return yaml.safe_load(text)


def _without_instance(value: Any) -> None:
    if isinstance(value, dict):
        value.pop("app.kubernetes.io/instance", None)
        for each in value.values():
            _without_instance(each)
    elif isinstance(value, list):
        for each in value:
            _without_instance(each)


@needs_helm
def test_a_role_in_each_namespace_grants_what_may_be_done_there() -> None:
    for read_only, wanted in ((False, "writes"), (True, "watch")):
        values = {"watch": {"namespaces": ["shop", "cart"], "readOnly": read_only}}
        found = rendered(values)
        roles = {m["metadata"]["namespace"]: m["rules"] for m in found if m["kind"] == "Role"}
        expected = yaml.safe_load(RULES.read_text(encoding="utf-8"))
        assert roles == {"shop": expected[wanted], "cart": expected[wanted]}
        arguments = of("Deployment", found)["spec"]["template"]["spec"]["containers"][0]["args"]
        assert ("--read-only" in arguments) is read_only
        assert {"--namespace=shop", "--namespace=cart"} <= set(arguments)


@needs_helm
def test_a_pattern_gets_a_cluster_role_and_is_refused_without() -> None:
    watch = {"namespaces": ["team-*"]}
    with pytest.raises(Refused, match="allNamespaces"):
        rendered({"watch": watch})
    found = rendered({"watch": {**watch, "allNamespaces": True}})
    expected = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    assert not [m for m in found if m["kind"] == "Role"]
    assert of("ClusterRole", found)["rules"] == expected["writes"] + expected["cluster"]


@needs_helm
@pytest.mark.parametrize(
    "values",
    [
        {"replicas": 2},
        {"replica": 1},
        {"watch": {"namespaces": []}},
        {"watch": {"namespaces": ["shop --context=other"]}},
        {"settings": {"PATH": "/usr/bin"}},
        {"policy": {"version": None}},
    ],
)
def test_values_that_cannot_run_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        rendered(values)


@needs_helm
def test_values_change_what_they_name_and_nothing_is_lost() -> None:
    found = rendered(
        {
            "image": {"repository": "mirror/mcp-devops", "tag": "9"},
            "serve": {"enabled": False},
            "networkPolicy": {"enabled": False},
            "rbac": {"create": False},
            "serviceAccount": {"create": False, "name": "own"},
            "policy": {"defaults": {"automatic": "verdict"}},
            "settings": {"MCP_DEVOPS_HTTP__ALLOWED_HOSTS": "mcp.example.com"},
            "persistence": {"existingClaim": "kept"},
        }
    )
    kinds = sorted(m["kind"] for m in found)
    assert kinds == ["ConfigMap", "ConfigMap", "Deployment", "Service"]
    pod = of("Deployment", found)["spec"]["template"]["spec"]
    assert [c["image"] for c in pod["containers"]] == ["mirror/mcp-devops:9"]
    assert pod["serviceAccountName"] == "own"
    assert {"name": "state", "persistentVolumeClaim": {"claimName": "kept"}} in pod["volumes"]
    data = {k: v for m in found if m["kind"] == "ConfigMap" for k, v in m["data"].items()}
    policy = yaml.safe_load(data["policy.yaml"])
    assert policy["defaults"]["automatic"] == "verdict" and policy["limits"]["breaker"] == "person"
    assert data["MCP_DEVOPS_HTTP__ALLOWED_HOSTS"] == "mcp.example.com"
    assert data["MCP_DEVOPS_PROMETHEUS__URL"].startswith("http://")
