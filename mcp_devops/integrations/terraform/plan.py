"""Reads what a plan run says: its event lines, and the plan as JSON. Pure.

Drift is decided from `resource_drift`, never from the exit code: Terraform 1.11 was seen to end
with 2 (changes) where nothing had drifted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from mcp_devops.integrations.terraform.values import (
    AttributeChange,
    as_list,
    as_map,
    differences,
    sensitive_texts,
)
from mcp_devops.text.clean import clean
from mcp_devops.text.secrets import Redactor

MAX_KNOWN = 300
"""Sensitive values that are searched for elsewhere, those of drifted resources first. Measured:
300 take 0.1 s to prepare and 0.3 ms a text, 2,000 take 0.6 s and 2 ms."""
MAX_KNOWN_CHARS = 4_096


class Diagnostic(NamedTuple):
    """One error or warning of the program; foreign text."""

    severity: str
    summary: str
    detail: str
    filename: str = ""
    line: int | None = None


class Drift(NamedTuple):
    """One resource that is not what the state says."""

    address: str
    """As module.cache.aws_instance.web["a"]."""
    module: str
    """Module address without the resource; empty in the root."""
    kind: str
    """Resource type."""
    name: str
    """Resource name in its block."""
    action: str
    """update or delete."""
    changes: tuple[AttributeChange, ...]
    """What differs, masked."""


def load(raw: bytes) -> Any:
    """JSON, or None where it is not; never an exception, however deep it is nested."""
    try:
        return json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def events(raw: bytes) -> Iterator[Mapping[str, Any]]:
    """The JSON objects among the lines; other lines (stray text of providers) are skipped."""
    for line in raw.splitlines():
        event = load(line) if line.lstrip()[:1] == b"{" else None
        if isinstance(event, dict):
            yield event


def diagnostics(raw: bytes) -> list[Diagnostic]:
    """What the program complained about."""
    found = []
    for event in events(raw):
        said = as_map(event.get("diagnostic"))
        if event.get("type") == "diagnostic" and said:
            place = as_map(said.get("range"))
            line = as_map(place.get("start")).get("line")
            found.append(
                Diagnostic(
                    str(said.get("severity", "")),
                    str(said.get("summary", "")),
                    str(said.get("detail", "")),
                    str(place.get("filename", "")),
                    line if isinstance(line, int) and not isinstance(line, bool) else None,
                )
            )
    return found


def drifted_addresses(raw: bytes) -> set[str]:
    """Addresses that the event lines call drifted."""
    found = set()
    for event in events(raw):
        if event.get("type") == "resource_drift":
            change = as_map(event.get("change"))
            address = as_map(change.get("resource")).get("addr")
            if isinstance(address, str) and change.get("action") in ("update", "delete"):
                found.add(address)
    return found


def known_values(plan: Mapping[str, Any]) -> list[str]:
    """Values that the plan marks sensitive anywhere: drift, prior state, outputs, variables."""
    return list(dict.fromkeys(islice(_known(plan), MAX_KNOWN)))


def _known(plan: Mapping[str, Any]) -> Iterator[str]:
    for value in _marked(plan):
        if len(value) <= MAX_KNOWN_CHARS:
            yield value


def _marked(plan: Mapping[str, Any]) -> Iterator[str]:
    for entry in map(as_map, as_list(plan.get("resource_drift"))):
        change = as_map(entry.get("change"))
        for side in ("before", "after"):
            yield from sensitive_texts(change.get(side), change.get(f"{side}_sensitive"))
    declared = as_map(as_map(as_map(plan.get("configuration")).get("root_module")).get("variables"))
    given = as_map(plan.get("variables"))
    for name, variable in declared.items():
        if as_map(variable).get("sensitive") is True:
            yield from sensitive_texts(as_map(given.get(name)).get("value"), True)
    values = as_map(as_map(plan.get("prior_state")).get("values"))
    for output in as_map(values.get("outputs")).values():
        if as_map(output).get("sensitive") is True:
            yield from sensitive_texts(as_map(output).get("value"), True)
    waiting = [as_map(values.get("root_module"))]
    while waiting:
        module = waiting.pop()
        waiting += map(as_map, as_list(module.get("child_modules")))
        for resource in map(as_map, as_list(module.get("resources"))):
            yield from sensitive_texts(resource.get("values"), resource.get("sensitive_values"))


def has_state(plan: Mapping[str, Any]) -> bool:
    """Whether the plan compared anything: an empty state has no drift and says nothing."""
    root = as_map(as_map(as_map(plan.get("prior_state")).get("values")).get("root_module"))
    return bool(as_list(root.get("resources")) or as_list(root.get("child_modules"))) or bool(
        as_list(plan.get("resource_drift"))
    )


def drifts(plan: Mapping[str, Any], redactor: Redactor) -> list[Drift]:
    """What drifted, in the plan's order; entries that only moved are left out."""
    found = []
    for entry in map(as_map, as_list(plan.get("resource_drift"))):
        change = as_map(entry.get("change"))
        actions = as_list(change.get("actions"))
        address = entry.get("address")
        if not isinstance(address, str) or "no-op" in actions or entry.get("mode") == "data":
            continue
        gone = "delete" in actions or change.get("after") is None
        found.append(
            Drift(
                clean(address, redactor),
                str(entry.get("module_address") or ""),
                str(entry.get("type") or address.rpartition(".")[0].rpartition(".")[2]),
                str(entry.get("name") or ""),
                "delete" if gone else "update",
                () if gone else tuple(differences(change, redactor)),
            )
        )
    return found


def changed_outputs(plan: Mapping[str, Any]) -> list[str]:
    """Names of outputs whose value would change."""
    return sorted(
        str(name)
        for name, change in as_map(plan.get("output_changes")).items()
        if as_list(as_map(change).get("actions")) not in ([], ["no-op"])
    )
