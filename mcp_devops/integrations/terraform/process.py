"""Runs one program to its end or to the deadline, and leaves no process behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, NamedTuple

import anyio

from mcp_devops.errors import NotConfigured, Unsupported, UpstreamTimeout

if TYPE_CHECKING:
    from anyio.abc import ByteReceiveStream, Process

SOURCE = "terraform"
MAX_OUTPUT_BYTES = 64 * 1024 * 1024
"""Bytes of one stream: a state of ten thousand resources has about 30 MB (estimate)."""


class Output(NamedTuple):
    """How a run ended."""

    code: int
    """Exit code; negative: the signal that ended it."""
    out: bytes
    """Standard output."""
    err: bytes
    """Standard error."""


async def run(
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    *,
    deadline_s: float,
    grace_s: float,
) -> Output:
    """Run a program without a shell, without input, in a process group of its own.

    At the deadline, and when the caller is cancelled, the program is interrupted so that it can
    release a lock, interrupted again, and then killed with its whole group.

    Raises:
        NotConfigured: The program cannot be started.
        UpstreamTimeout: The deadline passed.
        Unsupported: It wrote more than `MAX_OUTPUT_BYTES`.
    """
    try:
        process = await anyio.open_process(
            list(argv),
            cwd=cwd,
            env=env,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            umask=0o077,
        )
    except OSError as problem:
        raise NotConfigured(
            f"{Path(argv[0]).name} cannot be started ({type(problem).__name__}).",
            fix="Install it, or set MCP_DEVOPS_TERRAFORM__BINARY.",
            source=SOURCE,
        ) from problem
    streams: dict[str, bytes] = {}
    ended = False
    try:
        with anyio.move_on_after(deadline_s):
            async with anyio.create_task_group() as group:
                group.start_soon(_read, process.stdout, streams, "out")
                group.start_soon(_read, process.stderr, streams, "err")
            await process.wait()
            ended = True
    finally:
        with anyio.CancelScope(shield=True):
            if not ended or (process.returncode or 0) < 0:  # a killed program leaves its children
                await stop(process, grace_s)
            await process.aclose()
    if not ended:
        raise UpstreamTimeout(
            f"{Path(argv[0]).name} {argv[1]} did not end in time ({deadline_s:.0f} s); stopped.",
            fix="Raise MCP_DEVOPS_TERRAFORM__DEADLINE_S, or ask for a smaller directory.",
            source=SOURCE,
        )
    if any(len(content) > MAX_OUTPUT_BYTES for content in streams.values()):
        raise Unsupported(
            f"{Path(argv[0]).name} {argv[1]} wrote more than {MAX_OUTPUT_BYTES >> 20} MB.",
            fix="Split the configuration into smaller states.",
            source=SOURCE,
        )
    return Output(process.returncode or 0, streams["out"], streams["err"])


async def _read(stream: ByteReceiveStream | None, into: dict[str, bytes], name: str) -> None:
    """Read to the end; past the limit only drain, so that the program does not block."""
    assert stream is not None  # noqa: S101 - both are pipes
    parts: list[bytes] = []
    size = 0
    async for part in stream:
        if size <= MAX_OUTPUT_BYTES:
            parts.append(part)
            size += len(part)
    into[name] = b"".join(parts)


async def stop(process: Process, grace_s: float) -> None:
    """Interrupt the program, interrupt it again, then kill its group.

    Only the program is interrupted: it ends its providers itself and releases the lock. What is
    left of the group afterwards is killed.
    """
    try:
        for _ in range(2):
            if process.returncode is not None:
                break
            process.send_signal(signal.SIGINT)
            with anyio.move_on_after(grace_s):
                await process.wait()
    finally:
        # Also where a second cancellation ends the patience.
        with suppress(ProcessLookupError, PermissionError):  # nobody left; macOS says the other
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
