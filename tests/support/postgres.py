"""A real PostgreSQL server of the tests' own: on loopback, in a temporary directory."""

from __future__ import annotations

import glob
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from threading import Event, Thread
from typing import IO, Self
from urllib.parse import quote

import psycopg
import pytest

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")
MISSING = "no PostgreSQL binaries (initdb, postgres): apt-get install postgresql"
PASSWORD = "s3same:op@n/it%up"
"""The application's: with every character that a URL has a use for."""

START_S = 30.0


def binaries() -> Path | None:
    """The folder with `initdb` and `postgres` of the newest version, if there is one."""
    found = [Path(p) for place in PLACES for p in glob.glob(place)]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    whole = [p for p in found if (p / "initdb").exists() and (p / "postgres").exists()]
    return max(whole, key=str, default=None)


class PostgresServer:
    """One server; can be stopped, killed and started again on the same port."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self.port = _free_port()
        # initdb and postgres refuse to run as root.
        self._user = "nobody" if os.geteuid() == 0 else None

    def create(self) -> None:
        """Make the cluster and the application's role."""
        if self._user:
            shutil.chown(self.folder, self._user)
        secret = self.folder / "password"
        secret.write_text("superuser\n", encoding="utf-8")
        if self._user:
            shutil.chown(secret, self._user)
        made = self._run(
            "initdb",
            *("-D", str(self.folder / "data"), "-U", "postgres", "-E", "UTF8", "--no-sync"),
            *("--locale=C.UTF-8", "-A", "scram-sha-256", "--pwfile", str(secret)),
        )
        output, _ = made.communicate(timeout=60)
        assert made.returncode == 0, output.decode()
        self.start()
        self.admin(f"CREATE ROLE keeper LOGIN PASSWORD '{PASSWORD}'")

    def start(self) -> None:
        """Start it, if it is not running, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        log = self.folder / "log"
        options = {
            "port": str(self.port), "listen_addresses": "127.0.0.1", "fsync": "off",
            "unix_socket_directories": str(self.folder), "shared_buffers": "16MB",
            "max_connections": "80", "restart_after_crash": "on",
        }  # fmt: skip
        pause = Event()
        tries = int(START_S / 0.1)
        self._process = self._serve(options, log)
        for attempt in range(tries):
            if self._process.poll() is not None:
                # Backends of a killed one hold its shared memory for a moment.
                self._process = self._serve(options, log)
            try:
                self.admin("SELECT 1")
                return
            except psycopg.OperationalError:
                assert attempt < tries - 1, log.read_text(encoding="utf-8")[-2000:]
                pause.wait(0.1)

    def _serve(self, options: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with log.open("ab") as sink:
            return self._run("postgres", "-D", str(self.folder / "data"), *arguments, sink=sink)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends sessions in order, SIGKILL is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=START_S)
            self._process = None

    def admin(self, *statements: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run statements as the superuser; rows of the last one."""
        with psycopg.connect(self.admin_url(database), autocommit=True) as connection:
            rows: list[tuple[object, ...]] = []
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
            return rows

    def admin_url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres:superuser@127.0.0.1:{self.port}/{database}?connect_timeout=5"

    def url(self, database: str, *, user: str = "keeper", password: str = PASSWORD) -> str:
        secret = quote(password, safe="")
        return f"postgresql://{user}:{secret}@127.0.0.1:{self.port}/{database}"

    def make_database(self) -> str:
        """The name of a new, empty database that the application owns."""
        name = f"state{next(self._numbers)}"
        self.admin(f"CREATE DATABASE {name} OWNER keeper")
        return name

    def _run(
        self, program: str, *arguments: str, sink: IO[bytes] | None = None
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(self._programs / program), *arguments],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "LC_ALL": "C.UTF-8"},
            user=self._user,
            group="nogroup" if self._user else None,
            extra_groups=[] if self._user else None,
            stdin=subprocess.DEVNULL,
            stdout=sink or subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


class Moment(StrEnum):
    """When a proxy cuts."""

    BEFORE_COMMIT = "before"
    """The server never hears of the commit."""
    AFTER_COMMIT = "after"
    """The server commits, and its answer is lost."""
    SILENCE = "silence"
    """The commit is swallowed and nobody says anything any more."""


class Proxy:
    """Stands between client and server, and fails at the one moment that counts: the commit."""

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._moment: Moment | None = None
        self._stay_down = False
        self.down = False
        self.cuts = 0

    def __enter__(self) -> Self:
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def before(self, url: str) -> str:
        """The URL of a server, by way of this proxy."""
        return url.replace(str(self._server[1]), str(self._listener.getsockname()[1]))

    def cut_at(self, moment: Moment, *, stay_down: bool = False) -> None:
        """Cut once, at the next commit; then let nobody in if it is to stay down."""
        self._moment, self._stay_down = moment, stay_down

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.down:
                client.close()
                continue
            server = socket.create_connection(self._server)
            Thread(target=self._pump, args=(server, client), daemon=True).start()
            Thread(target=self._up, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            while data := _received(client):
                if self._moment is not None and b"COMMIT\0" in data:
                    moment, self._moment = self._moment, None
                    self.cuts += 1
                    self.down = self._stay_down
                    if moment is Moment.SILENCE:
                        continue
                    if moment is Moment.AFTER_COMMIT:
                        client.shutdown(socket.SHUT_RDWR)
                        server.sendall(data)
                        server.settimeout(5)
                        _received(server)
                    for one in (client, server):
                        with suppress(OSError):
                            one.shutdown(socket.SHUT_RDWR)
                    return
                server.sendall(data)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        while data := _received(source):
            try:
                sink.sendall(data)
            except OSError:
                break
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(65_536)
    except OSError:
        return b""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server, shared by the tests of one process."""
    programs = binaries()
    if programs is None:
        pytest.skip(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="mcp-devops-pg-"))
    folder.chmod(0o711)
    server = PostgresServer(folder, programs)
    try:
        server.create()
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of an empty database of this test alone."""
    postgres.start()
    name = postgres.make_database()
    yield postgres.url(name)
    postgres.start()
    postgres.admin(f"DROP DATABASE {name} WITH (FORCE)")
