"""What all benchmarks share: a row of results, interleaved repetitions, processes over pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.support.process import command, environment

ERAS = ("2025-11-25", "2026-07-28")
"""The two openings of the protocol: a handshake, and none."""
BARE = Path(__file__).with_name("bare_server.py")
BYTES_A_TOKEN = 4
"""Rough size of a token; peers.md estimates the same way to within a fifth."""


@dataclass(frozen=True)
class Row:
    """One comparison. Below 1, the ratio favours us."""

    benchmark: str
    what: str
    ours: float
    other: float
    other_name: str
    unit: str
    budget: float | None = None
    """Highest ratio that passes; None: told, not judged."""
    note: str = ""

    @property
    def ratio(self) -> float:
        """Ours over the other's."""
        return self.ours / self.other if self.other else float("nan")

    @property
    def verdict(self) -> str:
        """PASS or over, where there is a budget."""
        if self.budget is None:
            return ""
        return "PASS" if self.ratio <= self.budget else "over"

    def data(self) -> dict[str, Any]:
        """For the results file."""
        ratio = round(self.ratio, 4) if self.other else None
        return {**asdict(self), "ratio": ratio, "verdict": self.verdict}


@dataclass(frozen=True)
class Skipped:
    """A benchmark that could not run here."""

    benchmark: str
    why: str


Result = Row | Skipped


def interleaved(
    ways: Mapping[str, Callable[[], float]], repetitions: int
) -> dict[str, list[float]]:
    """Run every way once a round, so that a busy minute of the machine hits all of them."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repetitions):
        names = sorted(ways, reverse=turn % 2 == 1)
        for name in names:
            found[name].append(ways[name]())
    return found


def medians(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: median(values) for name, values in found.items()}


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """A way that takes the seconds of one run."""

    def run() -> float:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    return run


@contextmanager
def scratch() -> Iterator[Path]:
    """A state directory that goes away."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        yield Path(folder)


class Peer:
    """A server process spoken to with raw JSON-RPC lines: no client's cost is in the numbers."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], era: str = ERAS[0]) -> None:
        self.begun = time.perf_counter()
        self.era = era
        self._next = 0
        self.process = subprocess.Popen(
            list(argv),
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def open(self) -> None:
        """The handshake, where the era has one."""
        if self.era == ERAS[0]:
            client = {"name": "benchmark", "version": "1"}
            self.ask(
                "initialize",
                {"protocolVersion": self.era, "capabilities": {}, "clientInfo": client},
            )
            self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def ask(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and read lines until its answer."""
        self._next += 1
        sent = dict(params or {})
        if self.era != ERAS[0]:
            sent["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": self.era,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
            }
        self._write({"jsonrpc": "2.0", "id": self._next, "method": method, "params": sent})
        while True:
            line = self._read()
            if line.get("id") == self._next:
                if "error" in line:
                    raise RuntimeError(f"{method}: {line['error']}")
                result: dict[str, Any] = line["result"]
                return result

    def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call a tool; an answer that is an error ends the benchmark."""
        result = self.ask("tools/call", {"name": tool, "arguments": dict(arguments)})
        if result.get("isError"):
            raise RuntimeError(f"{tool}: {result['content']}")
        return result

    def resident_mb(self) -> float:
        """Resident memory of the process now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        kilobytes = next(ln for ln in status.splitlines() if ln.startswith("VmRSS")).split()[1]
        return int(kilobytes) / 1024

    def cpu_s(self) -> float:
        """Processor seconds that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        used = fields.rpartition(")")[2].split()
        return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _write(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended with code {self.process.wait()}")
        message: dict[str, Any] = json.loads(line)
        return message


@contextmanager
def spoken(argv: Sequence[str], env: Mapping[str, str], era: str = ERAS[0]) -> Iterator[Peer]:
    """A process with its handshake done."""
    peer = Peer(argv, env, era)
    try:
        peer.open()
        yield peer
    finally:
        peer.close()


def bare(state_dir: Path) -> tuple[list[str], dict[str, str]]:
    """How the bare server is started."""
    return [sys.executable, str(BARE)], _quiet(environment(state_dir))


def ours(state_dir: Path, *arguments: str, **more: str) -> tuple[list[str], dict[str, str]]:
    """How our server is started."""
    return command(*arguments, state_dir=state_dir), _quiet(environment(state_dir, **more))


def _quiet(variables: dict[str, str]) -> dict[str, str]:
    """As a user runs it: no warnings-are-errors, and byte code is kept after the first start."""
    without = ("PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE")
    return {k: v for k, v in variables.items() if k not in without}


def wire_bytes(result: Mapping[str, Any]) -> int:
    """Bytes of a result as it goes over the wire."""
    return len(json.dumps(result, separators=(",", ":"), ensure_ascii=False).encode())
