"""What is said in Slack, where it stands, and what people answered."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import SecretStr

from mcp_devops.model.record import Record


class Message(Record):
    """A message: blocks for eyes, one line for notifications and screen readers."""

    text: str
    """The fallback text, escaped."""
    blocks: tuple[dict[str, Any], ...] = ()
    """Block Kit blocks, within Slack's limits."""


class MessageRef(Record):
    """Where a message stands; enough to update it or to answer in its thread."""

    channel: str
    """Channel id, as Slack gave it."""
    ts: str
    """Slack's time stamp of the message, which is its id in the channel."""


class Person(Record):
    """A member of the workspace."""

    id: str
    """User id."""
    name: str
    """Display name, cleaned; the id where names may not be read. People choose it themselves."""
    email: str | None = None
    """Address that Slack confirmed; null: not told (scope users:read.email), or not confirmed."""
    team_id: str = ""
    """The workspace they belong to; empty: not told (scope users:read)."""
    is_bot: bool = False
    """Whether it is an app's user."""


class Decision(StrEnum):
    """What a person wants."""

    APPROVE = "approve"
    REJECT = "reject"


class Click(Record):
    """A person pressed Approve or Reject. Whether they may, and in time, is decided elsewhere."""

    decision: Decision
    """Which button."""
    approval_id: str
    """The approval that the message asked for."""
    plan_digest: str
    """First characters of the plan's digest, as the message showed it."""
    user_id: str
    """Who."""
    user_name: str
    """Their name, as Slack sends it: data."""
    team_id: str
    """Workspace in which it was clicked; empty: not told."""
    user_team_id: str = ""
    """The person's own workspace: another one in a channel that two of them share; empty: not
    told."""
    message: MessageRef | None
    """The message that was clicked."""
    clicked_ts: str
    """Slack's time stamp of the click: repeated deliveries have the same one."""
    response_url: SecretStr | None = None
    """Where to answer this person alone; five times within 30 minutes."""


class Verb(StrEnum):
    """What a slash command asks for."""

    APPROVE = "approve"
    REJECT = "reject"
    STATUS = "status"
    HELP = "help"
    """Anything that is not understood: answer with the usage."""


class Command(Record):
    """A person typed the slash command."""

    verb: Verb
    """What they want."""
    subject: str = ""
    """The approval's id, or the incident's for status; empty: not given."""
    user_id: str
    """Who."""
    user_name: str
    """Their name, as Slack sends it: data."""
    team_id: str
    """Their workspace."""
    channel: str
    """Where it was typed."""
    trigger: str
    """Slack's trigger id: repeated deliveries have the same one."""
    response_url: SecretStr | None = None
    """Where to answer this person alone; five times within 30 minutes."""


class Spoken(Record):
    """A person answered under the message: by a reaction or by a word."""

    decision: Decision
    """What they said."""
    approval_id: str
    """The approval that was asked for."""
    user_id: str
    """Who."""
    by: str
    """reaction or reply."""
    ts: str
    """Time stamp of the reply, or of the message that carries the reaction."""
