"""Tells a played incident to a person: stages with their seconds, tables, weights as bars."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from mcp_devops.incidents.decide import Decision
from mcp_devops.incidents.investigate import Investigation
from mcp_devops.incidents.records import IncidentAnswer
from mcp_devops.incidents.roll_back import RollBackResult
from mcp_devops.model.arms import ArmSummary
from mcp_devops.model.change import TemplateDifference
from mcp_devops.model.evidence import Arm, RevisionPods
from mcp_devops.model.verdict import Action, Finding
from mcp_devops.scenarios.recorded import About
from mcp_devops.text.people import duration, percent

WIDTH = 100
BAR = 12
"""Cells of the longest bar."""
SHOWN = 6
"""Differences of the template that are shown."""
ARMS = {
    Arm.BASELINE: "before",
    Arm.AFTER: "after, all pods",
    Arm.CONTROL: "after, old revision",
    Arm.NEW: "after, new revision",
}
ACTIONS = {
    Action.ROLL_BACK: ("ROLL BACK", "bold red"),
    Action.FIX_FORWARD: ("FIX FORWARD", "bold yellow"),
    Action.HOLD: ("HOLD FOR REVIEW", "bold yellow"),
    Action.NONE: ("NO ACTION", "bold green"),
}


def console_for_people() -> Console:
    """A console on stdout, not wider than reads well."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Bars are no ASCII; a terminal without them shows question marks instead of failing.
        sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False)
    if console.width > WIDTH:
        console.width = WIDTH
    return console


class Teller:
    """Writes the stages of one played incident."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def stage(self, title: str, second: float, call: str = "") -> None:
        """Begin a stage: its name, the machine's seconds since the start, the call behind it."""
        right = f" [dim]{second:.1f} s[/]"
        self.console.print()
        self.console.print(Rule(f"[bold]{escape(title)}[/]{right}", align="left", style="dim"))
        if call:
            self.say(f"[cyan]>[/] [dim]{escape(call)}[/]")

    def say(self, what: RenderableType) -> None:
        """Write something, indented."""
        self.console.print(Padding(what, (0, 0, 0, 2)))

    def opening(self, name: str, about: About) -> None:
        """The story."""
        self.console.print(
            Panel(
                f"{escape(about.story)}\n[dim]Recorded on a real cluster, replayed on loopback to"
                " a real server process; a real MCP client stands in for the agent.[/]",
                title=f"[bold]{escape(name)}[/]: {escape(about.title)}",
                title_align="left",
            )
        )

    def signals(self, found: Investigation) -> None:
        """What was collected."""
        self.say(escape(found.headline))
        self.console.print()
        if found.arms:
            self.say(_arms(found.arms))
        if found.rollout:
            pods = [("new", found.rollout.new), ("old", found.rollout.old)]
            self.say(_pods([(which, p) for which, p in pods if p is not None]))
        self._differences(found.differences)
        for event in found.scaling:
            self.say(f"[yellow]capacity:[/] {escape(event.what)}")
        for line in found.surroundings.lines() if found.surroundings else ():
            self.say(f"[yellow]found:[/] {escape(line.strip())}")
        if found.sick_neighbours:
            names = ", ".join(
                f"{n.service} ({percent(n.baseline_error_rate)} -> {percent(n.after_error_rate)})"
                for n in found.sick_neighbours
            )
            self.say(f"[red]also sick:[/] {escape(names)}")
        elif found.neighbours_seen:
            self.say(f"[dim]{found.neighbours_seen} neighbours looked at, none is sick[/]")
        for gap in found.missing:
            self.say(f"[yellow]missing:[/] {escape(f'{gap.source} {gap.what}: {gap.why}')}")

    def _differences(self, differences: Sequence[TemplateDifference]) -> None:
        for change in differences[:SHOWN]:
            line = Text("changed ", style="dim")
            line.append(change.path.replace("containers", "", 1), style="default")
            line.append(f"  {change.before or '(none)'}", style="red")
            line.append(" -> ", style="dim")
            line.append(change.after or "(none)", style="green")
            line.truncate(self.console.width - 3, overflow="ellipsis")
            self.say(line)

    def log(self, line: str | None) -> None:
        """The line of the logs that tells most."""
        if line:
            self.say(Text.assemble(("log line (data, no weight): ", "dim"), (line, "italic")))

    def verdict(self, decision: Decision) -> None:
        """Action, confidence, and the weights behind them."""
        word, style = ACTIONS[decision.action]
        share = round(decision.confidence * 20)
        cause = decision.cause.value.replace("_", " ")
        self.say(
            f"[{style}]{word}[/]   the deployment did it: [bold]{percent(decision.confidence)}[/] "
            f"[red]{'█' * share}[/][dim]{'░' * (20 - share)}[/]   cause: {cause}"
        )
        self.say(escape(decision.headline))
        self.console.print()
        self.say(_weights([f for f in decision.findings if f.counted]))
        for veto in decision.vetoes:
            self.say(f"[yellow]veto {escape(veto.code)}:[/] {escape(veto.says)}")
        self.say(f"[dim]other explanation:[/] {escape(decision.runner_up)}")
        if decision.ask_next:
            self.say(f"[dim]to part the two:[/] {escape(decision.ask_next)}")

    def question(self, text: str, answer: str) -> None:
        """What the person was asked, and what they said."""
        style = "green" if answer == "yes" else "red"
        asked = Group(Text(text), Text(f"The person says: {answer}", style=f"bold {style}"))
        self.say(Panel(asked, title="asked through the client", title_align="left"))

    def outcome(self, result: RollBackResult) -> None:
        """Whether it helped."""
        good = result.status == "recovered"
        seen = result.verification
        word = result.status.upper().replace("_", " ")
        self.say(f"[bold {'green' if good else 'red'}]{word}[/]   {escape(seen.says)}")
        table = Table(box=None, pad_edge=False, show_header=False)
        live = f", now revision {result.live_revision}" if result.live_revision else ""
        table.add_row("template", f"revision {result.from_revision} -> template of"
                      f" {result.to_revision}{live}, read back:"
                      f" {'restored' if result.template_restored else 'NOT restored'}")  # fmt: skip
        table.add_row("pods", escape(seen.pods))
        if seen.error_rate_before is not None:
            after = "not seen" if seen.error_rate_after is None else percent(seen.error_rate_after)
            table.add_row("errors", f"{percent(seen.error_rate_before)} -> {after}")
        table.add_row("approved by", escape(result.approved_by))
        self.say(table)

    def refusal(self, text: str) -> None:
        """An error that the server gave, as the agent reads it."""
        self.say(Panel(Text(text), title="the server answers", title_align="left", style="yellow"))

    def timeline(self, answer: IncidentAnswer) -> None:
        """The incident as the server keeps it."""
        incident = answer.incident
        table = Table(box=None, pad_edge=False, show_header=False)
        for entry in incident.timeline:
            after = (entry.at - incident.opened_at).total_seconds()
            table.add_row(
                f"[dim]+{duration(max(0.0, after)) if after >= 1 else '0 s'}[/]",
                escape(_short(entry.what)),
            )
        self.say(table)

    def journal(self, entries: int, said: str, head: str, whole: bool) -> None:
        """What `audit verify` found."""
        self.say(f"{entries} entries about this incident, each with the hash of the one before")
        mark = "[bold green]whole[/]" if whole else "[bold red]BROKEN[/]"
        self.say(f"{mark}   {escape(said)}")
        self.say(f"[dim]head {escape(head)}[/]")

    def closing(
        self, name: str, about: About, good: bool, seconds: float, others: Sequence[str]
    ) -> None:
        """How it went, and what to try next."""
        word = "[bold green]as expected[/]" if good else "[bold red]NOT as expected[/]"
        self.console.print()
        self.console.print(Rule(style="dim"))
        self.say(f"{escape(name)}: {word}, {seconds:.1f} s")
        if not others:
            return
        table = Table(box=None, pad_edge=False, show_header=False)
        for other in others:
            table.add_row(f"mcp-devops demo --scenario {other}", "another incident")
        if about.expect.action == Action.ROLL_BACK.value:
            table.add_row(f"mcp-devops demo --scenario {name} --deny", "the person says no")
            table.add_row(f"mcp-devops demo --scenario {name} --ask", "you are the person")
        table.add_row(
            f"claude mcp add incident -- mcp-devops serve --scenario {name}",
            "Claude Code is the agent",
        )
        self.say(Group(Text("Try next", style="bold"), table))


def _arms(arms: Sequence[ArmSummary]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("requests")
    table.add_column("counted", justify="right")
    table.add_column("failed", justify="right")
    table.add_column("")
    table.add_column("p99", justify="right")
    by_arm = {a.arm: a for a in arms}
    worst = max((a.error_rate or 0.0 for a in arms), default=0.0)
    for arm, label in ARMS.items():
        found = by_arm.get(arm)
        if found is None:
            continue
        rate = found.error_rate
        cells = round(BAR * rate / worst) if rate and worst else 0
        p99 = "no data" if found.p99_ms is None else f"{found.p99_ms:.0f} ms"
        counted = "none" if found.requests is None else f"{found.requests:.0f}"
        failed = "no data" if rate is None else percent(rate)
        table.add_row(label, counted, failed, Text("█" * cells, style="red"), p99)
    return table


def _pods(revisions: Sequence[tuple[str, RevisionPods]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for which, pods in revisions:
        # A failing pod may be ready between two crashes; it is shown once.
        ready = max(0, min(pods.ready, pods.pods - pods.failing))
        waiting = max(0, pods.pods - ready - pods.failing)
        dots = Text.assemble(
            ("● " * ready, "green"), ("● " * pods.failing, "red"), ("○ " * waiting, "yellow")
        )
        why = "" if not pods.failing else f", {pods.cause.value.replace('_', ' ')}"
        again = f", {pods.restarts} restarts" if pods.restarts else ""
        name = f"pods of the {which} revision"
        table.add_row(name, dots, f"{pods.ready} of {pods.pods} ready{why}{again}")
    return table


def _weights(findings: Sequence[Finding]) -> Table:
    """Signed weights as bars around a middle line: right blames the deployment."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("weight", justify="right", no_wrap=True)
    table.add_column("acquits", justify="right", no_wrap=True)
    table.add_column("blames", no_wrap=True)
    table.add_column("evidence")
    for finding in findings:
        cells = round(abs(finding.weight) / 4.5 * 8)
        left = Text("█" * cells if finding.weight < 0 else "", style="green")
        right = Text("█" * cells if finding.weight > 0 else "", style="red")
        table.add_row(
            f"{finding.weight:+.1f}", left, right, f"[bold]{finding.group}[/] "
            + escape(finding.says)
        )  # fmt: skip
    return table


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:157]}..."


def listed(console: Console, scenarios: Sequence[tuple[str, About]]) -> None:
    """The scenarios that can be played."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("scenario", "what happens", "the right answer"):
        table.add_column(column, no_wrap=column == "scenario")
    for name, about in scenarios:
        right = about.expect.action.replace("_", " ")
        table.add_row(f"[bold]{escape(name)}[/]", escape(about.title), right)
    console.print(table)
