"""One process and one directory: whatever keeps a hub from running is one clear line, exit 1."""

import asyncio
import json
import os
import re
import resource
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from swarm_hub import runner
from swarm_hub.const import IDENTITY_KEY_FILE, LOCK_FILE, SIGNER_KEY_FILE, STORAGE_DIR
from swarm_hub.exceptions import HubError
from swarm_hub.runner import locked
from tests.helpers.hub_process import hub_dir, running


def run(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a hub that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "swarm_hub", "run", "-c", str(folder)],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def the_line(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the one error line of a hub that did not start."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("swarm-hub: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_hub_with_exit_code_0(tmp_path: Path, signum: signal.Signals) -> None:
    with running(hub_dir(tmp_path, "worker: {charging_only: false}\n")) as process:
        process.send_signal(signum)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert "Traceback" not in said
        assert "is stopping" in said


def test_a_program_that_started_a_hub_is_told_in_json_when_it_is_ready(tmp_path: Path) -> None:
    folder = hub_dir(tmp_path, "worker: {charging_only: false}\n")
    with subprocess.Popen(
        [sys.executable, "-m", "swarm_hub", "run", "-c", str(folder), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")
    told = json.loads(line)
    assert (told["ready"], told["roles"]) == (True, ["gateway", "worker"])
    assert (told["config"], told["process_id"]) == (str(folder), process.pid)


def test_a_log_file_is_the_owners_alone_and_is_rotated_by_size(tmp_path: Path) -> None:
    log, before = tmp_path / "hub.log", "x" * (1024 * 1024 - 10) + "\n"
    log.write_text(before)
    log.chmod(0o600)
    command = [sys.executable, "-m", "swarm_hub", "run", "-c", str(hub_dir(tmp_path))]
    process = subprocess.Popen([*command, "--log", str(log)], stderr=subprocess.PIPE, text=True)
    try:
        while "is ready" not in log.read_text():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, said) == (0, "")
    assert "is stopping" in log.read_text()
    assert (tmp_path / "hub.log.1").read_text() == before
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("hub.log*")} == {0o600}


def test_a_log_file_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "swarm_hub", "run", "-c", str(hub_dir(tmp_path)),
         "--log", str(tmp_path / "nowhere" / "hub.log")],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert "can't be written: No such file or directory" in the_line(done)


# A shell that starts a hub in the background may have it ignore Ctrl-C.
IGNORING = "trap '' INT TERM; exec \"$@\""


@contextmanager
def starting(folder: Path, *, ignoring: bool) -> Iterator["subprocess.Popen[str]"]:
    """Start a hub, by a shell that lets it ignore signals or as it is."""
    shell = ["sh", "-c", IGNORING, "sh"] if ignoring else []
    process = subprocess.Popen(
        [*shell, sys.executable, "-m", "swarm_hub", "run", "-c", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def interrupted(process: "subprocess.Popen[str]", folder: Path) -> str:
    """Return what a hub says that ends as it was told to; its directory is free again."""
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    # On a machine that had better things to do than this test, the signal came after the start.
    assert process.returncode == (0 if "is ready" in said else 130), said
    with locked(folder):
        return said


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("ignoring", [False, True])
def test_a_signal_from_the_lock_on_ends_it_too(
    tmp_path: Path, signum: signal.Signals, ignoring: bool
) -> None:
    lock = tmp_path / LOCK_FILE
    with starting(hub_dir(tmp_path), ignoring=ignoring) as process:
        deadline = time.monotonic() + 15
        while not lock.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signum)
        process.send_signal(signum)
        interrupted(process, tmp_path)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("ignoring", [False, True])
def test_a_hub_that_is_told_to_stop_during_its_start_never_becomes_ready(
    tmp_path: Path, signum: signal.Signals, ignoring: bool
) -> None:
    # A start that waits for a part of its configuration is one that a signal can't miss.
    part = hub_dir(tmp_path, "hub: !include hub.yaml\n") / "hub.yaml"
    os.mkfifo(part)
    with starting(tmp_path, ignoring=ignoring) as process:
        pipe = opened_by_a_reader(part)
        process.send_signal(signum)
        os.write(pipe, b"name: kitchen\n")
        os.close(pipe)
        said = interrupted(process, tmp_path)
        assert "is ready" not in said
        assert "told to stop before it was ready" in said


def opened_by_a_reader(fifo: Path) -> int:
    """Return the writing end of a pipe once somebody reads it."""
    deadline = time.monotonic() + 15
    while True:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.001)


def test_a_second_hub_is_refused_and_the_first_lives_on(tmp_path: Path) -> None:
    with running(hub_dir(tmp_path)) as process:
        line = the_line(run(tmp_path))
        assert f"another hub (process {process.pid}) already runs on this directory" in line
        assert process.poll() is None


def test_the_lock_of_a_killed_hub_is_free(tmp_path: Path) -> None:
    with running(hub_dir(tmp_path)) as process:
        process.kill()
        process.wait()
    with running(tmp_path) as process:
        assert int((tmp_path / LOCK_FILE).read_text()) == process.pid


def test_the_lock_is_refused_while_it_is_held_and_free_afterwards(tmp_path: Path) -> None:
    refused = pytest.raises(HubError, match=f"process {os.getpid()}")
    with locked(tmp_path), refused, locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_directory_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    # A directory below a file can't be made by anybody, root included.
    (tmp_path / STORAGE_DIR).write_text("in the way")
    assert "the directory can't be written" in the_line(run(hub_dir(tmp_path)))


def test_a_missing_directory_says_how_to_make_one(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    assert f"make one with: swarm-hub init -c {missing}" in the_line(run(missing))


def test_invalid_yaml_is_one_line_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text("gateway:\n  - [\n")
    assert "configuration.yaml:2: the [ that begins here is not closed" in the_line(run(tmp_path))


@pytest.mark.parametrize("name", [IDENTITY_KEY_FILE, SIGNER_KEY_FILE])
@pytest.mark.parametrize(("mode", "size", "said"), [
    (0o644, 32, "can be read by other users (mode 0644); run: chmod 600"),
    (0o600, 31, "must be exactly 32 bytes, found 31"),
])  # fmt: skip
def test_a_key_file_that_is_not_right_is_one_line(
    tmp_path: Path, name: str, mode: int, size: int, said: str
) -> None:
    path = hub_dir(tmp_path) / STORAGE_DIR / name
    path.parent.mkdir(mode=0o700)
    path.write_bytes(bytes(size))
    path.chmod(mode)
    line = the_line(run(tmp_path))
    assert said in line
    assert str(path) in line


def test_an_api_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        line = the_line(run(hub_dir(tmp_path, api_port=port)))
    assert f"can't listen on 127.0.0.1:{port}" in line
    assert "change api: host or port" in line


def test_a_mesh_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        extra = f"mesh: {{listen: [/ip4/127.0.0.1/tcp/{port}], mdns: false}}\n"
        line = the_line(run(hub_dir(tmp_path, extra)))
    assert f"can't listen on /ip4/127.0.0.1/tcp/{port}" in line
    assert "change mesh: listen" in line


def test_a_store_of_a_newer_version_is_one_line(tmp_path: Path) -> None:
    database = sqlite3.connect(hub_dir(tmp_path) / "swarm_hub.db")
    database.execute("PRAGMA user_version=99")
    database.close()
    line = the_line(run(tmp_path))
    assert "the database has schema 0099" in line
    assert "upgrade swarm_hub" in line


def test_a_store_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (hub_dir(tmp_path) / "swarm_hub.db").write_bytes(b"not a database" * 1000)
    line = the_line(run(tmp_path))
    assert "the database is damaged (file is not a database)" in line
    assert f"swarm-hub restore --empty -c {tmp_path}" in line


def test_an_address_that_is_not_ours_is_one_line(tmp_path: Path) -> None:
    extra = "mesh: {listen: [/ip4/192.0.2.1/tcp/4001], mdns: false}\n"
    assert "can't listen on /ip4/192.0.2.1/tcp/4001" in the_line(run(hub_dir(tmp_path, extra)))


LIBP2P = "mesh: {listen: [/ip4/127.0.0.1/tcp/0], mdns: false}\n"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no_library", "The mesh can't start: import of libp2p halted"),
        ("no_thread", "The hub ends: too little memory (RuntimeError: can't start new thread)"),
        ("dies_later", "The mesh failed: LookupError('a defect of the mesh')"),
        ("returns_early", "The mesh failed: its thread has ended by itself"),
    ],
)
def test_no_hub_lives_on_without_its_mesh(tmp_path: Path, how: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.broken_mesh", how, str(hub_dir(tmp_path, LIBP2P))],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stderr.splitlines() if " ERROR " in line]
    assert sum(said in line for line in errors) == 1, done.stderr
    # A defect is told with its place; what the owner can mend is one line.
    assert ("Traceback" in done.stderr) == (how == "dies_later")


# Of what a hub with libp2p needs: too little for a thread, for its imports, for its work.
@pytest.mark.parametrize(
    ("kind", "mib"),
    [("DATA", 40), ("DATA", 60), ("DATA", 85), ("AS", 200), ("AS", 300)],
)
def test_a_hub_with_too_little_memory_says_so_and_ends(tmp_path: Path, kind: str, mib: int) -> None:
    limit = mib * 1024 * 1024

    def limited() -> None:
        resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (limit, limit))

    done = subprocess.run(
        [sys.executable, "-m", "swarm_hub", "run", "-c", str(hub_dir(tmp_path, LIBP2P))],
        capture_output=True, text=True, timeout=60, check=False, preexec_fn=limited,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "too little memory" in line]
    assert f"its limit is {mib}.0 MiB of {'data' if kind == 'DATA' else 'addresses'}" in line
    assert "raise its limit" in line


def test_a_thread_that_gets_no_memory_ends_the_hub_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(threading, "excepthook", runner._thread_failed)

    def fail() -> None:
        raise MemoryError

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert ended == [1]
    assert "The hub ends: too little memory (MemoryError): this process had" in caplog.text


async def test_errors_of_accept_are_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    handle = runner._of_the_loop()
    others = []
    monkeypatch.setattr(loop, "default_exception_handler", others.append)
    context = {"message": "socket.accept() out of system resource", "exception": OSError(24, "x")}
    for _ in range(100):
        handle(loop, context)
    assert sum("Can't accept connections" in line for line in caplog.messages) == 1
    handle(loop, {"message": "Task was destroyed but it is pending!"})
    assert len(others) == 1


def test_what_a_hub_writes_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = hub_dir(tmp_path)
    # Left by an earlier version, and read by whoever has an account here.
    (folder / "blobs").mkdir(mode=0o755)
    with closing(sqlite3.connect(folder / "swarm_hub.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
    (folder / "swarm_hub.db").chmod(0o644)
    before = os.umask(0o022)
    try:
        with running(folder) as process:
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            found = {
                path.relative_to(folder).as_posix(): stat.S_IMODE(path.lstat().st_mode)
                for path in folder.rglob("*")
                if path.name != "configuration.yaml"
            }
    finally:
        os.umask(before)
    # Nor does its memory get into a file that whoever finds it can read.
    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
    assert {"swarm_hub.db", "swarm_hub.db-wal", "blobs", STORAGE_DIR} <= found.keys()
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}


def test_there_is_memory_to_look_at_an_error_by(monkeypatch: pytest.MonkeyPatch) -> None:
    reserves: list[object] = []
    ended: list[BaseException] = []

    def look(_error: BaseException) -> bool:
        reserves.append(runner._reserve)
        raise MemoryError

    monkeypatch.setattr(runner, "_reserve", bytearray(1))
    monkeypatch.setattr(runner, "is_exhausted", look)
    monkeypatch.setattr(runner, "_end_exhausted", ended.append)
    error = RuntimeError("something else")
    runner._end_if_exhausted(error)
    assert (reserves, ended) == ([None], [error])
    # Of an error that says nothing of memory the reserve stays.
    monkeypatch.setattr(runner, "is_exhausted", lambda _error: False)
    runner._end_if_exhausted(error)
    assert len(ended) == 1
    assert runner._reserve
