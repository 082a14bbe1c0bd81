"""Messages that are kept true: posted once, updated in place, the newest state always wins."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from mcp_devops.errors import PreconditionFailed
from mcp_devops.integrations.slack.client import SlackClient
from mcp_devops.integrations.slack.records import Message, MessageRef


@dataclass
class _Shown:
    newest: Message
    version: int = 0
    sent: int = 0
    ref: MessageRef | None = None
    thread: MessageRef | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Board:
    """Shows messages by name. States that are overtaken while waiting are never sent."""

    def __init__(self, client: SlackClient) -> None:
        self._client = client
        self._shown: dict[str, _Shown] = {}

    def adopt(self, name: str, ref: MessageRef) -> None:
        """Go on with a message that was posted before a restart."""
        # The state is not known any more, so that nothing is owed until the next `show`.
        self._shown[name] = _Shown(Message(text=""), ref=ref)

    def ref(self, name: str) -> MessageRef | None:
        """Where a message stands; None: it was not posted yet."""
        shown = self._shown.get(name)
        return shown.ref if shown else None

    async def show(
        self, name: str, message: Message, *, thread: MessageRef | None = None
    ) -> MessageRef:
        """Make the message say this. Returns when it does, or says something newer.

        Where it fails, the state is kept and goes out with the next `show` or `settle`.

        Args:
            name: Which message, in the caller's words: incident:inc-1a2b3c4d.
            message: What it says from now on.
            thread: Message under which a new one is posted.

        Raises:
            As SlackClient.post and update. A message that was deleted is posted anew.
        """
        shown = self._shown.get(name)
        if shown is None:
            shown = self._shown[name] = _Shown(message, thread=thread)
        shown.newest = message
        shown.version += 1
        return await self._bring(shown, shown.version)

    async def settle(self) -> None:
        """Send every state that is still owed.

        Raises:
            As show; of several failures the first, after all were tried.
        """
        owed = [s for s in self._shown.values() if s.sent < s.version]
        done = await asyncio.gather(
            *(self._bring(s, s.version) for s in owed), return_exceptions=True
        )
        for result in done:
            if isinstance(result, BaseException):
                raise result

    @property
    def owed(self) -> tuple[str, ...]:
        """Names of messages whose newest state Slack does not have."""
        return tuple(name for name, s in self._shown.items() if s.sent < s.version)

    def forget(self, name: str) -> None:
        """Let go of a message whose incident is over; it stays in Slack as it is."""
        self._shown.pop(name, None)

    async def _bring(self, shown: _Shown, version: int) -> MessageRef:
        async with shown.turn:
            if shown.sent >= version and shown.ref:
                return shown.ref
            taken = 0

            def newest() -> Message:
                nonlocal taken
                taken = shown.version
                return shown.newest

            if shown.ref:
                try:
                    await self._client.update(shown.ref, newest)
                except PreconditionFailed:
                    shown.ref = None
            if shown.ref is None:
                shown.ref = await self._client.post(newest, thread=shown.thread)
            shown.sent = taken
            return shown.ref
