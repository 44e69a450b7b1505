"""`swarm-hub status`, `pause` and `resume`: what the owner says on the device."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import Swarm, until
from tests.helpers.command_line import Run

RunBeside = Callable[..., Any]


async def test_status_of_a_gateway_tells_its_role_and_its_workers(
    swarm: Swarm, run_beside: RunBeside
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("phone")

    async def told() -> str:
        done = await run_beside("status", "-c", gateway.folder)
        assert done.code == 0, done.err
        return str(done.out)

    out = await until(told, lambda text: "connected workers: phone" in text)
    assert out.startswith("gateway: gateway, running, up ")
    done = await run_beside("status", "-c", gateway.folder, "--json")
    found = json.loads(done.out)
    assert found["hub"]["roles"] == ["gateway"]
    assert "worker" not in found


def test_status_without_a_hub_says_that_none_runs(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    run("init", "-c", folder)
    done = run("status", "-c", folder)
    assert done.code == 3
    assert "no hub runs on this directory; start it with `swarm-hub run`" in done.err
