from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.cli.manifests import role_manifests, rules_for
from mcp_devops.toolkit.risk import Rbac

NEEDS = st.lists(
    st.builds(
        Rbac,
        verb=st.sampled_from(["get", "list", "watch", "patch", "delete"]),
        resource=st.sampled_from(["pods", "pods/log", "deployments", "nodes", "events"]),
        group=st.sampled_from(["", "apps", "autoscaling"]),
        optional=st.booleans(),
        cluster_wide=st.booleans(),
    ),
    max_size=30,
)
NAME = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)


def granted(rules: list[dict[str, list[str]]]) -> Counter[tuple[str, str, str]]:
    """Every single permission of the rules, and in how many rules it stands."""
    return Counter(
        (verb, resource, group)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


def wanted(needs: list[Rbac]) -> set[tuple[str, str, str]]:
    return {(n.verb, n.resource, n.group) for n in needs}


@given(NEEDS)
def test_the_rules_grant_every_need_once_and_nothing_else(needs: list[Rbac]) -> None:
    assert granted(rules_for(needs)) == Counter(wanted(needs))


@given(NEEDS, st.randoms(use_true_random=False))
def test_the_rules_do_not_depend_on_the_order_of_needs(needs: list[Rbac], dice: Any) -> None:
    shuffled = list(needs)
    dice.shuffle(shuffled)
    assert rules_for(shuffled) == rules_for(needs)


def test_resources_of_one_group_with_the_same_verbs_share_a_rule() -> None:
    rules = rules_for(
        [
            Rbac("list", "pods"),
            Rbac("get", "pods"),
            Rbac("get", "events"),
            Rbac("list", "events"),
            Rbac("get", "pods/log"),
            Rbac("get", "deployments", "apps"),
        ]
    )
    assert rules == [
        {"apiGroups": [""], "resources": ["events", "pods"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
    ]


@given(
    needs=NEEDS,
    namespaces=st.lists(NAME, min_size=1, max_size=3, unique=True),
    name=NAME,
    user=st.none() | st.text(st.characters(max_codepoint=0xFFFF, codec="utf-8"), min_size=1),
)
def test_every_namespace_gets_its_needs_and_the_cluster_only_what_has_no_namespace(
    needs: list[Rbac], namespaces: list[str], name: str, user: str | None
) -> None:
    text = role_manifests(needs, namespaces, name, namespaces[0], user)
    found = list(yaml.safe_load_all(text))
    roles = [d for d in found if d["kind"] == "Role"]
    assert [d["metadata"]["namespace"] for d in roles] == namespaces
    for role in roles:
        inside = [n for n in needs if not n.cluster_wide]
        assert granted(role["rules"] or []) == Counter(wanted(inside))
    outside = [n for n in needs if n.cluster_wide]
    cluster = [d for d in found if d["kind"] == "ClusterRole"]
    assert len(cluster) == bool(outside)
    for role in cluster:
        assert granted(role["rules"]) == Counter(wanted(outside))
        assert "namespace" not in role["metadata"]
    accounts = [d for d in found if d["kind"] == "ServiceAccount"]
    assert len(accounts) == (user is None)
    bindings = [d for d in found if d["kind"].endswith("Binding")]
    assert len(bindings) == len(roles) + len(cluster)
    for binding in bindings:
        (subject,) = binding["subjects"]
        assert binding["roleRef"]["name"] == name
        if user is None:
            assert subject == {
                "kind": "ServiceAccount",
                "name": name,
                "namespace": namespaces[0],
            }
        else:
            assert (subject["kind"], subject["name"]) == ("User", user)


@given(needs=NEEDS, name=NAME, home=NAME)
def test_for_all_namespaces_one_cluster_role_grants_every_need_and_nothing_else(
    needs: list[Rbac], name: str, home: str
) -> None:
    account, *rest = yaml.safe_load_all(role_manifests(needs, None, name, home, None))
    assert (account["kind"], account["metadata"]["namespace"]) == ("ServiceAccount", home)
    if not needs:
        assert rest == []
        return
    role, binding = rest
    assert (role["kind"], binding["kind"]) == ("ClusterRole", "ClusterRoleBinding")
    assert granted(role["rules"]) == Counter(wanted(needs))
    assert binding["roleRef"]["kind"] == "ClusterRole" and binding["roleRef"]["name"] == name
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": home}]
    assert not {"namespace"} & (role["metadata"].keys() | binding["metadata"].keys())


@pytest.mark.parametrize(
    "user", ["a: b", "x\n---\nkind: Evil", '"quoted"', "- dash", "{}", "\N{OWL} ann"]
)
def test_a_users_name_cannot_add_to_the_manifests(user: str) -> None:
    text = role_manifests([Rbac("get", "pods")], ["shop"], "reader", "shop", user)
    role, binding = yaml.safe_load_all(text)
    assert (role["kind"], binding["kind"]) == ("Role", "RoleBinding")
    assert binding["subjects"][0]["name"] == user
