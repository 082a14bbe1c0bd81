"""What is said in Slack and who people are: posts, updates, answers to a click, names."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import SecretStr

from mcp_devops.errors import (
    InvalidArguments,
    NotConfigured,
    PermissionDenied,
    PreconditionFailed,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from mcp_devops.integrations.slack.failures import SOURCE
from mcp_devops.integrations.slack.records import Message, MessageRef, Person
from mcp_devops.integrations.slack.settings import SlackSettings
from mcp_devops.integrations.slack.web_api import WebApi, down_error, unknown
from mcp_devops.text.clean import clean
from mcp_devops.toolkit.clock import Clock
from mcp_devops.toolkit.retrying import Pause

NAMES_KEPT = 500
"""Names that are remembered at most."""
NAME_KEPT_S = 3600.0
"""Seconds a looked-up name is believed."""

Newest = Callable[[], Message]
"""Gives the message at the moment it is sent: what changed while waiting is in it."""


class SlackClient(WebApi):
    """Talks as one Slack app."""

    def __init__(
        self,
        settings: SlackSettings,
        clock: Clock,
        *,
        pause: Pause = asyncio.sleep,
        jitter: Callable[[], float] = random.random,  # noqa: S311 - spreads retries
    ) -> None:
        super().__init__(settings, clock, pause=pause, jitter=jitter)
        self._turns: dict[str, asyncio.Lock] = {}
        self._last: dict[str, float] = {}
        self._own: Mapping[str, str] = {}
        self._people: dict[str, tuple[float, Person]] = {}

    @property
    def channel(self) -> str:
        """The configured channel.

        Raises:
            NotConfigured: There is none.
        """
        if not self.settings.channel:
            raise NotConfigured(
                "No Slack channel is set.",
                fix="Set MCP_DEVOPS_SLACK__CHANNEL to a channel id.",
                source=SOURCE,
            )
        return self.settings.channel

    async def post(
        self,
        message: Message | Newest,
        *,
        thread: MessageRef | None = None,
        channel: str | None = None,
        broadcast: bool = False,
    ) -> MessageRef:
        """Post a message to a channel, or into a thread.

        Args:
            message: What it says.
            thread: Message under which it stands.
            channel: Another channel than the configured one: an id, or #name.
            broadcast: Show it in the channel as well as in the thread.

        Raises:
            NotConfigured: No token or no channel.
            CredentialsRejected, PermissionDenied, NotFound, InvalidArguments: As Slack says.
            RateLimited, UpstreamUnavailable: Nothing was posted within deadline_s.
            OutcomeUnknown: It was sent and no answer came: it may stand there.
        """
        where = thread.channel if thread else channel or self.channel
        extra: dict[str, Any] = {"thread_ts": thread.ts} if thread else {}
        if thread and broadcast:
            extra["reply_broadcast"] = True
        body = await self._write("chat.postMessage", where, message, extra, repeatable=False)
        ts = _text(body.get("ts"))
        if not ts:
            raise unknown("chat.postMessage")
        return MessageRef(channel=_text(body.get("channel")) or where, ts=ts)

    async def update(self, ref: MessageRef, message: Message | Newest) -> None:
        """Put a message in the place of one of ours.

        Raises:
            PreconditionFailed: It was deleted, or is not ours.
            UpstreamTimeout: No answer came; safe to repeat.
            Otherwise as post.
        """
        await self._write("chat.update", ref.channel, message, {"ts": ref.ts}, repeatable=True)

    async def answer(self, response_url: SecretStr, text: str) -> None:
        """Answer the person who clicked, seen by nobody else.

        Args:
            response_url: As the click brought it.
            text: Escaped text.

        Raises:
            InvalidArguments: The address is not Slack's: nothing was sent.
            PreconditionFailed: It was used up or is too old.
            UpstreamTimeout, UpstreamUnavailable: As named.
        """
        import httpx2

        url = _checked(response_url.get_secret_value(), self.settings.response_host)
        body = {"response_type": "ephemeral", "replace_original": False, "text": text}
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                response = await self.connection().post(url, json=body)
        except (httpx2.HTTPError, OSError) as down:
            # No `from`: the request it names holds the address, which is a secret.
            raise down_error(down) from None
        if response.status_code >= 500:
            raise UpstreamUnavailable(
                f"Slack failed (HTTP {response.status_code}).", fix="Repeat it.", source=SOURCE
            )
        if response.status_code != 200:
            raise PreconditionFailed(
                f"Slack takes no more answers to this click (HTTP {response.status_code}).",
                fix="Post into the thread instead.",
                source=SOURCE,
            )

    async def person(self, user_id: str) -> Person:
        """Who a user id is; kept for an hour. Without users:read the name is the id.

        Raises:
            As post.
        """
        now = self.clock.monotonic()
        kept = self._people.get(user_id)
        if kept and now - kept[0] < NAME_KEPT_S:
            return kept[1]
        try:
            body = await self.call("users.info", {"user": user_id}, form=True)
        except (PermissionDenied, PreconditionFailed):
            found = Person(id=user_id, name=user_id)
        else:
            user = body.get("user")
            told = user if isinstance(user, Mapping) else {}
            found = Person(
                id=user_id,
                name=_name_in(user) or user_id,
                email=_email_in(user),
                team_id=_text(told.get("team_id")),
                is_bot=told.get("is_bot") is True,
            )
        if len(self._people) >= NAMES_KEPT:
            self._people.pop(next(iter(self._people)))
        self._people[user_id] = (now, found)
        return found

    async def whoami(self) -> Mapping[str, str]:
        """auth.test: user, user_id, team, team_id of the bot; gives up after timeout_s.

        Raises:
            As post.
        """
        end = self.clock.monotonic() + self.settings.timeout_s
        body = await self.call("auth.test", {}, end=end)
        return {k: _text(body.get(k)) for k in ("user", "user_id", "team", "team_id")}

    async def own_id(self) -> str:
        """The bot's own user id, asked for once.

        Raises:
            As post.
        """
        return (await self._self())["user_id"]

    async def own_team(self) -> str:
        """The workspace that the bot is installed in, asked for once.

        Raises:
            As post.
        """
        return (await self._self())["team_id"]

    async def _self(self) -> Mapping[str, str]:
        if not self._own:
            self._own = await self.whoami()
        return self._own

    async def _write(
        self,
        method: str,
        channel: str,
        message: Message | Newest,
        extra: Mapping[str, Any],
        *,
        repeatable: bool,
    ) -> Mapping[str, Any]:
        newest = message if callable(message) else lambda: message

        def body() -> dict[str, Any]:
            said = newest()
            return {
                "channel": channel,
                "text": said.text,
                "blocks": list(said.blocks),
                "parse": "none",
                "link_names": False,
                "unfurl_links": False,
                "unfurl_media": False,
                **extra,
            }

        end = self.clock.monotonic() + self.settings.deadline_s
        # One writer a channel. Waiting for the turn is on the call's own time, so that a Slack
        # that is down costs everybody one deadline, not one after the other.
        async with self._turns.setdefault(channel, asyncio.Lock()):
            free = self._last.get(channel, float("-inf")) + self.settings.spacing_s
            if (wait := free - self.clock.monotonic()) > 0:
                await self.pause(wait)
            if self.clock.monotonic() >= end:
                raise UpstreamTimeout(
                    "Slack took too long with the messages before this one.",
                    fix="Repeat it.",
                    source=SOURCE,
                )
            try:
                return await self.call(method, body, repeatable=repeatable, end=end)
            finally:
                self._last[channel] = self.clock.monotonic()


def _checked(url: str, host: str) -> str:
    """The address, if it is https of the one host; http only to this machine."""
    import httpx2

    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        parsed = httpx2.URL("")
    own = parsed.host + (f":{parsed.port}" if parsed.port else "")
    local = parsed.host in ("127.0.0.1", "localhost")
    if own != host or parsed.userinfo or parsed.scheme not in ("https", "http" if local else ""):
        raise InvalidArguments(
            "The click's answer address is not Slack's; nothing was sent to it.",
            fix="Set MCP_DEVOPS_SLACK__RESPONSE_HOST only if your Slack uses another host.",
            source=SOURCE,
        )
    return url


def _name_in(user: Any) -> str:
    if not isinstance(user, Mapping):
        return ""
    profile = user.get("profile")
    profile = profile if isinstance(profile, Mapping) else {}
    names = (profile.get("display_name"), user.get("real_name"), user.get("name"))
    return next((n for n in (_text(x) for x in names) if n), "")


def _email_in(user: Any) -> str | None:
    """The address of a person, if Slack has seen that it is theirs."""
    if not isinstance(user, Mapping) or user.get("is_email_confirmed") is not True:
        return None
    profile = user.get("profile")
    email = profile.get("email") if isinstance(profile, Mapping) else None
    return email if isinstance(email, str) and 3 <= len(email) <= 254 else None


def _text(value: Any) -> str:
    return " ".join(clean(value[:500]).split())[:80] if isinstance(value, str) else ""
