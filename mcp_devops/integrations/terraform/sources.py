"""Reads configuration files without running anything: where blocks stand, what could run.

python-hcl2 is an optional extra and slow to import (0.1 s), so it is loaded on the first file
that needs it. Without it, and in files it cannot parse, block heads are found by pattern, which
a heredoc can fool.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mcp_devops.integrations.terraform.values import as_list, as_map

MAX_FILE_BYTES = 1_000_000
MAX_FILES = 500
MAX_MODULES = 200
_HEAD = re.compile(
    r'^[ \t]*(resource|data|module)[ \t]*"?([\w-]+)"?(?:[ \t]*"?([\w-]+)"?)?[ \t]*\{', re.MULTILINE
)


class Block(NamedTuple):
    """One block of a configuration."""

    head: tuple[str, ...]
    """Keyword and labels: ("resource", "aws_instance", "web")."""
    file: Path
    line: int


def have_hcl2() -> bool:
    """Whether the extra is installed."""
    return _hcl2() is not None


def _hcl2() -> Any:
    try:
        return importlib.import_module("hcl2")
    except ImportError:
        return None


def blocks(path: Path) -> list[Block]:
    """The blocks of a file, by the grammar, or by pattern where that cannot be had.

    Unreadable and oversized files have none.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return []
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    if path.name.endswith(".json"):
        return list(_json_blocks(path, text))
    hcl2 = _hcl2()
    if hcl2 is None:
        return list(_scanned(path, text))
    lark: Any = importlib.import_module("lark")
    try:
        tree = hcl2.parses_to_tree(text if text.endswith("\n") else text + "\n")
    except (lark.exceptions.LarkError, ValueError, RecursionError):
        return list(_scanned(path, text))
    found = []
    for block in tree.find_data("block"):
        head = []
        for child in block.children:
            if isinstance(child, lark.Tree):
                if child.data == "body":
                    break
                tokens = child.scan_values(lambda value: isinstance(value, lark.Token))
                head.append("".join(map(str, tokens)).strip('"'))
        found.append(Block(tuple(head), path, int(block.meta.line)))
    return found


def _scanned(path: Path, text: str) -> Iterator[Block]:
    for match in _HEAD.finditer(text):
        head = tuple(label for label in match.groups() if label)
        line = text.count("\n", 0, match.start(1)) + 1
        yield Block(head, path, line)


def _json_blocks(path: Path, text: str) -> Iterator[Block]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return
    for entry in [as_map(e) for e in (whole if isinstance(whole, list) else [whole])]:
        for keyword in ("resource", "data"):
            for part in as_list(entry.get(keyword)) or [entry.get(keyword)]:
                for kind, named in as_map(part).items():
                    for name in as_map(named) or [""]:
                        at = text.find(f'"{name}"', max(text.find(f'"{kind}"'), 0))
                        yield Block(
                            (keyword, kind, name), path, text.count("\n", 0, max(at, 0)) + 1
                        )


def files(directory: Path) -> list[Path]:
    """The configuration files of one module, `*.tf` and `*.tofu` with their JSON forms."""
    try:
        found = [
            p for p in directory.iterdir()
            if p.name.endswith((".tf", ".tofu", ".tf.json", ".tofu.json")) and p.is_file()
        ]  # fmt: skip
    except OSError:
        return []
    return sorted(found)[:MAX_FILES]


def modules(directory: Path) -> dict[str, Path]:
    """Directories of the installed modules, as `init` wrote them down.

    By key: "" is the root, "cache.disk" is module.cache.module.disk.
    """
    found = {"": directory}
    try:
        raw = (directory / ".terraform/modules/modules.json").read_text(encoding="utf-8")
        manifest = json.loads(raw)
    except (OSError, ValueError, RecursionError):
        return found
    for entry in map(as_map, as_list(as_map(manifest).get("Modules"))):
        key, place = entry.get("Key"), entry.get("Dir")
        if isinstance(key, str) and isinstance(place, str) and key and "\0" not in place:
            found[key] = directory / place
        if len(found) >= MAX_MODULES:
            break
    return found


def module_key(address: str) -> str:
    """The manifest's key of a module address: `module.a["x"].module.b` is `a.b`."""
    return ".".join(re.findall(r"(?:^|\.)module\.([\w-]+)", re.sub(r"\[[^]]*\]", "", address)))


def positions(
    directory: Path, wanted: set[tuple[str, str, str]]
) -> dict[tuple[str, str, str], str]:
    """Where resources are declared, as file:line relative to the directory.

    Args:
        directory: The root module.
        wanted: (module address, type, name).
    """
    places = modules(directory)
    found: dict[tuple[str, str, str], str] = {}
    for module in {w[0] for w in wanted}:
        place = places.get(module_key(module))
        names = {w[1:] for w in wanted if w[0] == module}
        for path in files(place) if place else []:
            if not _mentions(path, [name for _, name in names]):
                continue
            for block in blocks(path):
                if block.head[:1] == ("resource",) and block.head[1:] in names:
                    key = (module, block.head[1], block.head[2])
                    found[key] = f"{_shown(path, directory)}:{block.line}"
    return found


def external_data(directory: Path) -> list[str]:
    """Where `data "external"` blocks stand, in the directory and its installed modules."""
    return [
        f"{_shown(block.file, directory)}:{block.line}"
        for place in modules(directory).values()
        for path in files(place)
        if _mentions(path, ["external"])
        for block in blocks(path)
        if block.head[:2] == ("data", "external")
    ]


def _mentions(path: Path, words: list[str]) -> bool:
    """A cheap look before parsing: 5 ms a file add up."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return False
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(word in text for word in words)


def _shown(path: Path, directory: Path) -> str:
    try:
        return str(path.relative_to(directory))
    except ValueError:
        return str(path)
