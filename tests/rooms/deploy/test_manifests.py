"""The manifests as kubectl renders them: locked down, generated where they can be, valid."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcp_devops.cli.manifests import WATCHING
from mcp_devops.errors import NotConfigured
from mcp_devops.gateway.opening import DRAIN_S
from mcp_devops.integrations.prometheus.settings import PrometheusSettings
from mcp_devops.model.target import Workload
from mcp_devops.response_policy.file import PolicyFile
from mcp_devops.response_policy.settings import ResponseSettings
from mcp_devops.server.settings import HttpSettings
from mcp_devops.settings import OwnTable, ServerSettings, unknown_variables
from mcp_devops.toolkit.clock import SystemClock
from tests.support.manifests import BASE, OVERLAYS, rendered

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not on the PATH"
)
Manifest = dict[str, Any]


@cache
def _overlay(name: str) -> tuple[Manifest, ...]:
    return tuple(rendered(name))


def overlay(name: str) -> list[Manifest]:
    return copy.deepcopy(list(_overlay(name)))


def one(name: str, kind: str) -> Manifest:
    (found,) = [m for m in overlay(name) if m["kind"] == kind]
    return found


def pod(name: str) -> Manifest:
    spec: Manifest = one(name, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(name: str, which: str) -> Manifest:
    (found,) = [c for c in pod(name)["containers"] if c["name"] == which]
    return dict(found)


def generated(*options: str) -> str:
    """What the command prints, with no settings of whoever runs the test."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MCP_DEVOPS_")}
    command = [sys.executable, "-m", "mcp_devops", "rbac", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=clean).stdout


def test_rbac_is_what_the_command_prints() -> None:
    printed = generated("-n", "shop", "--account-namespace", "mcp-devops", "--writes")
    kept = (BASE / "rbac.yaml").read_text(encoding="utf-8")
    assert kept == printed, (
        "run: mcp-devops rbac -n shop --account-namespace mcp-devops --writes"
        " > deploy/kustomize/base/rbac.yaml"
    )


def test_rbac_grants_what_watching_needs() -> None:
    rules = one("single", "Role")["rules"]
    granted = {(v, r) for rule in rules for r in rule["resources"] for v in rule["verbs"]}
    for resource in ("deployments", "statefulsets", "daemonsets", "pods"):
        assert {("list", resource), ("watch", resource)} <= granted
    assert not {r for _, r in granted} & {"secrets", "configmaps", "*"}


@pytest.mark.parametrize("options", [("--watch",), ("--writes",)])
def test_an_account_that_is_made_for_watching_may_watch(options: tuple[str, ...]) -> None:
    role = next(
        m for m in yaml.safe_load_all(generated("-n", "shop", *options)) if m["kind"] == "Role"
    )
    granted = {(v, r) for rule in role["rules"] for r in rule["resources"] for v in rule["verbs"]}
    assert {(need.verb, need.resource) for need in WATCHING} <= granted
    assert ("--writes" in options) == (("patch", "deployments") in granted)


@pytest.mark.parametrize("name", OVERLAYS)
def test_namespaces_that_are_watched_have_a_role(name: str) -> None:
    given = container(name, "watch")["args"]
    watched = {a.split("=", 1)[1] for a in given if a.startswith("--namespace=")}
    roles = {m["metadata"]["namespace"] for m in overlay(name) if m["kind"] == "Role"}
    assert watched == roles
    account = one(name, "ServiceAccount")["metadata"]
    assert pod(name)["serviceAccountName"] == account["name"]
    assert account["namespace"] == one(name, "Deployment")["metadata"]["namespace"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_pods_meet_the_restricted_standard_and_write_to_volumes_only(name: str) -> None:
    spec = pod(name)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is True, "whatever the account's default is"
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for each in spec["containers"]:
        locked = each["securityContext"]
        assert locked["allowPrivilegeEscalation"] is False
        assert locked["readOnlyRootFilesystem"] is True
        assert locked["capabilities"] == {"drop": ["ALL"]}
        assert each["resources"]["requests"] and each["resources"]["limits"]["memory"]
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= each.keys()
        assert "/var/lib/mcp-devops" in {m["mountPath"] for m in each["volumeMounts"]}
    assert one(name, "Namespace")["metadata"]["labels"] == {
        "pod-security.kubernetes.io/enforce": "restricted"
    }


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_service_of_the_namespace_poses_as_a_setting(name: str) -> None:
    """The service's own links would: MCP_DEVOPS_PORT, MCP_DEVOPS_SERVICE_HOST, ..."""
    links = {"MCP_DEVOPS_SERVICE_HOST": "10.0.0.1", "MCP_DEVOPS_PORT": "tcp://10.0.0.1:8765"}
    assert unknown_variables([ServerSettings, HttpSettings], links)
    assert pod(name)["enableServiceLinks"] is False


@pytest.mark.parametrize("name", OVERLAYS)
def test_both_containers_follow_the_policy_and_are_waited_for_at_their_end(name: str) -> None:
    settings = next(
        m["data"] for m in overlay(name) if m["metadata"]["name"] == "mcp-devops-settings"
    )
    file = settings["MCP_DEVOPS_RESPONSE__POLICY_FILE"]
    assert f"--policy={file}" in container(name, "watch")["args"]
    for which in ("watch", "serve"):
        places = {m["name"]: m["mountPath"] for m in container(name, which)["volumeMounts"]}
        assert file == f"{places['policy']}/policy.yaml"
    needed = HttpSettings().stop_s + DRAIN_S
    assert pod(name)["terminationGracePeriodSeconds"] > needed + 5


@pytest.mark.parametrize("name", OVERLAYS)
def test_secrets_are_referred_to_and_none_is_written_here(name: str) -> None:
    assert not [m for m in overlay(name) if m["kind"] == "Secret"]
    references = container(name, "watch")["envFrom"]
    assert {"secretRef": {"name": "mcp-devops", "optional": True}} in references
    settings = next(
        m["data"] for m in overlay(name) if m["metadata"]["name"] == "mcp-devops-settings"
    )
    named = [e["name"] for c in pod(name)["containers"] for e in c.get("env", ())]
    plain = [e for c in pod(name)["containers"] for e in c.get("env", ()) if "value" in e]
    assert not plain, "a value that stands here is read by everybody"
    tables: list[type[OwnTable]] = [
        ServerSettings,
        HttpSettings,
        ResponseSettings,
        PrometheusSettings,
    ]
    assert unknown_variables(tables, {**settings, **dict.fromkeys(named, "")}) == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_response_policy_is_valid_and_asks_people(name: str, tmp_path: Path) -> None:
    (text,) = [
        m["data"]["policy.yaml"] for m in overlay(name) if "policy.yaml" in m.get("data", {})
    ]
    file = tmp_path / "policy.yaml"
    file.write_text(text, encoding="utf-8")
    policy = PolicyFile(file, SystemClock()).require()
    rules = policy.explain(Workload(namespace="shop", name="cart")).rules
    assert rules.automatic.value == "ask"
    file.write_text(text + "limit: {}\n", encoding="utf-8")
    with pytest.raises(NotConfigured):
        PolicyFile(file, SystemClock()).require()


def test_a_single_pod_keeps_its_state_and_is_never_beside_another() -> None:
    spec = one("single", "Deployment")["spec"]
    assert spec["replicas"] == 1 and spec["strategy"] == {"type": "Recreate"}
    claim = one("single", "PersistentVolumeClaim")["metadata"]["name"]
    volumes = {v["name"]: v for v in pod("single")["volumes"]}
    assert volumes["state"]["persistentVolumeClaim"] == {"claimName": claim}
    assert pod("single")["shareProcessNamespace"] is True, "a dead process must be told from one"


def test_replicas_share_a_database_have_names_and_are_not_all_evicted() -> None:
    spec = one("replicated", "Deployment")["spec"]
    assert spec["replicas"] >= 2 and spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    budget = one("replicated", "PodDisruptionBudget")["spec"]
    assert budget["minAvailable"] < spec["replicas"]
    spread = {c["topologyKey"]: c for c in pod("replicated")["topologySpreadConstraints"]}
    assert spread.keys() == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    assert all(c["labelSelector"] == spec["selector"] for c in spread.values())
    assert budget["selector"] == spec["selector"]
    for which in ("watch", "serve"):
        given = {e["name"]: e["valueFrom"] for e in container("replicated", which)["env"]}
        assert "secretKeyRef" in given["MCP_DEVOPS_DATABASE_URL"]
    assert "MCP_DEVOPS_RESPONSE__REPLICA" in str(container("replicated", "watch")["env"])
    ports = [p["port"] for e in one("replicated", "NetworkPolicy")["spec"]["egress"]
             for p in e.get("ports", ())]  # fmt: skip
    assert 5432 in ports and 53 in ports and 443 in ports
