"""What an investigation is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from mcp_devops.model.target import Workload
from mcp_devops.toolkit.comparing import WindowOverrides


@dataclass
class Question:
    """What to collect, and how.

    Attributes:
        target: The workload.
        service: Its name in metric labels.
        windows: What differs from each source's own windows.
        deployed_at: Overrides when the change began.
        deadline_s: Seconds that all sources together may take.
        bad: Template hashes that were judged bad before: nothing to return to.
    """

    target: Workload
    service: str
    windows: WindowOverrides = field(default_factory=WindowOverrides)
    deployed_at: datetime | None = None
    deadline_s: float = 20.0
    bad: tuple[str, ...] = ()
