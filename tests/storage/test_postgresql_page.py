"""What docs/postgresql.md says to type works: roles with least rights, a dump and its restore."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from swarm_hub.exceptions import StoreError
from swarm_hub.storage import Store
from swarm_hub.storage.queries import leases
from swarm_hub.util.clock import Clock
from tests.conftest import Swarm
from tests.helpers.postgres import PostgresServer
from tests.helpers.rest import finished, submit
from tests.helpers.snippets import ROOT, snippets

HERE = Path(__file__).relative_to(ROOT).as_posix()
ROLES, UPGRADE, DUMP, RESTORE = [
    each.code for each in snippets("docs/postgresql.md") if each.run_by == HERE
]
# What the page types, with its name in the tables of commands.
assert "upgrade" in UPGRADE


class Shell:
    """A shell with the programs of the server, to which the page's host is the tests' server."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self._server = server
        self._folder = folder
        hub = folder / "swarm-hub"
        hub.write_text(f'#!/bin/sh\nexec {sys.executable} -m swarm_hub "$@"\n')
        hub.chmod(0o755)

    def url(self, role: str, database: str) -> str:
        """Return the url of a role."""
        return self._server.url(database).replace("hub@", f"{role}@")

    async def run(self, *command: str, stdin: str = "") -> str:
        """Run a command; returns what it said."""
        path = f"{self._folder}{os.pathsep}{self._server.programs}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PGUSER": "hub"}
        done = await asyncio.to_thread(
            subprocess.run, command, input=stdin, env=env, cwd=self._folder, text=True,
            capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def type(self, code: str) -> str:
        """Type a block of the page; the superuser of the tests' server has another name."""
        at = f"127.0.0.1:{self._server.port}"
        said = code.replace("db.lan", at).replace("postgres@", "hub@")
        return await self.run("bash", "-e", "-c", said)


async def open_as_gateway(url: str, folder: Path) -> None:
    store = Store.at(url, folder, Clock())
    await store.open()
    try:
        await store.introduce("gateway")
        store.listen(lambda: None)
        await store.commit([leases.register("frozen", 0.0)])
        name = leases.session_of("frozen")
        with psycopg.connect(url, application_name=name) as session:
            # It may end the sessions of its own role, and no more is needed.
            assert await store.change(leases.end_sessions) == 1
            with pytest.raises(psycopg.OperationalError):
                session.execute("SELECT 1")
    finally:
        await store.close()


@pytest.mark.nightly
async def test_the_page_is_followed(
    swarm: Swarm, postgres_server: PostgresServer, modules: dict[str, bytes], tmp_path: Path
) -> None:
    shell = Shell(postgres_server, tmp_path)
    await shell.run("psql", "-v", "ON_ERROR_STOP=1", postgres_server.url("postgres"), stdin=ROLES)
    url = shell.url("swarm_gateway", "swarm")
    with pytest.raises(StoreError, match="swarm-hub store upgrade --url URL"):
        await open_as_gateway(url, tmp_path)
    assert "The database has schema" in await shell.type(UPGRADE)
    await open_as_gateway(url, tmp_path)
    with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("CREATE TABLE mine (id INTEGER)")

    gateway = await swarm.gateway(extra=f"storage: {{url: '{url}'}}\n")
    spec = {"split": "range", "shard_size": 50, "reduce": "sum"}
    _, body = await submit(gateway, modules["primes"], b"0 100\n", spec)
    await shell.type(DUMP)
    await swarm.stop(gateway)
    await shell.type(RESTORE)
    restored = shell.url("swarm_gateway", "swarm_restored")
    gateway = await swarm.gateway(extra=f"storage: {{url: '{restored}'}}\n")
    await swarm.worker("worker")
    done = await finished(gateway, body["job_id"])
    assert (done["state"], done["result"]) == ("completed", 25)
