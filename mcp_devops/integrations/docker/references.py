"""Names of images and containers as types: whatever fits them is harmless in a URL and a command.

None begins with a dash, so none is taken for an option; none holds `..`, so none leaves its path.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated
from urllib.parse import quote

from pydantic import Field

_DOMAIN = r"[A-Za-z0-9]+(?:[.-][A-Za-z0-9-]*[A-Za-z0-9])*(?::[0-9]{1,5})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"

ImageRef = Annotated[
    str,
    Field(
        pattern=rf"^(?:{_DIGEST}|(?:{_DOMAIN}/)?{_PART}(?:/{_PART})*(?::{_TAG})?(?:@{_DIGEST})?)$",
        min_length=1,
        max_length=512,
    ),
]
"""An image: name[:tag], name@sha256:…, or an id."""
ContainerRef = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=255)]
"""A container: name or id."""


def quoted(name: str) -> str:
    """A reference as a part of a URL's path; slashes stay, because the engine routes by them."""
    return quote(name, safe="/:@")


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that look like the one that does not exist, likeliest first."""
    candidates = list(known)
    close = get_close_matches(name, candidates, n=3, cutoff=0.5)
    bare = name.rsplit("/", 1)[-1].split(":")[0].split("@")[0]
    same = [c for c in candidates if bare and bare in c.split("@")[0] and c not in close]
    return (close + same)[:3]


def short_id(identity: str) -> str:
    """The first twelve hexadecimal digits of an id, as people quote it."""
    return identity.removeprefix("sha256:")[:12]
