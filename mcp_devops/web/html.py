"""Builds HTML in which outside text can only ever be text: every string is escaped, once, here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

_NAME = re.compile(r"[a-z][a-zA-Z0-9-]*")
_VOID = frozenset({"br", "hr", "meta", "link"})
_SVG_EMPTY = frozenset({"rect", "line", "path", "circle", "polyline", "use"})


class Html:
    """Markup that was built by `el`; a plain string is never taken for it."""

    __slots__ = ("markup",)

    def __init__(self, markup: str) -> None:
        self.markup = markup

    def __str__(self) -> str:
        return self.markup


Child = Html | str | int | None | Iterable["Child"]
"""What may stand in an element; None is left out, a string becomes text."""
Value = str | int | float | bool | None
"""An attribute: None and False leave it out, True gives its bare name."""


def el(name: str, /, *children: Child, **attributes: Value) -> Html:
    """One element.

    Args:
        name: Tag name, ours.
        children: What stands in it.
        attributes: `class_` for class, `stroke_width` for stroke-width; names are ours, values are
            escaped.

    Raises:
        ValueError: A name that is none, or content in an element that has none.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no element")
    inside = "".join(_markup(child) for child in children)
    head = name + "".join(_attribute(n, v) for n, v in attributes.items())
    if name in _VOID:
        if inside:
            raise ValueError(f"<{name}> has no content")
        return Html(f"<{head}>")
    if name in _SVG_EMPTY and not inside:
        return Html(f"<{head}/>")
    return Html(f"<{head}>{inside}</{name}>")


def raw_style(css: str) -> Html:
    """A style element of our own CSS.

    Raises:
        ValueError: It would end the element early.
    """
    if "<" in css:
        raise ValueError("our CSS holds no markup")
    return Html(f"<style>{css}</style>")


def _attribute(name: str, value: Value) -> str:
    if value is None or value is False:
        return ""
    written = name.rstrip("_").replace("_", "-")
    if not _NAME.fullmatch(written) or written.startswith("on") or written == "style":
        raise ValueError(f"{name!r} is no attribute of ours")
    if value is True:
        return f" {written}"
    shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {written}="{escape(shown, quote=True)}"'


def _markup(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child.markup
    if isinstance(child, str):
        return escape(child, quote=False)
    if isinstance(child, int):
        return str(child)
    return "".join(_markup(one) for one in child)


def document(title: str, css: str, icon: str, *body: Child) -> str:
    """A whole page that loads nothing: no script, no font, no image but its own icon.

    Args:
        title: For the tab.
        css: Its style; the policy allows this text and no other.
        icon: An SVG document, for the tab.
        body: What is in it.
    """
    from urllib.parse import quote

    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy(css)),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("meta", name="robots", content="noindex"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("link", rel="icon", href=f"data:image/svg+xml,{quote(icon)}"),
        raw_style(css),
    )
    page = el("html", head, el("body", *body), lang="en")
    return f"<!doctype html>\n{page}\n"


def policy(css: str) -> str:
    """The content security policy of a page with this style: everything off but that."""
    import base64
    import hashlib

    taken = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{taken}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )
