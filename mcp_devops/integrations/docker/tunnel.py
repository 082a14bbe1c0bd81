"""An engine behind ssh: each connection to a private local socket is one `ssh` of its own.

On the other side runs `docker system dial-stdio`, which joins its input and output to the
engine's socket; the keys, hosts and jump hosts are those of the user's own ssh.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from mcp_devops.errors import UPSTREAM_TEXT_LIMIT, NotConfigured
from mcp_devops.integrations.docker.hosts import SOURCE, Endpoint

CHUNK = 64 * 1024


class Tunnel:
    """A local unix socket that leads to one engine.

    Attributes:
        complaint: The end of what ssh last wrote to its error stream: data, for messages.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.complaint = ""
        self._command = command(endpoint)
        self._folder: Path | None = None
        self._server: asyncio.AbstractServer | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        """Listen on the local socket, which only this user can open.

        Returns:
            Its path.

        Raises:
            NotConfigured: There is no ssh program.
        """
        if shutil.which(self._command[0]) is None:
            raise NotConfigured(
                "The engine is behind ssh, and no ssh program is on the PATH.",
                fix="Install OpenSSH's client, or use tcp:// with TLS.",
                source=SOURCE,
            )
        self._folder = Path(tempfile.mkdtemp(prefix="engine-"))
        path = str(self._folder / "s")
        self._server = await asyncio.start_unix_server(self._accept, path)
        return path

    async def close(self) -> None:
        """End all connections and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._join(reader, writer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = asyncio.subprocess.PIPE
        ssh = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, stderr=pipe
        )
        assert ssh.stdin and ssh.stdout and ssh.stderr  # noqa: S101 - pipes were asked for
        there = asyncio.create_task(_copy(reader, ssh.stdin))
        noise = asyncio.create_task(ssh.stderr.read(CHUNK))
        try:
            await _copy(ssh.stdout, writer)
            self.complaint = (await noise).decode("utf-8", "replace")[-UPSTREAM_TEXT_LIMIT:]
        finally:
            there.cancel()
            noise.cancel()
            writer.close()
            if ssh.returncode is None:
                ssh.kill()
            await ssh.wait()
            await asyncio.gather(there, noise, return_exceptions=True)


def command(endpoint: Endpoint) -> tuple[str, ...]:
    """The argument list: no password prompt, no terminal, the host behind `--`."""
    parts = urlsplit(endpoint.url)
    user = ("-l", parts.username) if parts.username else ()
    port = ("-p", str(parts.port)) if parts.port else ()
    options = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-T")
    dial = ("docker", "system", "dial-stdio")
    return ("ssh", *options, *user, *port, "--", parts.hostname or "", *dial)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while chunk := await source.read(CHUNK):
            sink.write(chunk)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()
    except (ConnectionError, BrokenPipeError):
        return
