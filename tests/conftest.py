"""Fixtures: real hubs in this process, real stores and sandboxes, joined by loopback."""

import asyncio
import contextlib
import dataclasses
import functools
import inspect
import json
import os
import socket
import stat
import threading
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from pathlib import Path
from typing import Any

import psutil
import pytest
import voluptuous as vol
from hypothesis import settings

from swarm_hub.bootstrap import start_hub
from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalHub, free_port
from swarm_hub.client import SwarmClient
from swarm_hub.components.api.errors import status_of
from swarm_hub.components.api.openapi.answers import statuses
from swarm_hub.components.mesh.identity import peer_id_from_seed
from swarm_hub.components.sandbox import Sandbox
from swarm_hub.const import IDENTITY_KEY_FILE, SIGNER_KEY_FILE, STORAGE_DIR, TOKENS_FILE
from swarm_hub.core import Hub
from swarm_hub.endpoints import Answer, Endpoints, Events, Json, Lines, Request, Unchanged, View
from swarm_hub.exceptions import RequestError
from swarm_hub.helpers.tokens import TokenFile
from swarm_hub.models.event import PassingShape
from swarm_hub.storage import Store
from swarm_hub.util.clock import Clock
from swarm_hub.util.ed25519 import SigningKey
from swarm_hub.util.files import load_or_create_key
from swarm_hub.util.strict_json import dump_json
from tests.helpers import warm
from tests.helpers.modules import (
    BRAINFUCK,
    CAT,
    CAT_BUT_X,
    COPY_FILES,
    JOINS,
    JOINS_BADLY,
    JOINS_BUT_X,
    JOINS_SLOWLY,
    MAYBE_ENDLESS,
    SAYS_ARGUMENT,
    SPIN,
    open_command,
    range_module,
    says,
)
from tests.helpers.postgres import PostgresServer, running_server
from tests.helpers.shapes import schema_of
from tests.helpers.swarms import start_warm

# How long one example takes says nothing on a busy machine under coverage.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def _answers_of_views_have_their_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold each JSON answer of a hub in this process against what its view declares."""
    add_view = Endpoints.add_view

    def add_checked(endpoints: Endpoints, view: View) -> None:
        told = statuses(view)

        @functools.wraps(view.handler)
        async def answer(request: Request) -> Answer:
            try:
                given = await view.handler(request)
            except RequestError as error:
                if status_of(error) not in told:
                    pytest.fail(f"{view} does not say that it raises {error!r}")
                raise
            if isinstance(given, Json):
                assert given.success in view.successes, f"{view} does not say {given.success}"
                vol.Schema(schema_of(view.answer))(json.loads(dump_json(given.content)))
            elif isinstance(given, Unchanged):
                assert view.versioned, f"{view} does not say that it has versions"
            elif isinstance(given, Lines):
                return Lines(lines(given))
            elif isinstance(given, Events):
                assert view.events
                return Events(events(given))
            else:
                assert view.answer is bytes
            return given

        async def lines(given: Lines) -> AsyncIterator[Any]:
            shapes = iter(view.lines)
            async for content in given.contents:
                vol.Schema(schema_of(next(shapes)))(json.loads(dump_json(content)))
                yield content

        async def events(given: Events) -> AsyncGenerator[Any, None]:
            async with contextlib.aclosing(given.contents) as contents:
                async for content in contents:
                    if content is not None:
                        shape = view.answer if "seq" in content else PassingShape
                        vol.Schema(schema_of(shape))(json.loads(dump_json(content)))
                    yield content

        add_view(endpoints, dataclasses.replace(view, handler=answer))

    monkeypatch.setattr(Endpoints, "add_view", add_checked)


_MARKS_BY_FOLDER = {
    "examples": ("process", "slow"),
    "hostile": ("hostile", "process", "slow"),
    "interop": ("network", "process"),
    "networks": ("network", "process"),
    "phone": ("network", "process", "slow"),
    "restart": ("process",),
}
# A module that imports one of these, and a test that is given one of these, starts processes. So
# does a sandbox, and with it each job, which needs one of `modules`.
_IMPORTS_THAT_START_PROCESSES = {
    "FaultFs", "LocalSwarm", "killed_at", "multiprocessing", "run_process", "subprocess",
}  # fmt: skip
_FIXTURES_THAT_START_PROCESSES = {
    "modules", "new_sandbox", "postgres_server", "run", "run_beside", "tree", "warm_hubs",
}  # fmt: skip
_IMPORTS_THAT_SPEAK_LIBP2P = {"Libp2pTransport"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark each test by its folder and by what it uses, so that `-m` can leave out its kind."""
    tests = Path(__file__).parent
    for item in items:
        assert isinstance(item, pytest.Function)
        marks = set(_MARKS_BY_FOLDER.get(item.path.relative_to(tests).parts[0], ()))
        imports = vars(item.module).keys()
        if imports & _IMPORTS_THAT_START_PROCESSES or _FIXTURES_THAT_START_PROCESSES.intersection(
            item.fixturenames
        ):
            marks.add("process")
        if imports & _IMPORTS_THAT_SPEAK_LIBP2P:
            marks.add("network")
        for mark in sorted(marks):
            item.add_marker(mark)


# What was closed or cancelled needs a moment to be gone.
_LEAKS_END_WITHIN_S = 15.0


def pytest_unconfigure() -> None:
    warm.stop()


EXAMPLES = Path(__file__).parents[1] / "examples"
_EXAMPLE_NAMES = (
    "sum_i32/sum", "primes/primes", "wordcount/wordcount", "echo/echo", "bytesum/bytesum",
)  # fmt: skip
# Modules that only tests need; `spin` takes about a millisecond for each number of its range.
_TEST_MODULES = {
    "spin": SPIN,
    "cat": CAT,
    "cat_but_x": CAT_BUT_X,
    "trap": range_module("unreachable"),
    # Its number 7 fails wherever it runs.
    "unlucky": range_module(
        "(if (i64.eq (local.get 0) (i64.const 7)) (then unreachable))"
        "(i64.sub (local.get 1) (local.get 0))"
    ),
    "count": range_module("(i64.sub (local.get 1) (local.get 0))"),
    "highest": range_module("(i64.const 9223372036854775807)"),
    "maybe_endless": MAYBE_ENDLESS,
    "two_maps": range_module(
        "(i64.const 1)",
        '(func (export "other") (param i64 i64) (result i64) (i64.const 2))',
    ),
    "says_no": says(2, "no such luck", 3),
    "joins": JOINS,
    "joins_but_x": JOINS_BUT_X,
    "joins_slowly": JOINS_SLOWLY,
    "joins_badly": JOINS_BADLY,
    "copy_files": COPY_FILES,
    "writes_summary": open_command(4, "summary", make=True),
    "brainfuck": BRAINFUCK,
    "says_argument": SAYS_ARGUMENT,
    "talks": says(2, "all went well", 0),
    "not_a_number": says(1, "NaN", 0),
    "nothing": "(module)",
}


class MovableClock(Clock):
    """A clock whose wall time tests move; monotonic time stays real unless moved too."""

    def __init__(self) -> None:
        # Time that passes: the device ran, or slept.
        self.offset_s = 0.0
        # The clock was set anew, and no time passed.
        self.jump_s = 0.0
        self.monotonic_offset_s = 0.0
        self._stopped_at: tuple[float, float] | None = None
        super().__init__()

    def stop(self) -> None:
        """From now on let wall time move only when the test moves it."""
        self._stopped_at = super().wall(), super().boottime()

    def wall(self) -> float:
        now = super().wall() if self._stopped_at is None else self._stopped_at[0]
        return now + self.offset_s + self.jump_s

    def boottime(self) -> float:
        now = super().boottime() if self._stopped_at is None else self._stopped_at[1]
        return now + self.offset_s

    def monotonic(self) -> float:
        return super().monotonic() + self.monotonic_offset_s


class RunningHub:
    """A hub of this process with its directory and a client's way in."""

    def __init__(self, folder: Path, hub: Hub, port: int, token: str, clock: MovableClock) -> None:
        self.folder = folder
        self.hub = hub
        self.url = f"http://127.0.0.1:{port}"
        self.token = token
        self.clock = clock


class Swarm:
    """Hubs of one test; every one is stopped at its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[RunningHub] = []

    def keys(self, name: str) -> tuple[str, str]:
        """Return (peer id, public key) of the hub of that name, made at first use."""
        storage = self._folder / name / STORAGE_DIR
        storage.mkdir(parents=True, mode=0o700, exist_ok=True)
        seed = load_or_create_key(storage / IDENTITY_KEY_FILE, "mesh identity")
        key = load_or_create_key(storage / SIGNER_KEY_FILE, "signer's key")
        return peer_id_from_seed(seed), SigningKey(key).public_key.hex()

    async def start(
        self, name: str, yaml: str, port: int = 0, clock: MovableClock | None = None
    ) -> RunningHub:
        """Start a hub with this configuration (the mesh is loopback unless it says otherwise)."""
        self.keys(name)
        folder = self._folder / name
        mesh = "" if "mesh:" in yaml else "mesh: {transport: loopback}\n"
        # Compiling Python takes longer than most tests.
        runtimes = "" if "runtimes:" in yaml else "runtimes: {python: false, javascript: false}\n"
        (folder / "configuration.yaml").write_text(f"hub: {{name: {name}}}\n{mesh}{runtimes}{yaml}")
        _, token = TokenFile(folder / STORAGE_DIR / TOKENS_FILE).create("t", "admin", time.time())
        clock = clock or MovableClock()
        hub = await start_hub(folder, clock)
        running = RunningHub(folder, hub, port, token, clock)
        self._running.append(running)
        return running

    async def gateway(
        self, name: str = "gateway", extra: str = "", admission: str = "open", **options: Any
    ) -> RunningHub:
        """Start a gateway with its API."""
        port = free_port()
        yaml = f"gateway: {{admission: {admission}}}\napi: {{port: {port}}}\n{extra}"
        return await self.start(name, yaml, port, **options)

    async def worker(
        self, name: str, *gateways: str, extra: str = "", **options: Any
    ) -> RunningHub:
        """Start a worker that obeys the gateways of those names."""
        known = [self.keys(gateway) for gateway in gateways or ("gateway",)]
        trust = ", ".join(f"'{public_key}'" for _, public_key in known)
        bootnodes = ", ".join(f"/memory/0/p2p/{peer_id}" for peer_id, _ in known)
        worker = "" if "worker:" in extra else "worker: {charging_only: false, min_battery: 0}\n"
        yaml = (
            f"{worker}signer: {{trust: [{trust}]}}\n"
            f"mesh: {{transport: loopback, bootnodes: [{bootnodes}]}}\n{extra}"
        )
        return await self.start(name, yaml, **options)

    async def stop(self, running: RunningHub) -> None:
        """Stop one hub."""
        self._running.remove(running)
        await running.hub.stop()

    async def stop_all(self) -> None:
        """Stop every hub, workers first."""
        for running in reversed(tuple(self._running)):
            await self.stop(running)


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[Swarm]:
    """Return an empty swarm."""
    made = Swarm(tmp_path)
    yield made
    await made.stop_all()


@pytest.fixture
async def gateway_with_workers(
    swarm: Swarm,
) -> AsyncIterator[Callable[[int], Awaitable[SwarmClient]]]:
    """Return a way to start a gateway with n workers; gives a client of the gateway."""
    clients: list[SwarmClient] = []

    async def start(count: int, extra: str = "") -> SwarmClient:
        gateway = await swarm.gateway(extra=extra)
        for number in range(count):
            await swarm.worker(f"worker-{number}")
        client = await SwarmClient(gateway.url, gateway.token).__aenter__()
        clients.append(client)
        await until(lambda: up_nodes(client), lambda nodes: nodes == count)
        return client

    yield start
    for client in clients:
        await client.__aexit__(None, None, None)


async def up_nodes(client: SwarmClient) -> int:
    """Return how many nodes are up."""
    return sum(node["state"] == "up" for node in await client.nodes())


async def until(
    read: Callable[[], Awaitable[Any]], right: Callable[[Any], bool], timeout_s: float = 60
) -> Any:
    """Return what `read` gives once it is `right`; fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not right(value := await read()):
        assert time.monotonic() < deadline, f"still {value!r} after {timeout_s} s"
        await asyncio.sleep(0.01)
    return value


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Return an open store on a real file."""
    opened = Store.on_file(tmp_path / "swarm_hub.db", Clock())
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Return a PostgreSQL server of the tests' own."""
    with running_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """Return the url of a database that nobody else uses."""
    return postgres_server.new_database()


@pytest.fixture(scope="session")
def modules() -> dict[str, bytes]:
    """Return assembled modules: the examples by their last name, and those of the tests."""

    async def assemble(sandbox: Sandbox) -> dict[str, bytes]:
        texts = {
            name.rpartition("/")[2]: (EXAMPLES / f"{name}.wat").read_text()
            for name in _EXAMPLE_NAMES
        }
        return {
            name: await sandbox.assemble(text) for name, text in (texts | _TEST_MODULES).items()
        }

    return asyncio.run(with_sandbox(assemble))


@pytest.fixture
def warm_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the hubs of `LocalSwarm` from a process that has imported everything."""
    monkeypatch.setattr(LocalHub, "start", start_warm)


@pytest.fixture
def outliving() -> Sequence[LocalHub]:
    """Return the hubs that tests share: a module that has such has this fixture of its own."""
    return ()


@pytest.fixture(autouse=True)
def no_leaks(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    outliving: Sequence[LocalHub],
) -> Iterator[None]:
    """Fail a test that leaves threads, child processes, sockets or asyncio tasks behind."""
    abandoned: list[str] = []
    _watch_ends_of_loops(monkeypatch, abandoned)
    on_a_loop = inspect.iscoroutinefunction(request.function)
    if on_a_loop:
        # The loop goes on to the end of that fixture, which lets what was closed end.
        request.getfixturevalue("no_leaks_on_the_loop")
    threads = set(threading.enumerate())
    children = _offspring()
    sockets = _open_sockets().keys()
    yield
    assert not abandoned, f"asyncio.run cancelled at its end: {abandoned}"
    deadline = time.monotonic() + _LEAKS_END_WITHIN_S
    while True:
        left = {
            thread
            for thread in set(threading.enumerate()) - threads
            # The loop's default executor belongs to the loop, which ends after this check.
            if not thread.name.startswith("asyncio_")
        }
        started = _offspring() - children - {warm.server_pid()}
        processes = [process for pid in started if (process := _left(pid, outliving)) is not None]
        unclosed = [] if on_a_loop else _sockets_but(sockets)
        if not left and not processes and not unclosed:
            return
        assert time.monotonic() < deadline, f"left behind: {left} {processes} {unclosed}"
        time.sleep(0.02)


@pytest.fixture
async def no_leaks_on_the_loop() -> AsyncIterator[None]:
    """Fail a test that leaves tasks on its loop, or sockets, which need the loop to be closed."""
    sockets = _open_sockets().keys()
    yield
    deadline = time.monotonic() + _LEAKS_END_WITHIN_S
    while True:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        unclosed = _sockets_but(sockets)
        if not tasks and not unclosed:
            return
        assert time.monotonic() < deadline, f"left behind: {tasks} {unclosed}"
        await asyncio.sleep(0.01)


def _watch_ends_of_loops(monkeypatch: pytest.MonkeyPatch, abandoned: list[str]) -> None:
    """Note the tasks that `asyncio.run` has to cancel; pytest's own loop ends after the check."""
    cancel_all = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]

    def noting(loop: asyncio.AbstractEventLoop) -> None:
        abandoned.extend(repr(task) for task in asyncio.all_tasks(loop))
        cancel_all(loop)

    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", noting)


def _open_sockets() -> dict[int, int]:
    """Return the sockets of this process: by their inode, as a descriptor is used again."""
    found = {}
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):
            status = os.fstat(int(name))
            if stat.S_ISSOCK(status.st_mode):
                found[status.st_ino] = int(name)
    return found


def _sockets_but(known: Iterable[int]) -> list[str]:
    """Return the open sockets but those and the way to the server that forks for all tests."""
    kept = {*known, warm.server_link()}
    opened = _open_sockets()
    left = [opened[inode] for inode in opened.keys() - kept]
    return [f"socket {descriptor}, {_ends_of(descriptor)}" for descriptor in left]


def _ends_of(descriptor: int) -> str:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as other:
            try:
                return f"{other.getsockname()} to {other.getpeername()}"
            except OSError:
                return f"{other.getsockname()}"
    except OSError:
        return "closed by now"


def _offspring() -> set[int]:
    """Return the processes that this one or one of those started, as the kernel lists them.

    `psutil` reads all processes of the machine for that, which twice a test took a minute in all.
    """
    found: set[int] = set()
    parents = [os.getpid()]
    while parents:
        for listed in Path(f"/proc/{parents.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # it has ended
                started = [int(pid) for pid in listed.read_text().split()]
                parents += started
                found.update(started)
    return found


def _left(pid: int, hubs: Sequence[LocalHub]) -> psutil.Process | None:
    """Return the process if it runs and is none of a hub."""
    try:
        process = psutil.Process(pid)
        is_left = process.status() != psutil.STATUS_ZOMBIE and not _of_a_hub(process, hubs)
    except psutil.NoSuchProcess:
        # It ended while it was looked at, as those of a browser do at any time.
        return None
    return process if is_left else None


def _of_a_hub(process: psutil.Process, hubs: Sequence[LocalHub]) -> bool:
    """Return whether a process is one of these hubs or was started by one, as a sandbox is."""
    line = {process.pid, *(parent.pid for parent in process.parents())} if hubs else set()
    return any(hub.pid in line for hub in hubs)
