"""What differs between two pod templates: the whole template, by name, without secrets. Pure.

Containers, variables, volumes, mounts and ports are matched by their names, as the API server
merges them, so that an entry put in front does not make all others look changed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from mcp_devops.integrations.kubernetes.revisions import template_of
from mcp_devops.model.change import ChangeArea, TemplateDifference
from mcp_devops.text.clean import clean, clean_data
from mcp_devops.text.secrets import mask_value

VALUE_LIMIT = 300
"""Characters of one value: enough for an image with its digest, too little for a script."""
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
"""Annotation that `kubectl rollout restart` writes: it changes the template and means nothing."""
RESTART = "restart"
"""Path under which a changed RESTARTED_AT is told."""
CHANGED = " (changed)"
"""Follows a value that differs although it is shown the same: masked, or cut."""

ORDER = (
    ChangeArea.IMAGE, ChangeArea.ENVIRONMENT, ChangeArea.ARGUMENTS, ChangeArea.CONTAINERS,
    ChangeArea.RESOURCES, ChangeArea.PROBES, ChangeArea.VOLUMES, ChangeArea.SECURITY,
    ChangeArea.SCHEDULING, ChangeArea.OTHER, ChangeArea.METADATA,
)  # fmt: skip
"""Most telling first."""

_AREAS = {
    ChangeArea.IMAGE: ("image",),
    ChangeArea.ENVIRONMENT: ("env", "envFrom"),
    ChangeArea.ARGUMENTS: ("command", "args", "workingDir"),
    ChangeArea.RESOURCES: ("resources", "resizePolicy"),
    ChangeArea.PROBES: ("livenessProbe", "readinessProbe", "startupProbe"),
    ChangeArea.VOLUMES: ("volumes", "volumeMounts", "volumeDevices"),
    ChangeArea.SECURITY: (
        "securityContext", "serviceAccountName", "serviceAccount", "automountServiceAccountToken",
        "hostNetwork", "hostPID", "hostIPC", "hostUsers", "runtimeClassName",
    ),
    ChangeArea.SCHEDULING: (
        "nodeSelector", "affinity", "tolerations", "schedulerName", "nodeName",
        "priorityClassName", "priority", "topologySpreadConstraints",
    ),
}  # fmt: skip
_AREA_OF = {name: area for area, names in _AREAS.items() for name in names}


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[TemplateDifference, ...]:
    """Every field in which two pod templates differ, most telling first.

    Args:
        before: A pod template, or an object that holds one (workload, ReplicaSet,
            ControllerRevision).
        after: Likewise.

    Returns:
        Empty exactly where the templates are equal apart from what a controller adds to them.
        Values that look like secrets by name or by shape are masked; long ones are cut.
    """
    old, new = _template(before), _template(after)
    found = [
        *_metadata(old.get("metadata") or {}, new.get("metadata") or {}),
        *_mapping("", old.get("spec") or {}, new.get("spec") or {}, ChangeArea.OTHER),
    ]
    return tuple(sorted(found, key=lambda d: (ORDER.index(d.area), d.path)))


def _template(thing: Mapping[str, Any]) -> dict[str, Any]:
    spec = (thing.get("data") or thing).get("spec") or {}
    return template_of(thing if "template" in spec else {"spec": {"template": thing}})


def _metadata(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[TemplateDifference]:
    for field in sorted({*old, *new} - {"labels", "annotations"}):
        yield from _value(f"metadata.{field}", field, old.get(field), new.get(field),
                          ChangeArea.METADATA)  # fmt: skip
    for field in ("labels", "annotations"):
        one, two = old.get(field) or {}, new.get(field) or {}
        for key in sorted({*one, *two}):
            path = RESTART if key == RESTARTED_AT else f"metadata.{field}[{_flat(clean(key))}]"
            yield from _leaf(
                path, one.get(key), two.get(key), ChangeArea.METADATA, partial(_named, key)
            )


def _mapping(
    path: str, old: Mapping[str, Any], new: Mapping[str, Any], area: ChangeArea
) -> Iterator[TemplateDifference]:
    for field in sorted({*old, *new}):
        if field == "serviceAccount" and _twin(old) and _twin(new):
            continue
        below = f"{path}.{_flat(clean(field))}" if path else _flat(clean(field))
        inner = _AREA_OF.get(field, area) if area is ChangeArea.OTHER else area
        yield from _value(below, field, old.get(field), new.get(field), inner)


def _twin(spec: Mapping[str, Any]) -> bool:
    """Whether the deprecated serviceAccount is only the copy that the API server keeps of it."""
    return spec.get("serviceAccount") == spec.get("serviceAccountName")


def _value(
    path: str, field: str, old: Any, new: Any, area: ChangeArea
) -> Iterator[TemplateDifference]:
    if old == new and type(old) is type(new):
        return
    by = _KEYS.get(field)
    if by and all(v is None or _all_mappings(v) for v in (old, new)):
        yield from _entries(path, field, old or [], new or [], area, by)
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _mapping(path, old, new, area)
    else:
        yield from _leaf(path, old, new, area, partial(_shown, field))


def _entries(
    path: str,
    field: str,
    old: list[Any],
    new: list[Any],
    area: ChangeArea,
    by: Callable[[Mapping[str, Any]], str],
) -> Iterator[TemplateDifference]:
    """A list of named things, matched by name."""
    one, two = _by_name(old, by), _by_name(new, by)
    if field in ("containers", "initContainers"):
        area = ChangeArea.CONTAINERS
    for name in sorted({*one, *two}):
        below = f"{path}[{name}]"
        mine, theirs = one.get(name), two.get(name)
        if field == "env":
            yield from _leaf(below, mine, theirs, area, _variable)
        elif mine is None or theirs is None:
            yield from _leaf(below, mine, theirs, area, partial(_entry, field))
        else:
            inner = ChangeArea.OTHER if area is ChangeArea.CONTAINERS else area
            yield from _mapping(below, mine, theirs, inner)
    common = [n for n in one if n in two], [n for n in two if n in one]
    if common[0] != common[1]:
        yield from _leaf(f"{path} (order)", *common, area, ", ".join)


def _by_name(items: list[Any], by: Callable[[Mapping[str, Any]], str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in items:
        name, number = _flat(clean(by(item))), 2
        free = name
        while free in found:
            free, number = f"{name}#{number}", number + 1
        found[free] = item
    return found


def _leaf(
    path: str, old: Any, new: Any, area: ChangeArea, show: Callable[[Any], str]
) -> Iterator[TemplateDifference]:
    if old == new and type(old) is type(new):
        return
    before = None if old is None else _cut(show(old))
    after = None if new is None else _cut(show(new))
    if before == after and after is not None:
        after += CHANGED
    yield TemplateDifference(area=area, path=path[:VALUE_LIMIT], before=before, after=after)


def _variable(entry: Mapping[str, Any]) -> str:
    """A variable's value, or where it comes from; never what a reference leads to."""
    source = entry.get("valueFrom")
    if not isinstance(source, Mapping):
        return _flat(mask_value(str(entry.get("name", "")), clean(str(entry.get("value", "")))))
    for kind, word in (("secretKeyRef", "secret"), ("configMapKeyRef", "configmap")):
        if isinstance(ref := source.get(kind), Mapping):
            optional = " (optional)" if ref.get("optional") else ""
            return _flat(clean(f"{word} {ref.get('name', '')} key {ref.get('key', '')}{optional}"))
    if isinstance(ref := source.get("fieldRef"), Mapping):
        return _flat(clean(f"field {ref.get('fieldPath', '')}"))
    if isinstance(ref := source.get("resourceFieldRef"), Mapping):
        return _flat(clean(f"resource {ref.get('containerName', '')} {ref.get('resource', '')}"))
    return _json(source)


def _entry(field: str, entry: Mapping[str, Any]) -> str:
    """A whole entry that came or went."""
    if field in ("containers", "initContainers"):
        rest = {k: v for k, v in entry.items() if k not in ("name", "image")}
        return f"image {_flat(clean(str(entry.get('image', ''))))}, {_json(rest)}"
    return _json({k: v for k, v in entry.items() if k != "name"} or entry)


def _shown(field: str, value: Any) -> str:
    if field in ("command", "args") and isinstance(value, list):
        masked = clean_data([str(v) for v in value])
        return _flat(clean(" ".join(shlex.quote(v) for v in masked)))
    if isinstance(value, str):
        return _named(field, value)
    return _json_under(field, value)


def _named(name: str, value: Any) -> str:
    return _flat(mask_value(name, clean(str(value))))


def _json_under(field: str, value: Any) -> str:
    # Under its field's name, so that the rules see what a bare value does not tell.
    shown = clean_data({field: value})
    return _dump(next(iter(shown.values())))


def _json(value: Any) -> str:
    return _dump(clean_data(value))


def _dump(value: Any) -> str:
    if isinstance(value, str):
        return _flat(value)
    return _flat(clean(json.dumps(value, ensure_ascii=False, sort_keys=True)))


def _flat(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_LIMIT else text[: VALUE_LIMIT - 1] + "…"


def _all_mappings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, Mapping) for v in value)


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("name", ""))


def _port(entry: Mapping[str, Any]) -> str:
    return str(entry.get("name") or f"{entry.get('containerPort')}/{entry.get('protocol', 'TCP')}")


def _mount(entry: Mapping[str, Any]) -> str:
    return str(entry.get("mountPath") or entry.get("devicePath") or "")


def _env_from(entry: Mapping[str, Any]) -> str:
    for kind, word in (("secretRef", "secret"), ("configMapRef", "configmap")):
        if isinstance(ref := entry.get(kind), Mapping):
            return f"{word} {ref.get('name', '')}"
    return ""


_KEYS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "containers": _name,
    "initContainers": _name,
    "ephemeralContainers": _name,
    "env": _name,
    "envFrom": _env_from,
    "volumes": _name,
    "volumeMounts": _mount,
    "volumeDevices": _mount,
    "ports": _port,
    "imagePullSecrets": _name,
}
"""Lists of named things, with what names them; they agree with the API's own merge keys."""
