"""Reads a state file (format 4, of Terraform and OpenTofu) into a summary without values. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mcp_devops.integrations.terraform.plan import load
from mcp_devops.integrations.terraform.values import SENSITIVE, as_list, as_map
from mcp_devops.model.record import Record
from mcp_devops.text.budget import cut_middle
from mcp_devops.text.clean import clean, clean_data

MAX_OUTPUT_CHARS = 160
"""Characters of one output's shown value."""


class StateSummary(Record):
    """What a state holds."""

    serial: int | None
    """Number of the state's version; it grows with every write."""
    terraform_version: str
    """Version that wrote it."""
    resources: int
    """Instances of managed resources."""
    data_sources: int
    """Instances of data sources."""
    types: dict[str, int]
    """Managed instances by resource type, the most first."""
    modules: dict[str, int]
    """Managed instances by module; the root is "root"."""
    tainted: tuple[str, ...]
    """Addresses that the next apply would replace."""
    outputs: dict[str, str]
    """Outputs, secrets masked."""


def summarise(raw: bytes) -> StateSummary | None:
    """The summary of a state file's bytes, or None where they are no state."""
    state = load(raw)
    if not isinstance(state, dict) or state.get("version") != 4:
        return None
    types: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    tainted: list[str] = []
    data = 0
    for resource in map(as_map, as_list(state.get("resources"))):
        instances = [as_map(i) for i in as_list(resource.get("instances"))]
        if resource.get("mode") == "data":
            data += len(instances)
            continue
        module = clean(str(resource.get("module") or "root"))
        kind = clean(str(resource.get("type")))
        types[kind] += len(instances)
        modules[module] += len(instances)
        prefix = "" if module == "root" else f"{module}."
        tainted += [
            f"{prefix}{kind}.{clean(str(resource.get('name')))}"
            for instance in instances
            if instance.get("status") == "tainted"
        ]
    serial = state.get("serial")
    return StateSummary(
        serial=serial if isinstance(serial, int) and not isinstance(serial, bool) else None,
        terraform_version=clean(str(state.get("terraform_version", "unknown"))),
        resources=types.total(),
        data_sources=data,
        types=_most(types),
        modules=_most(modules),
        tainted=tuple(tainted),
        outputs=_outputs(as_map(state.get("outputs"))),
    )


def _most(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _outputs(outputs: Mapping[str, Any]) -> dict[str, str]:
    shown: dict[str, str] = {}
    for name, output in sorted(outputs.items(), key=lambda pair: str(pair[0])):
        found = as_map(output)
        if found.get("sensitive") is True:
            text = SENSITIVE
        else:
            value = next(iter(clean_data({name: found.get("value")}).values()))
            text = value if isinstance(value, str) else str(value)
        shown[clean(str(name))] = cut_middle(text, MAX_OUTPUT_CHARS)
    return shown
