"""Asks the client's user through elicitation, in the way of the client's protocol era."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from mcp import MCPError
from mcp import types as t
from mcp.server import ServerRequestContext

from mcp_devops.gateway.asking import AnswerLater, PersonAnswer, Question

MODERN = "2026-07-28"
"""From this protocol version on a server does not call the client: the client calls again."""

FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "approve": {
            "type": "boolean",
            "title": "Approve this change",
            "description": "Yes: it is carried out now. No: nothing is changed.",
        },
        "note": {
            "type": "string",
            "title": "Note",
            "description": "Optional; goes into the record.",
        },
    },
    "required": ["approve"],
}
"""A flat form of primitives, as the protocol asks."""


@dataclass(frozen=True)
class Elicitation:
    """One call's way to its user."""

    context: ServerRequestContext[Any, Any]
    params: t.CallToolRequestParams

    @property
    def possible(self) -> bool:
        """Whether the client declared forms, and can be reached."""
        capabilities = self.context.session.client_capabilities
        asked = capabilities.elicitation if capabilities else None
        if asked is None or (asked.form is None and asked.url is not None):
            return False
        return self.context.protocol_version >= MODERN or self.context.session.can_send_request

    async def ask(self, question: Question) -> PersonAnswer | None:
        """Ask, and wait (older clients) or hand the question over (newer ones).

        Raises:
            AnswerLater: The question goes out as this call's result.
        """
        if self.context.protocol_version >= MODERN:
            return self._second_round(question)
        try:
            result = await self.context.session.elicit_form(
                question.message, FORM, related_request_id=self.context.request_id
            )
        except MCPError:
            # A client that declares dialogs and then refuses them has no channel.
            return None
        return _answer(result)

    def _second_round(self, question: Question) -> PersonAnswer:
        """Take the answer that came with this call, if it answers exactly this question."""
        mark = hashlib.sha256(question.message.encode()).hexdigest()
        state = json.loads(self.params.request_state or "{}")
        answer = (self.params.input_responses or {}).get(question.key)
        if state.get(question.key) == mark and isinstance(answer, t.ElicitResult):
            return _answer(answer)
        raise AnswerLater(
            t.InputRequiredResult(
                request_state=json.dumps({question.key: mark}),
                input_requests={
                    question.key: t.ElicitRequest(
                        params=t.ElicitRequestFormParams(
                            message=question.message, requested_schema=FORM
                        )
                    )
                },
            )
        )


def _answer(result: t.ElicitResult) -> PersonAnswer:
    content = result.content or {}
    note = str(content.get("note") or "")[:500]
    if result.action == "cancel":
        return PersonAnswer(approved=False, dismissed=True, note=note)
    return PersonAnswer(
        approved=result.action == "accept" and content.get("approve") is True, note=note
    )
