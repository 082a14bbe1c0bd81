"""Processes with an end: servers that say when they are ready, clients that are waited for."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCENARIO = "error-spike"
TOKEN = "client-test-token-" + "a1B2c3D4" * 3
START_S = 90
STOP_S = 20
CLIENT_S = 120


@dataclass(frozen=True)
class Done:
    """A client's run."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out[-6000:]}\n{self.err[-3000:]}"


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    cwd: Path | None = None,
    seconds: float = CLIENT_S,
) -> Done:
    """Run a client to its end; past the deadline it is ended with the children it started.

    Raises:
        AssertionError: It did not end in time.
    """
    with subprocess.Popen(
        [str(part) for part in command],
        env=dict(environment),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            _end_group(process)
            out, err = process.communicate()
            done = Done(process.returncode, out, err)
            raise AssertionError(f"did not end within {seconds} s: {done}") from None
    return Done(process.returncode, out, err)


@contextmanager
def serving(
    command: Sequence[str], environment: Mapping[str, str], cwd: Path, ready: re.Pattern[str]
) -> Iterator[str]:
    """Run a server until the end of the block; gives the first group of its line of readiness."""
    with subprocess.Popen(
        command,
        env=dict(environment),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        lines: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
        reader.start()
        try:
            yield _address(lines, ready)
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                _end_group(process)
            reader.join(STOP_S)


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def _address(lines: queue.Queue[str | None], ready: re.Pattern[str]) -> str:
    seen: list[str] = []
    until = time.monotonic() + START_S
    while True:
        try:
            line = lines.get(timeout=max(until - time.monotonic(), 0))
        except queue.Empty:
            raise AssertionError(f"not ready within {START_S} s: {''.join(seen)}") from None
        assert line is not None, f"the server ended: {''.join(seen)}"
        seen.append(line)
        if found := ready.search(line):
            return found[1]


def _end_group(process: subprocess.Popen[str]) -> None:
    """End a process that this module started, and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def client_environment(home: Path) -> dict[str, str]:
    """What a client is started with: a home of its own, none of this program's settings, no key."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("MCP_", "CLAUDE", "ANTHROPIC_", "INCIDENT_", "npm_", "NODE_"))
        and k not in ("KUBECONFIG", "PROMETHEUS_URL", "XDG_CONFIG_HOME", "XDG_STATE_HOME")
    }
    return {**kept, "HOME": str(home), "NO_PROXY": "127.0.0.1,localhost"}
