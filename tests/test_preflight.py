"""Whatever keeps a hub from starting, or cripples it: `check` and `doctor` say it as `run` does."""

import asyncio
import json
import logging
import os
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from swarm_hub import bootstrap, preflight, runner
from swarm_hub.cli import doctor, main
from swarm_hub.const import DATABASE_MADE_FILE
from swarm_hub.exceptions import HubError
from swarm_hub.util.files import load_or_create_key

MESH = "mesh: {transport: loopback, mdns: false, bulk: false}\n"
GATEWAY = f"gateway:\n{MESH}"
WORKER = f"worker: {{charging_only: false, notification: false}}\n{MESH}"
API = "api: {port: 0}\n"


@dataclass(frozen=True, slots=True)
class Way:
    """One way in which a hub is kept from starting, or starts crippled."""

    text: str
    make: Callable[[Path, ExitStack], None]
    # What `check` says: where, and the beginning of it.
    at: str
    said: str
    stops: bool = True
    # What comes out only while it runs is not said at the start.
    by_run: bool = True


def nothing(_folder: Path, _stack: ExitStack) -> None:
    """The configuration alone does it."""


def content(name: str, text: str, mode: int = 0o600) -> Callable[[Path, ExitStack], None]:
    def make(folder: Path, _stack: ExitStack) -> None:
        path = folder / name
        path.parent.mkdir(mode=0o700, exist_ok=True, parents=True)
        path.write_text(text)
        path.chmod(mode)

    return make


def loose_key(name: str) -> Callable[[Path, ExitStack], None]:
    def make(folder: Path, _stack: ExitStack) -> None:
        load_or_create_key(folder / ".storage" / name, "key")
        (folder / ".storage" / name).chmod(0o644)

    return make


def taken(where: str) -> Callable[[Path, ExitStack], None]:
    """Have another program listen; `PORT` in the configuration becomes its port."""

    def make(folder: Path, stack: ExitStack) -> None:
        other = stack.enter_context(socket.create_server((where, 0)))
        path = folder / "configuration.yaml"
        path.write_text(path.read_text().replace("PORT", str(other.getsockname()[1])))

    return make


def newer_schema(folder: Path, _stack: ExitStack) -> None:
    with closing(sqlite3.connect(folder / "swarm_hub.db")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('9999')")


def no_driver(_folder: Path, stack: ExitStack) -> None:
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setitem(sys.modules, "psycopg", None)
    patch.delitem(sys.modules, "swarm_hub.storage.engine.postgres", raising=False)


def no_wasmtime(_folder: Path, stack: ExitStack) -> None:
    stack.enter_context(pytest.MonkeyPatch.context()).setitem(sys.modules, "wasmtime", None)


STRATEGY = "PLATFORM_SCHEMA = {}\n\ndef create():\n    raise ValueError('no weights')\n"

WAYS = {
    "the directory can't be written": Way(
        GATEWAY, content(".storage", ""), "FOLDER", "the directory can't be written (Not a direc"
    ),
    "the note of a restore can't be read": Way(
        GATEWAY, content(".storage/restore.json", "{"), "FOLDER",
        "FOLDER/.storage/restore.json: the note of an interrupted restore can't be read",
    ),
    "the identity can be read by others": Way(
        GATEWAY, loose_key("identity.key"), "configuration.yaml:2: mesh",
        "FOLDER/.storage/identity.key: the mesh identity can be read by other users (mode 0644)",
    ),
    "the signing key was cut short": Way(
        GATEWAY, content(".storage/signer.key", "short"), "configuration.yaml: signer",
        "FOLDER/.storage/signer.key: the signer's key must be exactly 32 bytes, found 5",
    ),
    "the cache's key can be read by others": Way(
        GATEWAY, loose_key("wasm-cache/cache.key"), "configuration.yaml: sandbox",
        "FOLDER/.storage/wasm-cache/cache.key: the module cache key can be read by other users",
    ),
    "the rotations can't be read": Way(
        GATEWAY, content(".storage/signer.rotations.json", "{"), "configuration.yaml: signer",
        "FOLDER/.storage/signer.rotations.json: can't be read",
    ),
    "the revoked keys can't be read": Way(
        GATEWAY, content(".storage/revoked_keys.json", "{"), "configuration.yaml: signer",
        "FOLDER/.storage/revoked_keys.json: can't be read",
    ),
    "the join tokens can't be read": Way(
        WORKER, content(".storage/join_tokens.json", "{"), "configuration.yaml: signer",
        "FOLDER/.storage/join_tokens.json: can't be read",
    ),
    "the mesh's port is in use": Way(
        "worker:\nmesh:\n  listen:\n    - /ip4/127.0.0.1/tcp/PORT\n", taken("127.0.0.1"),
        "configuration.yaml:3: mesh → listen",
        "can't listen on /ip4/127.0.0.1/tcp/PORT: Address already in use",
    ),
    "the port of large blobs is in use": Way(
        "gateway:\nmesh:\n  transport: loopback\n  bulk: /ip4/127.0.0.1/tcp/PORT\n",
        taken("127.0.0.1"), "configuration.yaml:4: mesh → bulk",
        "No bulk and no express plane: can't listen on /ip4/127.0.0.1/tcp/PORT: Address already",
        stops=False,
    ),
    "the API's port is in use": Way(
        f"{GATEWAY}api:\n  port: PORT\n", taken("127.0.0.1"), "configuration.yaml:4: api → port",
        "can't listen on 127.0.0.1:PORT: Address already in use",
    ),
    "the API is open to the network": Way(
        f"{GATEWAY}api: {{host: 0.0.0.0, port: 0}}\n", nothing, "configuration.yaml:3: api → host",
        "The API listens on 0.0.0.0 without TLS", stops=False,
    ),
    "the API's certificate is missing": Way(
        f"{GATEWAY}api:\n  port: 0\n  tls: {{certificate: a.pem, key: b.pem}}\n", nothing,
        "configuration.yaml:5: api → tls", "FOLDER/a.pem: can't be read: No such file",
    ),
    "the API's own key can be read by others": Way(
        f"{GATEWAY}api:\n  port: 0\n  tls: {{self_signed: true}}\n", loose_key("tls.key"),
        "configuration.yaml:5: api → tls",
        "FOLDER/.storage/tls.key: the API's key can be read by other users; run: chmod 600",
    ),
    "the tokens can't be read": Way(
        f"{GATEWAY}{API}", content(".storage/tokens.json", "{"), "configuration.yaml:3: api",
        "FOLDER/.storage/tokens.json: the token file can't be read", by_run=False,
    ),
    "everybody may join": Way(
        f"{MESH}gateway:\n  admission: open\n", nothing,
        "configuration.yaml:3: gateway → admission", "Whoever reaches the mesh port becomes a node",
        stops=False,
    ),
    "the database is of a newer version": Way(
        GATEWAY, newer_schema, "configuration.yaml: storage → url",
        "FOLDER/swarm_hub.db: the database has schema 9999, this swarm_hub knows up to",
    ),
    "the database is no database": Way(
        GATEWAY, content("swarm_hub.db", "nonsense " * 1000), "configuration.yaml: storage → url",
        "FOLDER/swarm_hub.db: the database is damaged (file is not a database); there is no backup",
    ),
    "the database is gone": Way(
        GATEWAY, content(DATABASE_MADE_FILE, "sqlite:///swarm_hub.db\n"),
        "configuration.yaml: storage → url",
        "FOLDER/swarm_hub.db: the database is damaged (it was made before, and is now gone or",
    ),
    "a worker's database is damaged": Way(
        WORKER, content("swarm_hub.db.damaged", "a page\n"), "configuration.yaml: storage → url",
        "FOLDER/swarm_hub.db: the database is damaged (a page)", stops=False, by_run=False,
    ),
    "the database's folder is none": Way(
        f"{GATEWAY}storage:\n  url: sqlite:///file/x.db\n", content("file", ""),
        "configuration.yaml:4: storage → url",
        "FOLDER/file/x.db: the database can't be opened (Not a directory); check that the",
    ),
    "the disk is full": Way(
        f"{GATEWAY}storage:\n  min_free: 999000GB\n", nothing,
        "configuration.yaml:4: storage → min_free", "only ", stops=False,
    ),
    "backups can't be written": Way(
        f"{GATEWAY}storage:\n  backup:\n    directory: file/x\n", content("file", ""),
        "configuration.yaml:5: storage → backup → directory",
        "FOLDER/file: backups can't be written there (Not a directory)", stops=False, by_run=False,
    ),
    "the driver is missing": Way(
        f"{GATEWAY}storage:\n  url: postgresql://h/d\n", no_driver,
        "configuration.yaml:4: storage → url", "storage: url needs the PostgreSQL driver (",
    ),
    "the address of the database is wrong": Way(
        f"{GATEWAY}storage:\n  url: postgresql://hub:s/ecret@db/d\n", nothing,
        "configuration.yaml:4: storage → url", "storage: url has a port that is no number from 1",
    ),
    "wasmtime is missing": Way(
        GATEWAY, no_wasmtime, "configuration.yaml: sandbox",
        "The sandbox needs wasmtime; install it with: pip install wasmtime",
    ),
    "a platform of the owner's fails": Way(
        f"{GATEWAY}scheduler:\n  platform: mine\n",
        content("custom_components/mine/scheduler.py", STRATEGY),
        "configuration.yaml:4: scheduler → platform",
        "custom_components/mine/scheduler.py:4: ValueError: no weights",
    ),
}  # fmt: skip


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("name", WAYS)
async def test_what_run_says_is_said_by_check_and_doctor_first(
    tmp_path: Path, stack: ExitStack, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch, name: str,
) -> None:  # fmt: skip
    way = WAYS[name]
    # Python keeps what it compiled beside a component of the owner's.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "configuration.yaml").write_text(way.text)
    way.make(tmp_path, stack)
    port = "".join(filter(str.isdigit, _line_of_port(tmp_path, way.text)))
    at, said = (
        text.replace("FOLDER", str(tmp_path)).replace("PORT", port) for text in (way.at, way.said)
    )
    before = _files(tmp_path)
    found = (await asyncio.to_thread(preflight.everything, tmp_path))[2]
    (told,) = [each for each in found if each.problem.message.startswith(said)]
    assert str(told.problem).startswith(f"{at}: {said}"), told
    assert told.stops == way.stops
    checks = (doctor._directory, doctor._configuration, doctor._store)
    findings = [each for check in checks for each in await asyncio.to_thread(check, tmp_path)]
    # How much is free changes meanwhile.
    words = told.problem.message.partition(" KiB are free")[2] or told.problem.message
    (finding,) = [each for each in findings if words in each.text]
    assert finding.level == ("bad" if way.stops else "warn")
    # Nothing was changed by asking.
    assert _files(tmp_path) == before
    if way.by_run:
        assert words in await _said_by_run(tmp_path, caplog)


def _line_of_port(folder: Path, text: str) -> str:
    line = next((n for n, line in enumerate(text.splitlines()) if "PORT" in line), None)
    if line is None:
        return ""
    written = (folder / "configuration.yaml").read_text().splitlines()[line]
    return written.removeprefix("    - /ip4/127.0.0.1").removeprefix("  bulk: /ip4/127.0.0.1")


def _files(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.lstat().st_mtime_ns
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


async def _said_by_run(folder: Path, caplog: pytest.LogCaptureFixture) -> str:
    with caplog.at_level(logging.WARNING):
        try:
            with runner.locked(folder):
                hub = await bootstrap.start_hub(folder)
                await hub.stop()
        except HubError as error:
            return str(error)
    return "\n".join(caplog.messages)


async def test_a_hub_that_runs_there_does_not_take_ports_from_itself(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = tmp_path / "configuration.yaml"
    path.write_text(f"{GATEWAY}api: {{port: {port}}}\n")
    with runner.locked(tmp_path):
        hub = await bootstrap.start_hub(tmp_path)
        try:
            found = (await asyncio.to_thread(preflight.everything, tmp_path))[2]
            assert [(each.stops, each.problem.message) for each in found] == [
                (False, f"another hub (process {os.getpid()}) already runs on this directory; "
                 "stop it first or choose another directory with -c")
            ]  # fmt: skip
            with pytest.raises(HubError) as caught, runner.locked(tmp_path):
                pass
            assert str(found[0].problem) == str(caught.value)
            # Another port than that of the running hub is looked at.
            with socket.create_server(("127.0.0.1", 0)) as other:
                port = other.getsockname()[1]
                path.write_text(f"{GATEWAY}api: {{port: {port}}}\n")
                found = (await asyncio.to_thread(preflight.everything, tmp_path))[2]
            assert found[-1].stops
            assert f"can't listen on 127.0.0.1:{port}" in found[-1].problem.message
        finally:
            await hub.stop()


def test_two_components_can_not_have_one_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "configuration.yaml").write_text(
        f"gateway:\nmesh:\n  listen: [/ip4/127.0.0.1/tcp/{port}]\napi:\n  port: {port}\n"
    )
    (found,) = preflight.everything(tmp_path)[2]
    assert found.stops
    assert "Address already in use" in found.problem.message


def test_check_ends_with_1_for_what_stops_and_with_0_for_a_warning(
    tmp_path: Path, stack: ExitStack
) -> None:
    def check(*options: str) -> tuple[int, str, str]:
        arguments = ["check", "-c", str(tmp_path), *options]
        done = CliRunner().invoke(main, arguments, standalone_mode=False)
        return done.return_value, done.stdout, done.stderr

    (tmp_path / "configuration.yaml").write_text(f"{MESH}gateway:\n  admission: open\n")
    code, _, said = check()
    assert code == 0
    assert said.startswith("warning: configuration.yaml:3: gateway → admission: Whoever reaches")
    assert "configuration.yaml is valid; it loads: " in said
    told = json.loads(check("--json")[1])
    assert (told["valid"], "problems" in told) == (True, False)
    assert told["warnings"][0]["path"] == "gateway → admission"
    loose_key("identity.key")(tmp_path, stack)
    code, _, said = check()
    assert code == 1
    assert "is valid" not in said
    code, out, _ = check("--json")
    told = json.loads(out)
    assert (code, told["valid"]) == (1, False)
    assert (told["problems"][0]["line"], told["problems"][0]["path"]) == (1, "mesh")


PREFLIGHT = """\
from swarm_hub.helpers import config_validation as cv
from swarm_hub.helpers.obstacles import Obstacle

CONFIG_SCHEMA = cv.section({}, dict)

def preflight(site, config):
    yield Obstacle("no camera is connected", stops=False)
    raise OSError("out of luck")

async def async_setup(hub, config):
    return True
"""


def test_a_component_of_the_owners_has_its_say_and_its_faults_are_told(tmp_path: Path) -> None:
    home = tmp_path / "custom_components" / "mine"
    home.mkdir(parents=True)
    manifest = {"domain": "mine", "name": "Mine", "documentation": "x", "version": "1"}
    (home / "manifest.json").write_text(json.dumps(manifest))
    (home / "__init__.py").write_text(PREFLIGHT)
    (tmp_path / "configuration.yaml").write_text(f"{GATEWAY}mine:\n")
    found = preflight.everything(tmp_path)[2]
    assert [str(each.problem) for each in found] == [
        "configuration.yaml:3: mine: no camera is connected",
        "configuration.yaml:3: mine: its preflight failed: OSError('out of luck')",
    ]
    assert not any(each.stops for each in found)
