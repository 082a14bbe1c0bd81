"""What became of one question to an outside system, for whoever counts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """One question that was answered, refused or given up."""

    system: str
    """prometheus, kubernetes, ..."""
    outcome: str
    """ok, also where it has nothing to tell; or the error's code."""
    seconds: float
    """How long it took."""


@dataclass(frozen=True)
class AskedObserver:
    """Offered as a service by a program that counts the questions of its investigations."""

    observe: Callable[[Asked], None]
    """Told of each question; must not raise."""
