"""`mcp-devops demo`: a recorded incident, played by a real client against a real server process."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mcp_devops.errors import InternalError, UpstreamUnavailable

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult
    from pydantic import BaseModel

    from mcp_devops.scenarios.recorded import About
    from mcp_devops.scenarios.telling import Teller

    M = TypeVar("M", bound=BaseModel)

DEFAULT = "error-spike"
CALL_S = 120.0
"""Seconds one call may take; the longest waits for a person, or for the verification."""


def demo(
    scenario: Annotated[
        str, typer.Option("--scenario", "-s", metavar="NAME", help="Which recorded incident.")
    ] = DEFAULT,
    names: Annotated[bool, typer.Option("--list", help="List the recorded incidents.")] = False,
    all_of_them: Annotated[bool, typer.Option("--all", help="Play all of them.")] = False,
    deny: Annotated[bool, typer.Option("--deny", help="The person says no.")] = False,
    ask: Annotated[bool, typer.Option("--ask", help="You are the person who approves.")] = False,
) -> None:
    """Play a recorded incident, from the first look to the verified rollback. Needs no cluster.

    Exit code 0: it went as it should; 1: it did not.
    """
    from mcp_devops.scenarios.recorded import about, folders
    from mcp_devops.scenarios.telling import Teller, console_for_people, listed

    console = console_for_people()
    if names:
        listed(console, [(name, about(name)) for name in folders()])
        return
    known = list(folders())
    good = True
    for name in known if all_of_them else [scenario]:
        others = [] if all_of_them else [n for n in known if n != name]
        show = Show(name, about(name), Teller(console), deny=deny, ask=ask)
        good = asyncio.run(show.play(others)) and good
    raise typer.Exit(0 if good else 1)


@dataclass
class Show:
    """One incident as it is played.

    Attributes:
        name: The scenario.
        about: What it is about.
        teller: Writes it down.
        deny: Whether the person says no.
        ask: Whether whoever sits at the terminal is the person.
    """

    name: str
    about: About
    teller: Teller
    deny: bool = False
    ask: bool = False
    questions: list[tuple[str, str]] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    @property
    def second(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begun

    async def play(self, others: list[str]) -> bool:
        """Play it.

        Returns:
            Whether all went as the scenario expects.
        """
        import mcp
        from mcp import Client, StdioServerParameters

        self.teller.opening(self.name, self.about)
        with tempfile.TemporaryDirectory(prefix="mcp-devops-demo-") as folder:
            state = Path(folder)
            arguments = ["-m", "mcp_devops", "serve", "--scenario", self.name]
            arguments += ["--state-dir", str(state), "--log-level", "ERROR"]
            server = StdioServerParameters(command=sys.executable, args=arguments)
            lost: BaseException | None = None
            good, entries = False, 0
            try:
                async with Client(
                    server, elicitation_callback=self._answer, read_timeout_seconds=CALL_S
                ) as client:
                    good, incident_id = await self._incident(client)
                    entries = await self._timeline(client, incident_id)
            except* mcp.MCPError as group:
                lost = group
            if lost is not None:
                raise UpstreamUnavailable(
                    "The server process did not answer.",
                    fix=f"Start it by hand: mcp-devops serve --scenario {self.name}.",
                ) from lost
            whole = await self._journal(state, entries)
        good = good and whole
        self.teller.closing(self.name, self.about, good, self.second, others)
        return good

    async def _incident(self, client: Client) -> tuple[bool, str]:
        from mcp_devops.incidents.decide import Decision
        from mcp_devops.incidents.investigate import Investigation
        from mcp_devops.model.verdict import Action

        tools = (await client.list_tools()).tools
        self.teller.stage("Server", self.second)
        self.teller.say(
            f"mcp-devops serve --scenario {self.name}   [dim]stdio, MCP"
            f" {client.protocol_version}, {len(tools)} tools[/]"
        )
        place = {"namespace": self.about.namespace, "workload": self.about.workload}
        found = await self._call(client, "incident_investigate", place, Investigation)
        self.teller.stage("Signals", self.second, _call_text("incident_investigate", place))
        self.teller.signals(found)
        logs = await client.call_tool("kubernetes_tail_logs", {**place, "tail": 40})
        if not logs.is_error and logs.structured_content:
            self.teller.log(logs.structured_content.get("most_telling"))
        incident = {"incident_id": found.incident_id}
        decision = await self._call(client, "incident_decide", incident, Decision)
        self.teller.stage("Verdict", self.second, _call_text("incident_decide", incident))
        self.teller.verdict(decision)
        expected = decision.action.value == self.about.expect.action
        if decision.action is Action.ROLL_BACK:
            return await self._roll_back(client, incident) and expected, found.incident_id
        return await self._refused(client, incident) and expected, found.incident_id

    async def _roll_back(self, client: Client, incident: dict[str, Any]) -> bool:
        from mcp_devops.incidents.roll_back import RollBackResult

        title, asked = "Approval", _call_text("incident_roll_back", incident)
        self.teller.stage(title, self.second, asked)
        told = ""

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            nonlocal told
            if message and message != told and not message.startswith("waiting for approval"):
                if not told:
                    self.teller.stage("Rollback", self.second)
                self.teller.say(f"[dim]{self.second:5.1f} s[/]  {message}")
                told = message

        answer = await client.call_tool(
            "incident_roll_back", incident, progress_callback=on_progress
        )
        if answer.is_error:
            self.teller.refusal(_text(answer))
            return self.deny and "APPROVAL_DENIED" in _text(answer) and not told
        result = RollBackResult.model_validate(answer.structured_content)
        self.teller.stage("Verification", self.second)
        self.teller.outcome(result)
        return not self.deny and result.status == self.about.expect.outcome

    async def _refused(self, client: Client, incident: dict[str, Any]) -> bool:
        """The verdict is not to roll back: show that the server holds to it."""
        self.teller.stage(
            "And if the agent tried all the same?",
            self.second,
            _call_text("incident_roll_back", incident),
        )
        answer = await client.call_tool("incident_roll_back", incident)
        self.teller.refusal(_text(answer))
        return bool(answer.is_error) and not self.questions

    async def _timeline(self, client: Client, incident_id: str) -> int:
        from mcp_devops.incidents.records import IncidentAnswer

        asked = {"incident_id": incident_id, "response_format": "detailed"}
        answer = await self._call(client, "incident_get", asked, IncidentAnswer)
        self.teller.stage("Timeline", self.second, _call_text("incident_get", asked))
        self.teller.timeline(answer)
        return len(answer.journal)

    async def _journal(self, state: Path, entries: int) -> bool:
        """Check the chain as `audit verify` does, after the server has gone."""
        from mcp_devops.gateway.opening import database_path
        from mcp_devops.journal.database import open_database
        from mcp_devops.journal.journal import Journal
        from mcp_devops.settings import ServerSettings
        from mcp_devops.text.secrets import Redactor
        from mcp_devops.toolkit.clock import SystemClock

        path = database_path(ServerSettings.load(state_dir=state, database_url=None))
        async with open_database(path) as database:
            report = await Journal(database, Redactor(()), SystemClock().now).verify()
        self.teller.stage("Journal", self.second, "mcp-devops audit verify")
        self.teller.journal(entries, report.says, report.head or "", report.ok)
        return report.ok

    async def _call(self, client: Client, tool: str, arguments: dict[str, Any], kind: type[M]) -> M:
        answer = await client.call_tool(tool, arguments)
        if answer.is_error:
            raise InternalError(f"{tool} failed: {_text(answer)}", fix="Report this bug.")
        return kind.model_validate(answer.structured_content)

    async def _answer(self, context: Any, params: Any) -> Any:
        """The person's answer to the server's question."""
        from mcp import types

        said = not self.deny
        if self.ask:
            self.teller.say(params.message)
            said = await asyncio.to_thread(typer.confirm, "  Approve?", default=False)
        word = "yes" if said else "no"
        self.teller.question(params.message, word)
        self.questions.append((params.message, word))
        note = "answered by the demo" if not self.ask else ""
        return types.ElicitResult(action="accept", content={"approve": said, "note": note})


def _text(answer: CallToolResult) -> str:
    return "\n".join(getattr(part, "text", "") for part in answer.content)


def _call_text(tool: str, arguments: dict[str, Any]) -> str:
    return f"{tool}({', '.join(f'{k}={v}' for k, v in arguments.items())})"
