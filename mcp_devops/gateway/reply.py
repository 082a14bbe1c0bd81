"""What the door gives back: data for a program, a text for a person, or an error, all redacted."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from mcp_devops.errors import DevOpsError
from mcp_devops.text.budget import shrink
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.answer import Answer, ResponseFormat

CONCISE_CHARS = 24_000
"""Characters of JSON in a default answer: under 10,000 tokens at 2.5 characters a token, which is
dense JSON's worst."""
DETAILED_CHARS = 38_000
"""Characters of JSON in a detailed answer."""
TEXT_CHARS = 9_000
"""Characters of the readable text; with the JSON and its escaping it stays under 50,000."""


@dataclass(frozen=True)
class Reply:
    """The outcome of one call."""

    call_id: str
    text: str
    data: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    cut: tuple[str, ...] = field(default=())

    @property
    def failed(self) -> bool:
        """Whether it is an error."""
        return self.error is not None


def reply_from_answer(
    call_id: str, answer: Answer, redactor: Redactor, response_format: ResponseFormat
) -> Reply:
    """Redact an answer and cut it to its budget; what was cut is said in both forms."""
    limit = DETAILED_CHARS if response_format is ResponseFormat.DETAILED else CONCISE_CHARS
    data = redactor.data(answer.model_dump(mode="json", exclude_defaults=True))
    data, cut = shrink(data, limit)
    text = _tail(redactor.text(answer.text()), TEXT_CHARS)
    if cut:
        text += "\nCut to budget: " + "; ".join(cut)
    return Reply(call_id, text, data=data, cut=tuple(cut))


def _tail(text: str, limit: int) -> str:
    """Keep the first lines (what it is) and the newest (what matters), drop the middle."""
    if len(text) <= limit:
        return text
    head = text[: limit // 4].rsplit("\n", 1)[0]
    tail = text[-(limit - len(head) - 60) :]
    tail = tail.split("\n", 1)[-1]
    dropped = len(text) - len(head) - len(tail)
    return f"{head}\n[... {dropped} characters left out here ...]\n{tail}"


def reply_from_error(call_id: str, error: DevOpsError, redactor: Redactor) -> Reply:
    """Say what happened and the next move; foreign text is redacted and labelled as data."""
    body: dict[str, Any] = {
        "code": error.code,
        "what": redactor.text(error.what),
        "fix": redactor.text(error.fix),
        "retryable": error.retryable,
        "call_id": call_id,
    }
    if error.source:
        body["source"] = error.source
    if error.upstream:
        body["upstream"] = redactor.text(error.upstream)
    if error.details:
        details = redactor.data(json.loads(json.dumps(error.details, default=str)))
        body["details"], _ = shrink(details, 4_000)
    return Reply(call_id, redactor.text(str(error)), error=body)
