"""What a revision calls itself in tags of metric stores and error trackers."""

from __future__ import annotations

import re
from typing import NamedTuple

from mcp_devops.model.change import Change

_NAMES = (
    "SENTRY_RELEASE",
    "DD_VERSION",
    "OTEL_SERVICE_VERSION",
    "APP_VERSION",
    "SERVICE_VERSION",
    "RELEASE",
    "VERSION",
)
"""Variables that hold a version, the most specific first."""
_LABELS = ("tags.datadoghq.com/version", "app.kubernetes.io/version", "version")
"""Pod labels that hold one."""
_SAFE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9@/:._+-]{0,199}$")


class Versions(NamedTuple):
    """Tags of the judged revision and of the one before."""

    new: str | None
    old: str | None


def versions(change: Change | None) -> Versions:
    """The versions that a rollout replaced, from its variables, labels or image tags.

    Both are None where they are unknown or equal: then nothing can be told apart by them.
    """
    if change is None or change.previous is None:
        return Versions(None, None)
    by_path = {d.path: d for d in change.differences}
    ends = [*(f".env[{name}]" for name in _NAMES), *(f"labels[{name}]" for name in _LABELS)]
    for end in ends:
        for path, difference in sorted(by_path.items()):
            if path.endswith(end) and _usable(difference.before, difference.after):
                return Versions(difference.after, difference.before)
    for old, new in zip(change.previous.images, change.revision.images, strict=False):
        tags = _tag(old), _tag(new)
        if _usable(*tags):
            return Versions(tags[1], tags[0])
    return Versions(None, None)


def _usable(old: str | None, new: str | None) -> bool:
    return bool(old and new and old != new and _SAFE.match(old) and _SAFE.match(new))


def _tag(image: str) -> str | None:
    """The tag of an image; None for a bare name or a digest."""
    name = image.partition("@")[0].rpartition("/")[2]
    return name.partition(":")[2] or None
