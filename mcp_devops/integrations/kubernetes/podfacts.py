"""Facts of one container worth reading: image that runs, last end, limits, probes, environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_devops.integrations.kubernetes.podlogs import container_status, last_end
from mcp_devops.integrations.kubernetes.podstate import exit_words, words
from mcp_devops.integrations.kubernetes.revisions import Json
from mcp_devops.model.record import Record
from mcp_devops.text.clean import clean
from mcp_devops.text.secrets import mask_value, redact_data

ENV_SHOWN = 60
"""Environment variables shown of one container."""
VALUE_CHARS = 200


class ContainerFacts(Record):
    """One container."""

    name: str
    """Its name."""
    image: str
    """Image as the template names it."""
    state: str
    """running, waiting or terminated, with the reason."""
    last_end: str = ""
    """How its newest finished run ended."""
    init: bool = False
    """Whether it is an init container."""
    image_id: str = ""
    """Digest of the image that runs."""
    resources: str = ""
    """Requests and limits."""
    probes: tuple[str, ...] = ()
    """Liveness, readiness and startup."""
    command: str = ""
    """Command and arguments, secrets masked."""
    env: tuple[str, ...] = ()
    """Environment, secret values masked; values from elsewhere by their reference."""

    def line(self) -> str:
        """For people."""
        parts = [f"{'init ' if self.init else ''}{self.name}: {self.state}", self.image]
        parts += [f"last end: {self.last_end}"] if self.last_end else []
        parts += [self.resources] if self.resources else []
        parts += [*self.probes]
        parts += [f"command: {self.command}"] if self.command else []
        parts += [f"env: {', '.join(self.env)}"] if self.env else []
        return "; ".join(parts)


def container_facts(pod: Json, *, detailed: bool) -> tuple[ContainerFacts, ...]:
    """Facts of a pod's containers.

    Args:
        pod: As the API gave it.
        detailed: All containers, with command, environment and digest; else the app containers,
            and the init ones that have not finished.
    """
    spec = pod.get("spec") or {}
    found = []
    for key, init in (("initContainers", True), ("containers", False)):
        for container in spec.get(key) or ():
            entry = container_status(pod, str(container.get("name", "")))
            if init and not detailed and entry.get("ready"):
                continue
            found.append(_facts(container, entry, init=init, detailed=detailed))
    return tuple(found)


def _facts(container: Json, entry: Json, *, init: bool, detailed: bool) -> ContainerFacts:
    end = last_end(entry)
    return ContainerFacts(
        name=str(container.get("name", "")),
        image=words(container.get("image")),
        state=_state(entry),
        last_end=exit_words(end) if end else "",
        init=init,
        image_id=str(entry.get("imageID", ""))[-90:] if detailed else "",
        resources=_resources(container.get("resources") or {}),
        probes=tuple(_probes(container)),
        command=_command(container) if detailed else "",
        env=_environment(container) if detailed else (),
    )


def _state(entry: Json) -> str:
    for name, detail in (entry.get("state") or {}).items():
        reason = (detail or {}).get("reason")
        return f"{name} ({reason})" if reason else str(name)
    return "not created"


def _resources(resources: Mapping[str, Any]) -> str:
    parts = []
    for key, word in (("requests", "requests"), ("limits", "limits")):
        values = resources.get(key) or {}
        if values:
            parts.append(f"{word} {' '.join(f'{k}={v}' for k, v in sorted(values.items()))}")
    return ", ".join(parts)


def _probes(container: Json) -> list[str]:
    said = []
    for key in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container.get(key)
        if probe:
            said.append(f"{key.removesuffix('Probe')} {_probe(probe)}")
    return said


def _probe(probe: Mapping[str, Any]) -> str:
    if "httpGet" in probe:
        how = f"GET :{probe['httpGet'].get('port')}{probe['httpGet'].get('path', '/')}"
    elif "tcpSocket" in probe:
        how = f"tcp :{probe['tcpSocket'].get('port')}"
    elif "grpc" in probe:
        how = f"grpc :{probe['grpc'].get('port')}"
    else:
        how = " ".join(redact_data((probe.get("exec") or {}).get("command") or []))
    every, tries = probe.get("periodSeconds", 10), probe.get("failureThreshold", 3)
    delay = probe.get("initialDelaySeconds")
    after = f" after {delay} s" if delay else ""
    timeout = probe.get("timeoutSeconds", 1)
    return f"{words(how)}{after} every {every} s, {tries} failures, {timeout} s timeout"


def _command(container: Json) -> str:
    whole = [*(container.get("command") or ()), *(container.get("args") or ())]
    return words(" ".join(map(str, redact_data(whole))))


def _environment(container: Json) -> tuple[str, ...]:
    said = []
    for source in container.get("envFrom") or ():
        said += [
            f"(all of {key.removesuffix('Ref')} {source[key].get('name')})"
            for key in ("configMapRef", "secretRef")
            if key in source
        ]
    for variable in container.get("env") or ():
        name = str(variable.get("name", ""))
        if "valueFrom" in variable:
            said.append(f"{name} from {_reference(variable['valueFrom'])}")
        else:
            value = mask_value(name, clean(str(variable.get("value", ""))))
            said.append(f"{name}={value[:VALUE_CHARS]}")
    more = len(said) - ENV_SHOWN
    return tuple(said[:ENV_SHOWN]) + ((f"and {more} more",) if more > 0 else ())


def _reference(source: Mapping[str, Any]) -> str:
    for key, value in source.items():
        inner = value or {}
        if key == "fieldRef":
            return f"field {inner.get('fieldPath')}"
        if key == "resourceFieldRef":
            return f"resource {inner.get('resource')}"
        return f"{key.removesuffix('KeyRef')} {inner.get('name')}/{inner.get('key')}"
    return "nowhere"
