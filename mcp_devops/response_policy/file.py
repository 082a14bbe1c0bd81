"""Keeps the policy file's last valid version in force, and reads it anew when it changes."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from pathlib import Path

from mcp_devops.decision.policy import Policy
from mcp_devops.errors import NotConfigured
from mcp_devops.model.record import Moment, Record
from mcp_devops.model.target import Workload
from mcp_devops.response_policy.parsing import MAX_BYTES, Rejected, parse_policy
from mcp_devops.response_policy.policy import ResponsePolicy
from mcp_devops.toolkit.clock import Clock

log = logging.getLogger(__name__)

CHECK_S = 1.0
"""Seconds between two looks at the file, at the most often."""

SETTLES_S = 5.0
"""Seconds after a change in which the content is read at each look: two writes within one tick of
the file system's clock look the same from outside."""


class PolicyProblem(Record):
    """Why the newest version of the file is not in force."""

    at: Moment
    """When it was seen."""
    file: str
    """The file."""
    version: str
    """First 12 hex digits of the refused content's SHA-256; empty: it could not be read."""
    in_force: str
    """Version that stays in force."""
    says: tuple[str, ...]
    """What is wrong, with `file:line:column`."""

    @property
    def headline(self) -> str:
        """One sentence for a page."""
        more = f" (and {len(self.says) - 1} more)" if len(self.says) > 1 else ""
        return f"The response policy {self.in_force} stays in force: {self.says[0]}{more}"


class PolicyFile:
    """The policy in force. A look costs one `stat`; a change, one small read.

    Atomic replacement and a ConfigMap's swapped symbolic link are seen as the new file that they
    bring. A version that is not valid, or a file that is gone, changes nothing but `problem`.

    Args:
        path: The file; None: what is built in, for good.
        clock: Tells when to look again.
        base: The server's decision policy.
    """

    def __init__(self, path: Path | None, clock: Clock, base: Policy | None = None) -> None:
        self._path = path
        self._clock = clock
        self._base = base or Policy()
        self._policy = ResponsePolicy.built_in(self._base)
        self._problem: PolicyProblem | None = None
        self._signature: tuple[int, ...] | None = None
        self._digest = ""
        self._changed = self._looked = float("-inf")

    @property
    def current(self) -> ResponsePolicy:
        """The newest valid version; before there was one, what is built in."""
        self._look()
        return self._policy

    @property
    def problem(self) -> PolicyProblem | None:
        """Why the file as it is now is not in force; None: it is.

        The same value until the file changes, so that it can be told once.
        """
        self._look()
        return self._problem

    def judging(self, target: Workload) -> Policy:
        """The decision policy by which a workload is judged now: a team may set its own limits."""
        return self.current.explain(target).judging

    def require(self) -> ResponsePolicy:
        """The policy, for a start that must not begin with a broken one.

        Raises:
            NotConfigured: The file cannot be read or is not valid; with all lines.
        """
        policy, problem = self.current, self._problem
        if problem is not None:
            raise NotConfigured(
                "The response policy is not valid:\n" + "\n".join(problem.says),
                fix=f"Correct the file and try `mcp-devops policy check {problem.file}`.",
                problems=list(problem.says),
            )
        return policy

    def _look(self) -> None:
        now = self._clock.monotonic()
        if self._path is None or now - self._looked < CHECK_S:
            return
        self._looked = now
        try:
            signature = _signature(os.stat(self._path))
            if signature == self._signature and now - self._changed > SETTLES_S:
                return
            if signature != self._signature:
                self._changed = now
            content, self._signature = _read(self._path)
        except OSError as problem:
            self._signature = None
            why = problem.strerror or type(problem).__name__
            self._refuse("", (f"{self._path}:1:1: The file cannot be read: {why}.",))
            return
        self._take(content)

    def _take(self, content: bytes) -> None:
        digest = hashlib.sha256(content).hexdigest()
        if digest == self._digest:
            return
        self._digest = digest
        parsed = parse_policy(content, str(self._path), self._base)
        if isinstance(parsed, Rejected):
            self._refuse(digest[:12], parsed.problems)
        else:
            log.info("response policy %s is in force: %s", parsed.version, self._path)
            self._policy, self._problem = parsed, None

    def _refuse(self, version: str, says: tuple[str, ...]) -> None:
        if not version:
            self._digest = ""
        known = self._problem
        if known is None or (known.version, known.says) != (version, says):
            self._problem = PolicyProblem(
                at=self._clock.now(),
                file=str(self._path),
                version=version,
                in_force=self._policy.version,
                says=says,
            )
            log.warning("%s", self._problem.headline)


def read_file(path: Path) -> bytes:
    """A file's content, one byte over the limit at most.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    return _read(path)[0]


def _signature(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _read(path: Path) -> tuple[bytes, tuple[int, ...]]:
    """Content, one byte over the limit at most, and signature of one and the same file."""
    # Not to wait for the other end, should the path name a pipe.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "it is not a regular file")
        return file.read(MAX_BYTES + 1), _signature(found)
