"""Looks for what a zip file holds beside its members: other programs may show it as content."""

from __future__ import annotations

import struct
import zipfile

_LOCAL = struct.Struct("<4s22sHH")
"""Head of a member: signature, what is not looked at, length of the name, length of the extra."""
_SIZES = 20
"""Bytes of extra with which a member says sizes above 4 GB."""
_CENTRAL = 46
"""Bytes of a member's entry in the directory, without its name."""
_END = 22
"""Bytes after the directory."""
_LARGE_END = _END + 76
"""The same for a file above 4 GB."""


def holds_more(archive: zipfile.ZipFile, size: int) -> bool:
    """Whether any byte belongs to no member: before, between or after them, or in a comment.

    Args:
        archive: Open for reading.
        size: Bytes of the file.
    """
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    file = archive.fp
    if file is None or archive.comment or any(m.comment for m in members):
        return True
    at = directory = 0
    for member in members:
        if member.header_offset != at:
            return True
        file.seek(at)
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size:
            return True
        _, _, name, extra = _LOCAL.unpack(head)
        if extra > _SIZES or len(member.extra) > _SIZES + 8:
            return True
        at += _LOCAL.size + name + extra + member.compress_size
        directory += _CENTRAL + len(member.filename.encode()) + len(member.extra)
    return size - at - directory not in (_END, _LARGE_END)
