from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings
from typer.testing import CliRunner, Result

from mcp_devops.cli.main import app
from mcp_devops.gateway.approvals import Approval, ApprovalDesk
from mcp_devops.journal.database import Database, open_database
from mcp_devops.journal.journal import Journal
from mcp_devops.model.action import ActionPlan
from mcp_devops.model.change import ChangeArea, TemplateDifference
from mcp_devops.model.target import Workload
from mcp_devops.text.secrets import Redactor
from mcp_devops.toolkit.clock import ShiftedClock, SystemClock
from tests.support.process import UNREACHABLE

# A slow machine is no failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

T = TypeVar("T")


class Terminal:
    """A person's terminal: the real commands, over a state directory of its own."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir

    def run(self, *arguments: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=typed)

    def here(self, *arguments: str, typed: str | None = None) -> Result:
        return self.run(*arguments, "--state-dir", str(self.state_dir), typed=typed)

    def within(self, work: Callable[[Database, Journal, ApprovalDesk], Awaitable[T]]) -> T:
        """Do something in the state file as a server would."""

        async def inside() -> T:
            clock = SystemClock()
            async with open_database(self.state_dir / "state.db") as database:
                journal = Journal(database, Redactor(()), clock.now)
                return await work(database, journal, ApprovalDesk(database, journal, clock, 600))

        return asyncio.run(inside())

    def asked(self, workload: str = "cart", ago_s: float = 0, **more: object) -> Approval:
        """An approval that a server asked for, some time ago."""

        async def ask(database: Database, journal: Journal, desk: ApprovalDesk) -> Approval:
            clock = ShiftedClock(datetime.now(UTC) - timedelta(seconds=ago_s))
            asker = ApprovalDesk(database, journal, clock, 600)
            return await asker.request(plan(workload).model_copy(update=more), "agent (stdio)")

        return self.within(ask)

    def answered(self, approval_id: str) -> Approval:
        """The approval as it stands now."""
        return self.within(lambda database, journal, desk: desk.get(approval_id))


def plan(workload: str) -> ActionPlan:
    return ActionPlan(
        tool="kubernetes_roll_back",
        target=Workload(namespace="shop", name=workload),
        uid="uid-1",
        from_revision=8,
        to_revision=7,
        summary=f"Roll {workload} back from 8 to 7",
        reason="errors 0.1 % -> 12 % [since 03:00]",
        differences=(
            TemplateDifference(area=ChangeArea.IMAGE, path="image", before="v7", after="v8"),
        ),
        confidence=0.93,
        incident_id="inc-1",
    )


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal in an empty directory, wide enough that no line is folded."""
    for variable in [v for v in os.environ if v.startswith("MCP_DEVOPS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.delenv("PROMETHEUS_URL", raising=False)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(UNREACHABLE, encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    return Terminal(tmp_path / "state")
