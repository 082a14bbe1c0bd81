"""How the door asks a person, whatever the protocol: one question, one answer, or no channel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A yes-or-no question.

    Attributes:
        key: Stable name; the same question asked again in a later round has the same key.
        message: What will happen, why, and until when the answer counts.
    """

    key: str
    message: str


@dataclass(frozen=True)
class PersonAnswer:
    """What came back. `dismissed`: the dialog was closed, which is a no."""

    approved: bool
    dismissed: bool = False
    note: str = ""


Ask = Callable[[Question], Awaitable[PersonAnswer | None]]
"""Asks through the client; None: this client cannot be asked.

May raise AnswerLater where the protocol brings the answer with a later call.
"""


class AnswerLater(Exception):
    """The question is on its way; the client will repeat the call with the answer."""

    def __init__(self, payload: object) -> None:
        super().__init__("the client will answer with a later call")
        self.payload = payload
