"""The control socket: private to its owner, bounded, and there again after any death."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.const import CONTROL_SOCKET
from swarm_hub.control import (
    ControlCommands,
    ControlServer,
    Refused,
    client,
    commands,
    server,
    wire,
)
from swarm_hub.exceptions import HubError, HubNotRunningError
from swarm_hub.tasks import TaskSupervisor
from swarm_hub.util import unix_socket


async def echo(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"said": arguments}


async def fail(_arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    raise KeyError("a defect")


async def refuse(_arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    raise Refused("closed", "not today")


async def hang(_arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    await asyncio.Event().wait()
    return {}


async def much(_arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"text": "x" * wire.ANSWER_MAX_BYTES}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".storage").mkdir(mode=0o700)
    return tmp_path


@pytest.fixture
async def tasks() -> AsyncIterator[TaskSupervisor]:
    made = TaskSupervisor()
    yield made
    await made.stop(timeout_s=3)


async def listening(folder: Path, tasks: TaskSupervisor) -> ControlServer:
    commands = ControlCommands()
    for handler in (echo, fail, refuse, hang, much):
        commands.add(handler.__name__, handler)
    commands.add_status("weather", lambda: "fair")
    made = ControlServer(folder, commands, tasks)
    await made.start()
    return made


@pytest.fixture
async def hub(folder: Path, tasks: TaskSupervisor) -> AsyncIterator[Path]:
    """Return the directory of a hub that listens."""
    made = await listening(folder, tasks)
    yield folder
    await made.stop()


async def said(folder: Path, raw: bytes, *, eof: bool = False) -> list[dict[str, Any]]:
    """Return the answers to raw bytes, up to the end of the connection or one for each line."""
    with unix_socket.short_address(folder / CONTROL_SOCKET) as address:
        reader, writer = await asyncio.open_unix_connection(address, limit=2**21)
    writer.write(raw)
    if eof:
        writer.write_eof()
    async with asyncio.timeout(20):
        lines = [await reader.readline() for _ in range(max(1, raw.count(b"\n")))]
    writer.close()
    await writer.wait_closed()
    return [json.loads(line) for line in lines]


async def test_a_command_gets_its_arguments_and_its_answer(hub: Path) -> None:
    answer = await asyncio.to_thread(client.ask, hub, "echo", for_s=7.5)
    assert answer == {"said": {"for_s": 7.5}}


async def test_status_tells_what_the_parts_of_a_hub_add(hub: Path) -> None:
    assert await asyncio.to_thread(client.ask, hub, "status") == {"weather": "fair"}


async def test_several_requests_share_a_connection(hub: Path) -> None:
    line = b'{"command": "echo", "arguments": {"n": 1}}\n'
    assert await said(hub, line * 3) == [{"ok": True, "answer": {"said": {"n": 1}}}] * 3


@pytest.mark.parametrize(
    ("raw", "code", "text"),
    [
        (
            b'{"command": "paws"}\n',
            "unknown_command",
            "this hub has no command 'paws'; it has echo",
        ),
        (b"pause 2h\n", "invalid_json", "the request: not valid JSON"),
        (b'{"command": "echo", "n": NaN}\n', "invalid_json", "NaN is not a JSON number"),
        (b"\xff\xfe\n", "invalid_json", "not valid UTF-8"),
        (b"[" * 60_000 + b"\n", "invalid_json", "nested too deeply"),
        (b"[]\n", "bad_request", 'expected {"command": "…", "arguments": {…}}'),
        (b'{"command": 5}\n', "bad_request", "expected"),
        (b'{"command": "echo", "arguments": 5}\n', "bad_request", "arguments: expected an object"),
        (b"x" * (wire.REQUEST_MAX_BYTES + 1), "too_long", "a request is one line of at most 65536"),
        (b'{"command": "refuse"}\n', "closed", "not today"),
        (b'{"command": "much"}\n', "too_long", "the answer has more than"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_request_that_is_not_done_says_why(
    hub: Path, raw: bytes, code: str, text: str
) -> None:
    (answer,) = await said(hub, raw)
    assert (answer["ok"], answer["code"]) == (False, code)
    assert text in answer["error"]


async def test_a_request_without_an_end_is_refused(hub: Path) -> None:
    (answer,) = await said(hub, b'{"command": "status"}', eof=True)
    assert answer["error"] == "a request ends with a newline"


async def test_a_defect_is_told_and_the_next_request_answered(
    hub: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = await said(hub, b'{"command": "fail"}\n{"command": "status"}\n')
    assert (first["code"], second["ok"]) == ("fault", True)
    assert "A command of the control socket failed" in caplog.text


async def test_a_command_that_takes_too_long_is_given_up(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "ANSWER_WITHIN_S", 0.01)
    (answer,) = await said(hub, b'{"command": "hang"}\n')
    assert answer["code"] == "timeout"


async def test_a_client_that_says_nothing_is_let_go(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_IDLE_S", 0.01)
    reader, writer = await asyncio.open_unix_connection(hub / CONTROL_SOCKET)
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()


async def test_there_are_only_so_many_connections(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_CONNECTIONS_MAX", 0)
    with pytest.raises(HubError, match="too many connections"):
        await asyncio.to_thread(client.ask, hub, "status")


async def test_the_socket_is_private_and_goes_with_the_hub(
    folder: Path, tasks: TaskSupervisor
) -> None:
    made = await listening(folder, tasks)
    assert (folder / CONTROL_SOCKET).stat().st_mode & 0o777 == 0o600
    await made.stop()
    assert not (folder / CONTROL_SOCKET).exists()
    with pytest.raises(HubNotRunningError, match="no hub runs on this directory"):
        await asyncio.to_thread(client.ask, folder, "status")


async def test_the_socket_of_a_killed_hub_is_replaced(folder: Path, tasks: TaskSupervisor) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(folder / CONTROL_SOCKET))
    with pytest.raises(HubNotRunningError):
        await asyncio.to_thread(client.ask, folder, "status")
    made = await listening(folder, tasks)
    assert await asyncio.to_thread(client.ask, folder, "status") == {"weather": "fair"}
    await made.stop()


async def test_a_path_longer_than_a_sockets_works(tmp_path: Path, tasks: TaskSupervisor) -> None:
    folder = tmp_path / ("long" * 40)
    (folder / ".storage").mkdir(parents=True, mode=0o700)
    made = await listening(folder, tasks)
    open_before = len(os.listdir("/dev/fd"))
    assert await asyncio.to_thread(client.ask, folder, "status") == {"weather": "fair"}
    assert len(os.listdir("/dev/fd")) <= open_before + 1, "but for the connection that may linger"
    await made.stop()
    assert not (folder / CONTROL_SOCKET).exists()


async def test_where_no_short_path_works_the_hub_lives_and_says_so(
    tmp_path: Path, tasks: TaskSupervisor, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(unix_socket, "_DESCRIPTORS", tmp_path / "nowhere")
    folder = tmp_path / ("long" * 40)
    (folder / ".storage").mkdir(parents=True, mode=0o700)
    made = await listening(folder, tasks)
    assert "a socket's path has at most 103 bytes here" in caplog.text
    await made.stop()
    with pytest.raises(HubError, match="choose a configuration directory with a shorter path"):
        await asyncio.to_thread(client.ask, folder, "status")


def test_a_command_has_one_handler() -> None:
    commands = ControlCommands()
    with pytest.raises(ValueError, match="status is there already"):
        commands.add("status", echo)
