"""`/diagnostics` tells what helps to find a fault, and no secret, wherever it was put."""

import json
import logging
from pathlib import Path

import pytest

from swarm_hub.components.api.diagnostics import WarningsKept
from swarm_hub.const import ADMIN_TOKEN_FILE, STORAGE_DIR, TOKENS_FILE
from swarm_hub.helpers.tokens import TokenFile
from swarm_hub.util.redaction import REDACTED
from tests.conftest import Swarm
from tests.helpers.rest import call, form

PLANTED = "hunter2-planted"


async def test_it_tells_no_secret(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modules: dict[str, bytes]
) -> None:
    monkeypatch.setenv("PLANTED", f"{PLANTED}-environment")
    folder = tmp_path / "gateway"
    (folder / STORAGE_DIR).mkdir(parents=True, mode=0o700)
    (folder / STORAGE_DIR / ADMIN_TOKEN_FILE).write_text(f"swh_{PLANTED}-admin")
    (folder / "secrets.yaml").write_text(f"label: {PLANTED}-label\n")
    hub = await swarm.gateway(
        extra="worker: {charging_only: false, min_battery: 0, node_labels: {room: !secret label}}\n"
    )
    spec = {"split": "lines", "env": {"PASS": f"{PLANTED}-env"}}
    code, answer = await call(hub, "POST", "/jobs", data=form(modules["cat"], b"a\n", spec))
    assert code == 202, answer
    logger = logging.getLogger("swarm_hub.tests")
    logger.warning("the token swh_%s-logged is refused", PLANTED)
    logger.warning("can't reach postgresql://me:%s@db/x", PLANTED)
    logger.warning("bad link swarm://host/%s", PLANTED)
    code, told = await call(hub, "GET", "/diagnostics")
    assert code == 200
    text = json.dumps(told)
    assert PLANTED not in text
    assert hub.token not in text
    for key in (folder / STORAGE_DIR).glob("*.key"):
        assert key.read_bytes().hex() not in text
    # It was looked for where it would have been.
    assert told["configuration"]["worker"]["node_labels"] == {"room": REDACTED}
    assert sum(REDACTED in line for line in told["warnings"]) >= 3
    assert told["status"]["hub"]["name"] == "gateway"
    assert "gateway" in told["components"]
    assert told["store"]["disk_bytes"] > 0
    assert told["versions"]["aiohttp"]


@pytest.mark.parametrize("scope", ["read", "submit"])
async def test_only_an_admin_may_look(swarm: Swarm, scope: str) -> None:
    hub = await swarm.gateway()
    _, secret = TokenFile(hub.folder / STORAGE_DIR / TOKENS_FILE).create("x", scope, 0.0)
    assert (await call(hub, "GET", "/diagnostics", token=secret))[0] == 403


def test_warnings_are_bounded_lines() -> None:
    kept = WarningsKept()
    for number in range(1000):
        record = logging.LogRecord(
            "x", logging.WARNING, "", 0, f"{number}\n\x1b" + "y" * 10_000, None, None
        )
        kept.handle(record)
    assert len(kept.lines) == 200
    assert kept.lines[-1].count("\n") == 0
    assert "\x1b" not in kept.lines[-1]
    assert all(len(line) < 700 for line in kept.lines)
