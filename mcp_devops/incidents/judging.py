"""Which decision policy holds for a workload: a team may judge its own by other thresholds."""

from __future__ import annotations

from collections.abc import Callable

from mcp_devops.decision.policy import Policy
from mcp_devops.model.target import Workload


class Judging:
    """The decision policies of one running program."""

    def __init__(self, base: Policy) -> None:
        """Judge everything by the server's policy, until another way is named.

        Args:
            base: The server's decision policy.
        """
        self._of: Callable[[Workload], Policy] = lambda _: base

    def of(self, target: Workload) -> Policy:
        """The policy by which this workload is judged."""
        return self._of(target)

    def follow(self, of: Callable[[Workload], Policy]) -> None:
        """Judge by what this says from now on; it is asked anew for each verdict."""
        self._of = of
