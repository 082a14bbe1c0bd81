"""Where a run may take place: directories, variable files and workspaces a caller may name."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from mcp_devops.errors import Ambiguous, InvalidArguments, NotConfigured, NotFound

# os.path answers False where Path.is_dir raises: names too long, or of forbidden characters.
SOURCE = "terraform"
WORKSPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,89}")
"""Names Terraform accepts for every backend (90 characters is HCP Terraform's limit), and none
that could be read as an option or a path."""
MAX_VAR_FILES = 10


def resolved_roots(roots: Sequence[str]) -> list[Path]:
    """The configured roots as real directories; those that do not exist are left out."""
    found = []
    for root in roots:
        path = Path(root).expanduser()
        if path.is_dir():
            found.append(path.resolve())
    return found


def working_directory(asked: str | None, roots: Sequence[str]) -> Path:
    """The real directory a call means: absolute, or relative to one root.

    Raises:
        NotConfigured: No configured root exists.
        InvalidArguments: It lies outside every root, symlinks followed.
        NotFound: There is no such directory.
        Ambiguous: Nothing was named and there are several roots, or several have it.
    """
    allowed = resolved_roots(roots)
    if not allowed:
        raise NotConfigured(
            "None of the configured Terraform roots exists.",
            fix="Correct MCP_DEVOPS_TERRAFORM__ROOTS.",
            source=SOURCE,
        )
    if asked is None:
        if len(allowed) > 1:
            raise _ambiguous(allowed)
        return allowed[0]
    inside: list[Path] = []
    outside = False
    for root in allowed:
        found = _real(root, asked)
        if found is None:
            continue
        if not _under(found, allowed):
            outside = True
        elif os.path.isdir(found) and found not in inside:
            inside.append(found)
    if len(inside) > 1:
        raise _ambiguous(inside)
    if inside:
        return inside[0]
    if outside:
        raise InvalidArguments(
            "directory: it lies outside the allowed Terraform roots.",
            fix=f"Name a directory below {_list(allowed)}.",
            source=SOURCE,
            field="directory",
        )
    raise NotFound(
        "directory: there is no such directory below the Terraform roots.",
        fix=f"Name one below {_list(allowed)}.",
        source=SOURCE,
    )


def file_inside(directory: Path, name: str, field: str) -> Path:
    """The real path of an existing file named relative to a directory, and inside it.

    Raises:
        InvalidArguments: The name is absolute, leads outside (symlinks followed), or no file.
    """
    found = None if Path(name).is_absolute() else _real(directory, name)
    if found is None or not _under(found, [directory.resolve()]) or not os.path.isfile(found):
        raise InvalidArguments(
            f"{field}: not a file inside the directory.",
            fix="Give a path relative to the directory that does not lead out of it.",
            source=SOURCE,
            field=field,
        )
    return found


def checked_workspace(name: str | None) -> str | None:
    """The workspace's name, if it can be one.

    Raises:
        InvalidArguments: It has characters no workspace has.
    """
    if name is not None and not WORKSPACE.fullmatch(name):
        raise InvalidArguments(
            "workspace: letters, digits, '_', '-' and '.', at most 90, no '-' or '.' first.",
            fix="Correct it, or leave it out for the directory's own.",
            source=SOURCE,
            field="workspace",
        )
    return name


def _real(base: Path, name: str) -> Path | None:
    """The path with every symlink followed; None where the system cannot."""
    try:
        return (base / name).resolve()
    except (OSError, ValueError, RuntimeError):  # too long, NUL byte, symlink loop
        return None


def _under(path: Path, roots: Sequence[Path]) -> bool:
    return any(path == root or root in path.parents for root in roots)


def _list(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths[:5]))


def _ambiguous(paths: Sequence[Path]) -> Ambiguous:
    return Ambiguous(
        "directory: several Terraform directories fit.",
        fix=f"Name one of {_list(paths)}.",
        source=SOURCE,
        candidates=[str(p) for p in paths[:20]],
    )
