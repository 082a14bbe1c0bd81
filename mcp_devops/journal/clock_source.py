"""What is known of the clock that times come from: the kernel's own word on its synchronisation."""

from __future__ import annotations

import ctypes
import os

from mcp_devops.model.record import Record

_UNSYNCHRONISED = 0x0040  # STA_UNSYNC of timex.h
_NANOSECONDS = 0x2000  # STA_NANO: the offset is in these, not in microseconds
_ERROR = 5  # TIME_ERROR: the clock is not synchronised


class ClockStatus(Record):
    """The system clock at one moment, on the machine that asks."""

    source: str = "system clock, UTC"
    """Where times come from."""
    synchronised: bool | None
    """Whether the kernel says that something (NTP, PTP) keeps it right; null: not known."""
    offset_s: float | None = None
    """Seconds still to be corrected; null: not known."""
    max_error_s: float | None = None
    """The kernel's bound of the error, in seconds; null: not known."""
    says: str
    """One sentence for a person."""


class _Timex(ctypes.Structure):
    """`struct timex` of Linux, as far as it is read; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_byte * 512),
    )


def clock_status() -> ClockStatus:
    """Ask the kernel. It answers without any right; where it cannot, nothing is claimed."""
    timex = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError, TypeError):
        return unknown(f"{os.name} does not tell")
    if state < 0:
        return unknown(os.strerror(ctypes.get_errno()))
    return status_of(state, timex.status, timex.offset, timex.maxerror)


def unknown(why: str) -> ClockStatus:
    """The status where nobody can tell."""
    return ClockStatus(
        synchronised=None, says=f"System clock; synchronisation not verified: {why}."
    )


def status_of(state: int, flags: int, offset: int, max_error_us: int) -> ClockStatus:
    """What the kernel's numbers mean."""
    if state == _ERROR or flags & _UNSYNCHRONISED:
        return ClockStatus(
            synchronised=False,
            says="System clock; not verified: the kernel knows of nothing that synchronises it.",
        )
    offset_s = offset / (1e9 if flags & _NANOSECONDS else 1e6)
    max_error_s = max_error_us / 1e6
    return ClockStatus(
        synchronised=True,
        offset_s=offset_s,
        max_error_s=max_error_s,
        says=f"System clock, synchronised; offset {offset_s:.6f} s,"
        f" error at most {max_error_s:.3f} s.",
    )
