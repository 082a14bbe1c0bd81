"""`docker_compare_images`: what differs between two images: layers and configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from mcp_devops.integrations.docker.client import DockerClient, Json
from mcp_devops.integrations.docker.containerstate import moment
from mcp_devops.integrations.docker.history import size
from mcp_devops.integrations.docker.references import ImageRef, short_id
from mcp_devops.integrations.docker.steps import Bakery, env_pairs, steps_of
from mcp_devops.model.record import Moment, Record
from mcp_devops.text.budget import cut_middle
from mcp_devops.text.people import plural
from mcp_devops.text.secrets import is_secret_name
from mcp_devops.toolkit.answer import Answer
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.risk import Risk
from mcp_devops.toolkit.spec import tool

VALUE_CHARS = 300
"""Characters of one value that are shown."""
MOST_CHANGES = 60
"""Differences listed; more are counted."""
REVISION_LABEL = "org.opencontainers.image.revision"


class CompareImagesInput(Record):
    """Which two."""

    before: ImageRef
    """Image to compare against; the one that served before."""
    after: ImageRef
    """Image to judge."""


class ImageFacts(Record):
    """One image."""

    image: str
    """As it was asked for."""
    id: str
    """Its id, shortened."""
    created: Moment | None = None
    """When it was built."""
    size_bytes: int = 0
    """Bytes of all layers."""
    layers: int = 0
    """Layers."""
    platform: str = ""
    """System and architecture."""
    revision: str | None = None
    """Commit it was built from, where a label names it."""


class ImageChange(Record):
    """One difference. A side that has no such setting is left out."""

    what: str
    """env NAME, label NAME, port, volume, user, entrypoint, …"""
    before: str | None = None
    """Value before, secrets masked."""
    after: str | None = None
    """Value after, secrets masked. Equal to before: only the masked part differs."""


class ImageComparison(Answer):
    """Two images."""

    before: ImageFacts
    """The one compared against."""
    after: ImageFacts
    """The one judged."""
    same: bool = False
    """Whether both are one image."""
    shared_layers: int = 0
    """Layers, from the bottom, that both have."""
    new_layers: int = 0
    """Layers only the image after has."""
    gone_layers: int = 0
    """Layers only the image before had."""
    new_steps: tuple[str, ...] = ()
    """Build steps of the new layers, oldest first, where they can be told. Data."""
    changes: tuple[ImageChange, ...] = ()
    """Differences of the configuration."""
    more_changes: int = 0
    """Differences beyond those listed."""


@tool(name="docker_compare_images", title="Compare two images", risk=Risk.READ)
async def compare_images(
    args: CompareImagesInput, context: ToolContext[DockerClient]
) -> ImageComparison:
    """Compare two images: layers, size, architecture and configuration.

    Configuration: environment (secret values masked), user, entrypoint, command, ports, labels.
    """
    return await difference(context.client, args.before, args.after)


async def difference(client: DockerClient, first: str, second: str) -> ImageComparison:
    """Compare two images of the engine.

    Args:
        client: The engine.
        first: Reference of the image before.
        second: Reference of the image that is judged.

    Raises:
        NotFound: The engine does not have one of them.
        DevOpsError: As the client raises.
    """
    old, new, old_steps, new_steps = await asyncio.gather(
        client.image(first),
        client.image(second),
        client.history(first),
        client.history(second),
    )
    steps = steps_of([*old_steps, *new_steps])
    bakery = Bakery({"Config": {"Env": [*_config_env(old), *_config_env(new)]}}, steps)
    old_layers, new_layers = _layers(old), _layers(new)
    shared = _shared(old_layers, new_layers)
    changes = list(_changes(old, new, bakery))
    before, after = _facts(first, old), _facts(second, new)
    same = bool(old.get("Id")) and old.get("Id") == new.get("Id")
    grown = after.size_bytes - before.size_bytes
    fresh = len(new_layers) - shared
    differences = plural(len(changes), "difference")
    return ImageComparison(
        headline=f"{first} and {second} are one image ({after.id})."
        if same
        else f"{second} shares {shared} of its {plural(len(new_layers), 'layer')} with"
        f" {first} and is {size(abs(grown))} {'larger' if grown >= 0 else 'smaller'};"
        f" {differences} in the configuration.",
        before=before,
        after=after,
        same=same,
        shared_layers=shared,
        new_layers=fresh,
        gone_layers=len(old_layers) - shared,
        new_steps=tuple(_new_steps(new_steps, len(new_layers), fresh, bakery)),
        changes=tuple(changes[:MOST_CHANGES]),
        more_changes=max(0, len(changes) - MOST_CHANGES),
    )


def _config_env(image: Json) -> list[str]:
    return list((image.get("Config") or {}).get("Env") or ())


def _layers(image: Json) -> list[str]:
    return list((image.get("RootFS") or {}).get("Layers") or ())


def _shared(old: list[str], new: list[str]) -> int:
    """Equal layers from the bottom: above the first difference nothing is shared."""
    count = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        count += 1
    return count


def _facts(name: str, image: Json) -> ImageFacts:
    labels = (image.get("Config") or {}).get("Labels") or {}
    parts = [image.get(key) for key in ("Os", "Architecture", "Variant")]
    revision = labels.get(REVISION_LABEL)
    return ImageFacts(
        image=name,
        id=short_id(str(image.get("Id") or "")),
        created=moment(image.get("Created")),
        size_bytes=int(image.get("Size") or 0),
        layers=len(_layers(image)),
        platform="/".join(str(p) for p in parts if p),
        revision=cut_middle(str(revision), VALUE_CHARS) if revision else None,
    )


def _new_steps(history: list[Json], layers: int, fresh: int, bakery: Bakery) -> Iterator[str]:
    """The steps behind the newest layers; none where entries and layers do not match by size.

    The engine does not mark which entries made a layer; a command that left nothing behind makes
    one or none, depending on the builder.
    """
    made = [step for step in steps_of(history) if step.size]
    if len(made) == layers:
        for step in reversed(made[:fresh]):
            yield cut_middle(bakery.shown(f"{step.instruction} {step.command}"), VALUE_CHARS)


def _changes(old: Json, new: Json, bakery: Bakery) -> Iterator[ImageChange]:
    for key, word in (("Architecture", "architecture"), ("Os", "system")):
        yield from _change(word, old.get(key), new.get(key), bakery)
    before, after = old.get("Config") or {}, new.get("Config") or {}
    for key, word in _SETTINGS:
        yield from _change(word, _said(before.get(key)), _said(after.get(key)), bakery)
    yield from _table("env", dict(env_pairs(old)), dict(env_pairs(new)), bakery)
    yield from _table("label", before.get("Labels") or {}, after.get("Labels") or {}, bakery)
    for key, word in (("ExposedPorts", "port"), ("Volumes", "volume")):
        sides = (before.get(key) or {}, after.get(key) or {})
        names = [{str(n): "exposed" if word == "port" else "declared" for n in s} for s in sides]
        yield from _table(word, names[0], names[1], bakery)


_SETTINGS = (
    ("User", "user"),
    ("Entrypoint", "entrypoint"),
    ("Cmd", "cmd"),
    ("WorkingDir", "working directory"),
    ("StopSignal", "stop signal"),
    ("Healthcheck", "health check"),
    ("Shell", "shell"),
)


def _said(value: Any) -> str | None:
    if value in (None, "", [], {}):
        return None
    if isinstance(value, Mapping):
        value = [f"{k}={v}" for k, v in value.items()]
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(
    kind: str, old: Mapping[str, str], new: Mapping[str, str], bakery: Bakery
) -> Iterator[ImageChange]:
    for name in sorted(old.keys() | new.keys()):
        yield from _change(f"{kind} {name}", old.get(name), new.get(name), bakery)


def _change(what: str, old: str | None, new: str | None, bakery: Bakery) -> Iterator[ImageChange]:
    if old == new:
        return
    name = what.partition(" ")[2] if what.startswith(("env ", "label ")) else ""

    def shown(value: str | None) -> str | None:
        if value is None:
            return None
        if value and is_secret_name(name):
            return "[REDACTED:named]"
        return cut_middle(bakery.shown(value), VALUE_CHARS)

    yield ImageChange(what=bakery.shown(what), before=shown(old), after=shown(new))
