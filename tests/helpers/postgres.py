"""A real PostgreSQL server of the tests' own, run by an unprivileged user on 127.0.0.1."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from swarm_hub.cli.swarm import free_port

_NOBODY = 65534
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 60
shared_buffers = 32MB
fsync = on
synchronous_commit = on
"""


class PostgresServer:
    """One server; every test takes a database of its own."""

    def __init__(self, folder: Path, programs: Path, settings: str = "") -> None:
        self._folder = folder
        self.programs = programs
        self._settings = f"{_SETTINGS}{settings}"
        self._data = folder / "data"
        self._names = count()
        self.port = free_port()

    @property
    def pid(self) -> int:
        """The process id of the server, whose children serve the connections."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        """Make the cluster at the first start, and serve it."""
        if not self._data.exists():
            self._run("initdb", "-D", self._data, "-U", "hub", "-A", "trust", "-E", "UTF8")
            with (self._data / "postgresql.conf").open("a") as settings:
                settings.write(f"{self._settings}port = {self.port}\n")
        log = self._folder / "log"
        self._run("pg_ctl", "-D", self._data, "-w", "-t", "60", "-l", log, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; `immediate` is a crash."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def new_database(self) -> str:
        """Return the url of a fresh database."""
        name = f"swarm_{next(self._names)}"
        with self.connect("postgres") as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def url(self, name: str) -> str:
        """Return the url of a database."""
        return f"postgresql://hub@127.0.0.1:{self.port}/{name}"

    def connect(self, name: str) -> "psycopg.Connection[Any]":
        """Return a connection for looking at a database."""
        return psycopg.connect(self.url(name), autocommit=True)

    def serve_tls(self, certificate: Path | None, key: Path | None) -> None:
        """Serve new connections over TLS with copies of these, or no longer, from soon on."""
        if certificate is not None and key is not None:
            for source, name in ((certificate, "server.crt"), (key, "server.key")):
                target = self._data / name
                target.write_bytes(source.read_bytes())
                target.chmod(0o600)
                if _is_root():
                    os.chown(target, _NOBODY, _NOBODY)
        with self.connect("postgres") as connection:
            connection.execute(f"ALTER SYSTEM SET ssl = {'off' if key is None else 'on'}")
            connection.execute("SELECT pg_reload_conf()")

    def kill_backend(self, pid: int) -> None:
        """End one backend as an administrator would."""
        with self.connect("postgres") as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", [pid])

    def crash(self) -> None:
        """SIGKILL a backend: the server drops every connection and recovers by itself."""
        # The last crash may be noticed only now.
        with self._connected_when_up() as connection:
            os.kill(connection.info.backend_pid, signal.SIGKILL)
        self._connected_when_up().close()

    def _connected_when_up(self) -> "psycopg.Connection[Any]":
        deadline = time.monotonic() + 60
        while True:
            try:
                return self.connect("postgres")
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "the server did not come back"
                time.sleep(0.05)

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [str(self.programs / program), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            check=False,
            timeout=120,
            # The server refuses to be run by root.
            **({"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if _is_root() else {}),
        )
        log = self._folder / "log"
        said = log.read_text()[-2000:] if log.exists() else (done.stdout or b"").decode()
        assert done.returncode == 0, f"{program} failed: {said}"


@contextmanager
def running_server(settings: str = "") -> Iterator[PostgresServer]:
    """Run a server for as long as the block lasts; `settings` are lines for its configuration."""
    folder = Path(tempfile.mkdtemp(prefix="swarm-hub-pg-"))
    try:
        if _is_root():
            os.chown(folder, _NOBODY, _NOBODY)
        server = PostgresServer(folder, _programs(), settings)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    """Return the folder of the server's programs, which Debian keeps off the PATH."""
    on_path = shutil.which("initdb")
    found = [Path(on_path)] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert found, "PostgreSQL is missing; run script/setup --test, which installs it"
    return found[-1].parent


def _is_root() -> bool:
    return os.geteuid() == 0
