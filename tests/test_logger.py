"""The section `logger:`: levels, form and file of the log, while the hub runs and by the API."""

import json
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from swarm_hub.control.client import ask
from swarm_hub.helpers.tokens import TokenFile
from tests.conftest import RunningHub, Swarm
from tests.helpers.command_line import run_process
from tests.helpers.hub_process import hub_dir
from tests.helpers.rest import call

MESH = "swarm_hub.components.mesh"


@pytest.fixture
async def gateway(swarm: Swarm) -> AsyncIterator[RunningHub]:
    ours = [logging.getLogger(name) for name in ("swarm_hub", MESH, "custom_components")]
    before = [logger.level for logger in ours]
    yield await swarm.gateway()
    for logger, level in zip(ours, before, strict=True):
        logger.setLevel(level)


async def test_levels_are_read_and_changed_while_the_hub_runs(gateway: RunningHub) -> None:
    assert await call(gateway, "GET", "/logger") == (
        200, {"default": "info", "logs": {}, "json": False, "file": None},
    )  # fmt: skip
    changed = {"default": "warning", "logs": {"mesh": "debug"}}
    status, told = await call(gateway, "PUT", "/logger", json=changed)
    assert (status, told["default"], told["logs"]) == (200, "warning", {"mesh": "debug"})
    assert logging.getLogger(f"{MESH}.service").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("swarm_hub.core").isEnabledFor(logging.INFO)
    status, told = await call(gateway, "PUT", "/logger", json={"logs": {"mesh": None}})
    assert (status, told["default"], told["logs"]) == (200, "warning", {})
    assert not logging.getLogger(f"{MESH}.service").isEnabledFor(logging.INFO)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"default": "loud"}, "expected one of debug, info, warning, error, critical"),
        ({"logs": {"mesh": "loud"}}, "expected one of debug"),
        ({"logs": {"mess": "debug"}}, "there is no such component or logger here"),
        ({"logs": ["mesh"]}, "expected at most 64 names"),
        ({"levels": {}}, "unknown key"),
    ],
)
async def test_what_is_no_level_or_logger_is_refused(
    gateway: RunningHub, body: object, said: str
) -> None:
    status, told = await call(gateway, "PUT", "/logger", json=body)
    assert status == 422
    assert said in told["message"]
    assert (await call(gateway, "GET", "/logger"))[1]["default"] == "info"


async def test_only_administrators_change_levels(gateway: RunningHub) -> None:
    tokens = TokenFile(gateway.hub.storage_path("tokens.json"))
    _, secret = tokens.create("reader", "read", time.time())
    assert (await call(gateway, "GET", "/logger", token=secret))[0] == 200
    assert (await call(gateway, "PUT", "/logger", json={}, token=secret))[0] == 403


@contextmanager
def hub(folder: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a hub until it listens to its owner."""
    process = subprocess.Popen(
        [sys.executable, "-m", "swarm_hub", "run", "-c", str(folder), "--json", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.process
def test_form_and_file_are_changed_by_a_reload(tmp_path: Path) -> None:
    folder = hub_dir(tmp_path)
    path = folder / "configuration.yaml"
    plain = path.read_text()
    path.write_text(plain + "logger: {file: first.log, logs: {mesh: error}}\n")
    with hub(folder):
        first = folder / "first.log"
        assert "is ready after" in first.read_text()
        assert first.stat().st_mode & 0o777 == 0o600
        assert "WARNING" in first.read_text()
        path.write_text(plain + "logger: {file: second.log, json: true, default: debug}\n")
        assert ask(folder, "reload")["reloaded"]
        lines = [json.loads(line) for line in (folder / "second.log").read_text().splitlines()]
        assert [each["level"] for each in lines if "was reloaded" in each["message"]] == ["info"]
        assert {"time", "level", "logger", "message"} <= lines[0].keys()
        size = first.stat().st_size
        # One that can't be written changes nothing.
        path.write_text(plain + "logger: {file: nowhere/third.log}\n")
        refused = ask(folder, "reload")
        assert not refused["reloaded"]
        assert "nowhere/third.log can't be written" in refused["problems"][0]["message"]
        # A message of a stranger at debug fills the file until it is begun anew.
        path.write_text(
            plain + "logger: {file: second.log, default: debug, max_size: 64KiB, keep: 1}\n"
        )
        assert ask(folder, "reload")["reloaded"]
        deadline = time.monotonic() + 20
        while not (folder / "second.log.1").exists():
            ask(folder, "reload")
            path.write_text(plain + "".join(f"nonsense{n}: {{}}\n" for n in range(20)))
            assert time.monotonic() < deadline
        assert (folder / "second.log").stat().st_size <= 64 * 1024
        assert not (folder / "second.log.2").exists()
        assert first.stat().st_size == size


@pytest.mark.process
def test_what_the_command_line_says_of_the_log_counts_more(tmp_path: Path) -> None:
    folder = hub_dir(tmp_path, "logger: {file: of-the-file.log, json: false}\n")
    with hub(folder, "--log", str(tmp_path / "of-the-command.log"), "--log-json"):
        lines = (tmp_path / "of-the-command.log").read_text().splitlines()
        assert any("is ready after" in json.loads(line)["message"] for line in lines)
    assert not (folder / "of-the-file.log").exists()


@pytest.mark.process
def test_a_file_that_can_not_be_written_keeps_the_hub_from_starting(tmp_path: Path) -> None:
    folder = hub_dir(tmp_path, "logger: {file: nowhere/hub.log}\n")
    for command in ("check", "run"):
        done = run_process(command, "-c", folder)
        assert done.code == 1
        assert "nowhere/hub.log can't be written: No such file or directory" in done.err
