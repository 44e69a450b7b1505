"""The audit log: one line for each change, by whom and from where, and no secret in it."""

import re
import stat
import time
from pathlib import Path

import pytest

from swarm_hub.client import SwarmClient
from swarm_hub.components.api import audit
from swarm_hub.const import AUDIT_FILE, STORAGE_DIR, TOKENS_FILE
from swarm_hub.helpers.tokens import TokenFile
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call, live


@pytest.fixture
async def hub(swarm: Swarm) -> RunningHub:
    return await swarm.gateway()


def path(hub: RunningHub) -> Path:
    return hub.folder / STORAGE_DIR / AUDIT_FILE


def lines(hub: RunningHub) -> list[str]:
    found = path(hub).read_text(encoding="utf-8").splitlines()
    return [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 ", "", line) for line in found]


async def test_changes_are_noted_and_looks_are_not(hub: RunningHub) -> None:
    tokens = TokenFile(hub.folder / STORAGE_DIR / TOKENS_FILE)
    made, secret = tokens.create("ci", "submit", time.time(), owner="anna")
    assert (await call(hub, "GET", "/jobs"))[0] == 200
    assert not path(hub).exists()
    body = {"network": "203.0.113.0/24", "reason": "hush"}
    await call(hub, "POST", "/networks/ban", json=body)
    await call(hub, "POST", "/networks/ban?token=hush", json=body, token=secret)
    await call(hub, "POST", "/networks/ban", json=body, token="swh_wrong")
    async with SwarmClient(f"unix://{hub.folder}/{STORAGE_DIR}/api.sock") as client:
        await client.unban_network("203.0.113.0/24")
    (own,) = [token for token in tokens.all() if token.name == "t"]
    assert lines(hub) == [
        f"t (token {own.id}, owner t) from 127.0.0.1: POST /api/v1/networks/ban 200",
        f"ci (token {made.id}, owner anna) from 127.0.0.1: POST /api/v1/networks/ban 403",
        "local (token local, owner local) from this device: POST /api/v1/networks/unban 200",
    ]
    assert stat.S_IMODE(path(hub).stat().st_mode) == 0o600
    assert "hush" not in path(hub).read_text()


async def test_commands_of_the_websocket_are_noted_as_requests_are(hub: RunningHub) -> None:
    _, secret = TokenFile(hub.folder / STORAGE_DIR / TOKENS_FILE).create("ci", "read", time.time())
    for token in (hub.token, secret):
        async with live(hub, token=token) as client:
            await client.command("nodes/list")
            await client.command("nodes/drain", node_id="nobody")
            await client.command("nodes/drain", nobody="hush")
    told = [line.partition(" from ")[2] for line in lines(hub)]
    assert told == [
        "127.0.0.1: command nodes/drain unknown_node",
        "127.0.0.1: command nodes/drain invalid_format",
        "127.0.0.1: command nodes/drain wrong_scope",
        "127.0.0.1: command nodes/drain wrong_scope",
    ]


async def test_nobody_writes_a_line_of_their_own(hub: RunningHub) -> None:
    await call(hub, "POST", "/nodes/a%0A2030-01-01T00:00:00.000Z%20root%1b/ban", json={})
    (line,) = lines(hub)
    assert line.endswith("/ban 404")
    assert "\x1b" not in line


async def test_its_size_is_bounded(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "FILE_MAX_BYTES", 250)
    for _ in range(16):
        await call(hub, "POST", "/networks/unban", json={"network": "203.0.113.0/24"})
    files = sorted(path(hub).parent.glob(f"{AUDIT_FILE}*"))
    assert len(files) == 1 + audit.FILES_KEPT
    assert all(each.stat().st_size <= 250 for each in files)
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}


async def test_one_that_can_not_be_written_is_said_once_and_stops_nobody(
    hub: RunningHub, caplog: pytest.LogCaptureFixture
) -> None:
    path(hub).mkdir()
    for _ in range(3):
        code, _ = await call(hub, "POST", "/networks/ban", json={"network": "203.0.113.0/24"})
        assert code == 200
    assert sum("can't be written" in line for line in caplog.messages) == 1
