"""`swarm-hub status`, `pause` and `resume`: what the owner says on the device."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import Swarm, until
from tests.helpers.command_line import Run
from tests.helpers.hub_process import hub_dir, running

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


async def test_the_owner_pauses_a_worker_and_resumes_it(
    swarm: Swarm, run_beside: RunBeside
) -> None:
    phone = await swarm.worker("phone")
    here = ("-c", phone.folder)
    done = await run_beside("pause", "2h", *here)
    assert done.code == 0
    assert done.err.startswith("Paused by the owner until ")
    told = (await run_beside("status", *here)).out.splitlines()
    assert told[0].startswith("phone: worker, running, up ")
    assert told[1:3] == ["connected to no other hub", "running 0, waiting 0, results to deliver 0"]
    assert told[3].startswith("takes no work: paused by the owner until ")
    done = await run_beside("resume", *here)
    assert (done.code, done.err) == (0, "Resumed; it takes work\n")
    done = await run_beside("resume", *here)
    assert done.err == "It was not paused; it takes work\n"
    assert (await run_beside("status", *here)).out.endswith("takes work\n")
    told = json.loads((await run_beside("pause", "2h", "--json", *here)).out)
    assert told["reason"].startswith("paused by the owner until ")
    told = json.loads((await run_beside("resume", "--json", *here)).out)
    assert told == {"was_paused": True, "refuses": None}
    for wrong in ("soon", "-1", "0"):
        done = await run_beside("pause", wrong, *here)
        assert (done.code, "Traceback" in done.err) in ((1, False), (2, False))


async def test_a_hub_that_is_no_worker_says_so_when_it_is_paused(
    swarm: Swarm, run_beside: RunBeside
) -> None:
    gateway = await swarm.gateway()
    for command in ("pause", "resume"):
        done = await run_beside(command, "-c", gateway.folder)
        assert done.code == 1
        assert "the hub there is no worker" in done.err


def test_a_pause_and_the_socket_outlive_the_death_of_the_hub(run: Run, tmp_path: Path) -> None:
    worker = "worker: {charging_only: false, min_battery: 0}\n"
    folder = hub_dir(tmp_path, worker)
    with running(folder) as hub:
        assert run("pause", "-c", folder).code == 0
        hub.kill()
        hub.wait(30)
    assert run("status", "-c", folder).code == 3
    with running(folder):
        told = run("status", "-c", folder)
        assert "takes no work: paused by the owner" in told.out, told.err
        assert run("resume", "-c", folder).code == 0
