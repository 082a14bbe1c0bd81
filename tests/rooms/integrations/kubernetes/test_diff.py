"""What differs between two templates: by name, complete, without secrets."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_devops.integrations.kubernetes.diff import ORDER, RESTARTED_AT, differences
from mcp_devops.integrations.kubernetes.revisions import template_of
from mcp_devops.model.change import ChangeArea, TemplateDifference

Json = dict[str, Any]


def template(*containers: Json, meta: Json | None = None, **spec: Any) -> Json:
    return {"metadata": meta or {}, "spec": {"containers": list(containers), **spec}}


def app(**more: Any) -> Json:
    return {"name": "app", "image": "shop:1", **more}


def env(*pairs: tuple[str, str]) -> list[Json]:
    return [{"name": n, "value": v} for n, v in pairs]


def only(before: Json, after: Json) -> TemplateDifference:
    (found,) = differences(before, after)
    return found


@pytest.mark.parametrize(
    ("before", "after", "area", "path", "shown"),
    [
        (app(), app(image="shop:2"), "image", "containers[app].image", ("shop:1", "shop:2")),
        (
            app(args=["--fast"]), app(args=["--fast", "--port", "80 81"]),
            "arguments", "containers[app].args", ("--fast", "--fast --port '80 81'"),
        ),
        (
            app(resources={"limits": {"memory": "64Mi"}}),
            app(resources={"limits": {"memory": "32Mi"}}),
            "resources", "containers[app].resources.limits.memory", ("64Mi", "32Mi"),
        ),
        (
            app(readinessProbe={"periodSeconds": 1}), app(readinessProbe={"periodSeconds": 9}),
            "probes", "containers[app].readinessProbe.periodSeconds", ("1", "9"),
        ),
        (
            app(env=env(("MODE", "a"))), app(env=env(("MODE", "b"))),
            "environment", "containers[app].env[MODE]", ("a", "b"),
        ),
        (
            app(env=env(("MODE", "a"))), app(),
            "environment", "containers[app].env[MODE]", ("a", None),
        ),
        (
            app(ports=[{"containerPort": 80}]), app(ports=[{"containerPort": 80, "hostPort": 8}]),
            "other", "containers[app].ports[80/TCP].hostPort", (None, "8"),
        ),
        (
            app(volumeMounts=[{"name": "a", "mountPath": "/a"}]),
            app(volumeMounts=[{"name": "a", "mountPath": "/a", "readOnly": True}]),
            "volumes", "containers[app].volumeMounts[/a].readOnly", (None, "true"),
        ),
        (
            app(securityContext={"runAsUser": 1}), app(securityContext={"runAsUser": 0}),
            "security", "containers[app].securityContext.runAsUser", ("1", "0"),
        ),
    ],
)  # fmt: skip
def test_each_part_of_a_container_is_told_with_its_area_and_path(
    before: Json, after: Json, area: str, path: str, shown: tuple[str | None, str | None]
) -> None:
    found = only(template(before), template(after))
    assert (found.area, found.path, (found.before, found.after)) == (ChangeArea(area), path, shown)


def test_scheduling_accounts_volumes_and_labels_are_told() -> None:
    before = template(app(), serviceAccountName="a", serviceAccount="a")
    after = template(
        app(),
        meta={"labels": {"tier": "db"}},
        serviceAccountName="b",
        serviceAccount="b",
        nodeSelector={"disk": "ssd"},
        volumes=[{"name": "c", "configMap": {"name": "settings-2"}}],
    )
    found = {d.path: d.area for d in differences(before, after)}
    assert found == {
        "volumes[c]": ChangeArea.VOLUMES,
        "serviceAccountName": ChangeArea.SECURITY,
        "nodeSelector": ChangeArea.SCHEDULING,
        "metadata.labels[tier]": ChangeArea.METADATA,
    }


def test_a_reference_is_shown_by_name_and_key_and_never_by_value() -> None:
    def ref(kind: str, name: str) -> Json:
        source = {"valueFrom": {kind: {"name": name, "key": "pw"}}}
        return template(app(env=[{"name": "DB_PASSWORD", **source}]))

    found = only(ref("configMapKeyRef", "settings"), ref("secretKeyRef", "db"))
    assert (found.before, found.after) == ("configmap settings key pw", "secret db key pw")


def test_a_secret_that_changes_is_masked_and_still_told_as_changed() -> None:
    found = only(
        template(app(env=env(("API_TOKEN", "aaa-111-bbb")))),
        template(app(env=env(("API_TOKEN", "ccc-222-ddd")))),
    )
    assert found.before != found.after
    assert "111" not in str(found)
    assert "222" not in str(found)


def test_what_is_put_in_front_leaves_the_others_unchanged() -> None:
    before = template(app(env=env(("A", "1"), ("B", "2"))))
    after = template(
        {"name": "proxy", "image": "proxy:1"}, app(env=env(("NEW", "0"), ("A", "1"), ("B", "2")))
    )
    paths = [d.path for d in differences(before, after)]
    assert paths == ["containers[app].env[NEW]", "containers[proxy]"]


def test_another_order_of_variables_is_a_difference() -> None:
    before, after = env(("A", "1"), ("B", "$(A)")), env(("B", "$(A)"), ("A", "1"))
    found = only(template(app(env=before)), template(app(env=after)))
    assert (found.path, found.before, found.after) == (
        "containers[app].env (order)",
        "A, B",
        "B, A",
    )


def test_a_restart_is_told_as_a_restart_and_the_template_hash_is_not_told() -> None:
    before = template(app(), meta={"labels": {"pod-template-hash": "1"}})
    after = template(
        app(),
        meta={"labels": {"pod-template-hash": "2"}, "annotations": {RESTARTED_AT: "2026-11-20"}},
    )
    found = only(before, after)
    assert (found.path, found.after) == ("restart", "2026-11-20")


def test_the_most_telling_differences_come_first() -> None:
    before = template(app(), meta={"annotations": {"a": "1"}}, terminationGracePeriodSeconds=1)
    after = template(
        app(image="shop:2", env=env(("A", "1"))),
        meta={"annotations": {"a": "2"}},
        terminationGracePeriodSeconds=2,
    )
    areas = [d.area for d in differences(before, after)]
    assert areas == sorted(areas, key=ORDER.index)
    assert areas[0] is ChangeArea.IMAGE


def test_long_values_are_cut_and_differences_behind_the_cut_are_still_told() -> None:
    script = "x" * 5000
    found = only(template(app(args=[script + "a"])), template(app(args=[script + "b"])))
    assert len(found.before or "") <= 300
    assert found.before != found.after


def test_escapes_do_not_pass() -> None:
    found = only(template(app()), template(app(image="\x1b[31mshop:2\x1b[0m")))
    assert found.after == "shop:2"


names = st.sampled_from(["A", "MODE", "LOG_LEVEL", "DB_PASSWORD", "API_TOKEN"])
values = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
variables = st.dictionaries(names, values).map(lambda d: env(*d.items()))
quantities = st.dictionaries(st.sampled_from(["cpu", "memory"]), values)
containers = st.fixed_dictionaries(
    {"name": st.sampled_from(["app", "proxy"]), "image": values},
    optional={
        "env": variables,
        "args": st.lists(values, max_size=3),
        "resources": st.fixed_dictionaries({"limits": quantities}),
        "readinessProbe": st.fixed_dictionaries({"periodSeconds": st.integers(1, 9)}),
    },
)
templates = st.builds(
    lambda cs, labels, account: template(*cs, meta={"labels": labels}, serviceAccountName=account),
    st.lists(containers, min_size=1, max_size=2, unique_by=lambda c: c["name"]),
    st.dictionaries(names, values, min_size=1),
    values,
)


@given(templates)
def test_equal_templates_have_no_differences(one: Json) -> None:
    assert differences(one, copy.deepcopy(one)) == ()


@given(templates, templates)
def test_templates_that_are_not_equal_always_have_a_difference(one: Json, two: Json) -> None:
    same = template_of({"spec": {"template": one}}) == template_of({"spec": {"template": two}})
    assert (differences(one, two) == ()) == same


@given(templates, templates)
def test_each_difference_has_two_sides_that_are_not_the_same(one: Json, two: Json) -> None:
    for found in differences(one, two):
        assert found.before != found.after


secrets = st.text(st.sampled_from("abcdefghjkmnpqrstuvwxyz23456789"), min_size=20, max_size=30)


@given(
    secrets,
    st.sampled_from(
        ["env", "flag", "assignment", "bearer", "url", "annotation", "header", "whole container"]
    ),
    st.booleans(),
)
def test_secrets_appear_on_neither_side(secret: str, where: str, added: bool) -> None:
    holders = {
        "env": app(env=env(("SESSION_SECRET", secret))),
        "flag": app(args=["serve", "--api-token", secret]),
        "assignment": app(command=["sh", "-c", f"DB_PASSWORD={secret} serve"]),
        "bearer": app(env=env(("HEADER", f"Authorization: Bearer {secret}"))),
        "url": app(env=env(("STORE", f"postgres://shop:{secret}@db/shop"))),
        "header": app(
            livenessProbe={"httpGet": {"httpHeaders": [{"name": "Authorization", "value": secret}]}}
        ),
    }
    held = template(holders.get(where, app()))
    plain = template(app())
    if where == "annotation":
        held["metadata"]["annotations"] = {"example.com/api-token": secret}
    if where == "whole container":
        held["spec"]["containers"].append(
            {"name": "x", "image": "x", "env": env(("DB_PASSWORD", secret))}
        )
    found = differences(plain, held) if added else differences(held, plain)
    assert found
    assert secret not in "".join(d.model_dump_json() for d in found)
