"""Taking a new configuration without a restart: all of it or nothing, and whoever asks is told."""

import asyncio
import contextlib
import fcntl
import functools
import json
import logging
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.client import SwarmClient
from swarm_hub.const import TOKENS_FILE
from swarm_hub.control.client import ask
from swarm_hub.core import SimpleReloader
from swarm_hub.exceptions import ConfigError, SetupError
from swarm_hub.helpers.tokens import TokenFile
from tests.conftest import Swarm, until
from tests.helpers.command_line import run_process
from tests.helpers.hub_process import hub_dir, running
from tests.helpers.reloading import Reloading, applied, port_of, waiting
from tests.helpers.rest import live


@pytest.fixture
async def gateway(swarm: Swarm) -> Reloading:
    running = await swarm.gateway()
    base = {
        "gateway": {"admission": "open"},
        "api": {"port": port_of(running)},
        "mesh": {"transport": "loopback"},
    }
    return Reloading(running, base)


async def limits(gateway: Reloading) -> dict[str, Any]:
    status, told = await gateway.call("GET", "/system")
    assert status == 200
    found: dict[str, Any] = told["limits"]
    return found


async def health(gateway: Reloading) -> dict[str, Any]:
    found: dict[str, Any] = (await gateway.call("GET", "/health"))[1]
    return found


async def event_of(gateway: Reloading, event_type: str) -> dict[str, Any]:
    """Return the first event of that kind, once it is there."""
    async with live(gateway.running) as client:
        await client.command("subscribe_events", event_type=event_type, since=0)
        message = await asyncio.wait_for(client.receive(), 10)
        found: dict[str, Any] = message["event"]["data"]
        return found


async def test_what_changed_comes_into_force_and_is_told_with_its_place(gateway: Reloading) -> None:
    before = await limits(gateway)
    assert before["jobs"] == 1000
    done = await gateway.reload(gateway={"jobs": 7}, api={"request": "1MiB"})
    assert applied(done) == {
        "gateway → jobs": (1000, 7), "api → request": (384 * 2**20, 2**20)
    }  # fmt: skip
    (jobs,) = (each for each in done["applied"] if each["path"] == "gateway → jobs")
    text = (gateway.running.folder / "configuration.yaml").read_text().splitlines()
    assert jobs["file"] == "configuration.yaml"
    assert jobs["line"] is not None
    assert '"jobs": 7' in text[jobs["line"] - 1]
    after = await limits(gateway)
    assert (after["jobs"], after["request"]) == (7, 2**20)
    # What is taken out is the default again.
    assert applied(await gateway.reload()) == {
        "gateway → jobs": (7, 1000), "api → request": (2**20, 384 * 2**20)
    }  # fmt: skip
    assert (await gateway.reload())["applied"] == []


async def test_an_invalid_one_changes_nothing_and_every_problem_is_told(
    gateway: Reloading, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.write(gateway={"jobs": 7, "redundancy": 0}, api={"requst": "1MiB"})
    status, told = await gateway.call("POST", "/config/reload")
    assert status == 422
    assert told["code"] == "invalid_configuration"
    assert {each["path"] for each in told["errors"]} == {"gateway → redundancy", "api → requst"}
    for each in told["errors"]:
        assert each["message"].startswith("configuration.yaml:")
    assert "did you mean request?" in str(told["errors"])
    assert (await limits(gateway))["jobs"] == 1000
    status, checked = await gateway.call("POST", "/config/check")
    assert (status, checked["valid"]) == (200, False)
    assert {each["path"] for each in checked["problems"]} == {
        each["path"] for each in told["errors"]
    }
    assert all(
        each["file"] == "configuration.yaml" and each["line"] for each in checked["problems"]
    )
    logged = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert "'t' wanted a reload; nothing was changed:" in logged
    assert sum("redundancy" in line for line in logged) == 1
    refused = await event_of(gateway, "configuration_refused")
    assert refused["by"] == "t"
    assert len(refused["problems"]) == 2


async def test_one_component_that_can_not_prepare_keeps_all_others_from_applying(
    gateway: Reloading,
) -> None:
    def refuse(_config: object) -> None:
        raise SetupError("its platform has a bad day")

    gateway.hub.reloaders["sla"] = SimpleReloader(lambda _config: None, check=refuse)
    with pytest.raises(ConfigError, match="sla: its platform has a bad day"):
        await gateway.reload(gateway={"jobs": 7})
    assert (await limits(gateway))["jobs"] == 1000
    gateway.hub.reloaders["sla"] = SimpleReloader(lambda _config: None)
    await gateway.takes("gateway", jobs=7)
    assert (await limits(gateway))["jobs"] == 7


async def test_keys_that_need_a_restart_are_told_and_stay_as_they_are(
    gateway: Reloading, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert (await health(gateway))["needs_restart"] == []
    done = await gateway.reload(
        api={"port": port_of(gateway.running) + 1}, gateway={"jobs": 7}, sandbox={"memory": "1MiB"},
        content={},
    )  # fmt: skip
    assert applied(done) == {"gateway → jobs": (1000, 7)}
    assert waiting(done) == {
        "api → port": (port_of(gateway.running), port_of(gateway.running) + 1),
        "sandbox → memory": (128 * 2**20, 2**20),
        "content": (None, "configured"),
    }
    assert (await health(gateway))["needs_restart"] == ["api → port", "sandbox → memory", "content"]
    assert "These keys need a restart: api → port, sandbox → memory, content" in caplog.text
    # They are told again until they are taken back, or the hub is restarted.
    assert list(waiting(await gateway.reload(content={}))) == ["content"]
    assert not (await gateway.reload())["needs_restart"]
    assert (await health(gateway))["needs_restart"] == []


async def test_a_section_for_what_is_there_anyway_is_reloaded(gateway: Reloading) -> None:
    done = await gateway.reload(sla={"factor": 3})
    assert applied(done) == {"sla → factor": (2, 3)}
    assert applied(await gateway.reload()) == {"sla → factor": (3, 2)}


async def test_secrets_are_left_out_of_what_is_told(
    gateway: Reloading, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (gateway.running.folder / "secrets.yaml").write_text("place: sesame-street.example\n")
    path = gateway.running.folder / "configuration.yaml"
    gateway.write()
    text = path.read_text().replace('"api": {', '"api": {"allowed_hosts": [!secret place],', 1)
    path.write_text(text)
    status, done = await gateway.call("POST", "/config/reload")
    assert status == 200, done
    assert [each["path"] for each in done["applied"]] == ["api → allowed_hosts"]
    status, told = await gateway.call("GET", "/config")
    assert status == 200
    (hosts,) = (each for each in told["values"] if each["path"] == "api → allowed_hosts")
    assert hosts["reloadable"] is True
    await event_of(gateway, "configuration_reloaded")
    status, _ = await gateway.call("GET", "/system", headers={"Host": "sesame-street.example"})
    assert status == 200
    for said in (json.dumps(done), json.dumps(told), caplog.text):
        assert "sesame" not in said


async def test_only_administrators_reload_and_see_the_configuration(gateway: Reloading) -> None:
    tokens = TokenFile(gateway.hub.storage_path(TOKENS_FILE))
    _, secret = tokens.create("reader", "read", time.time())
    for method, path in (
        ("GET", "/config"), ("POST", "/config/check"), ("POST", "/config/reload"),
    ):  # fmt: skip
        assert (await gateway.call(method, path, token=secret))[0] == 403


async def test_reloads_at_the_same_time_go_one_after_the_other(gateway: Reloading) -> None:
    at_once, most = 0, 0

    class Slow:
        async def prepare(self, _config: object) -> None:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0)

        def apply(self) -> None:
            nonlocal at_once
            at_once -= 1

    gateway.hub.reloaders["sla"] = Slow()
    gateway.write(gateway={"jobs": 7})
    answers = await asyncio.gather(
        *(gateway.call("POST", "/config/reload") for _ in range(6)),
        gateway.reload(gateway={"jobs": 7}),
    )
    assert most == 1
    done = [each[1] if isinstance(each, tuple) else each for each in answers]
    # One of them found what the others did not have to do any more.
    assert sum(len(each["applied"]) for each in done) == 1


async def test_the_event_says_who_changed_what(gateway: Reloading) -> None:
    await gateway.reload(gateway={"jobs": 7}, api={"port": 1})
    event = await event_of(gateway, "configuration_reloaded")
    assert event == {
        "by": "a test", "applied": ["gateway → jobs"], "needs_restart": ["api → port"]
    }  # fmt: skip


async def test_the_command_says_old_and_new_values(gateway: Reloading) -> None:
    run_beside = functools.partial(asyncio.to_thread, run_process)
    gateway.write(gateway={"jobs": 7}, sandbox={"memory": "1MiB"})
    here = ("-c", gateway.running.folder)
    done = await run_beside("reload", *here)
    assert done.code == 0
    assert done.out == (
        "gateway → jobs: 1000 -> 7\n"
        "sandbox → memory: 134217728 -> 1048576  # needs a restart\n"
    )  # fmt: skip
    gateway.write(gateway={"jobs": "seven"})
    done = await run_beside("reload", *here)
    assert done.code == 1
    assert "configuration.yaml:" in done.err
    assert "gateway → jobs: expected a whole" in done.err
    assert done.err.endswith("Nothing was changed\n")
    told = json.loads((await run_beside("reload", "--json", *here)).out)
    assert told["reloaded"] is False
    assert [each["path"] for each in told["problems"]] == ["gateway → jobs"]


@pytest.mark.slow
async def test_a_job_does_not_notice_twenty_reloads_half_of_them_invalid(
    swarm: Swarm, gateway: Reloading, modules: dict[str, bytes]
) -> None:
    n_shards = 5000
    await swarm.worker("one")
    await swarm.worker("two")
    # On a busy machine a shard that takes long is given to another node too, reload or not.
    await gateway.reload(sla={"factor": 49})
    async with SwarmClient(gateway.running.url, gateway.running.token) as client:
        job = await client.submit(modules["spin"], range(n_shards), shard_size=1, reduce="sum")

        async def progress() -> int:
            status, told = await gateway.call("GET", f"/jobs/{job.id}")
            assert status in (200, 202, 206)
            return int(told["progress"]["items_done"])

        outcomes, during = [], 0
        for number in range(20):
            # While the job goes on, not before or after it.
            done = await until(progress, lambda n, at=number: n >= at * n_shards // 40, 120)
            during += done < n_shards
            sections: dict[str, Any] = {
                "gateway": {"jobs": 100 + number, "receipts": "all" if number % 4 else "none"},
                "sla": {"factor": 50 + number},
                "scheduler": {"unproven_share": 0.1 + number / 50},
                "sandbox": {"output": f"{1 + number}MiB"},
            }
            if number % 2:
                sections["gateway"]["jobs"] = "many"
            try:
                outcomes.append(len((await gateway.reload(**sections))["applied"]))
            except ConfigError:
                outcomes.append(0)
        assert during >= 15, "the reloads took longer than the job"
        assert [bool(each) for each in outcomes] == [True, False] * 10
        await job.result(timeout=120)
        assert await progress() == n_shards
        shards = await client.shards(job)
        assert sum(each.n_items for each in shards) == n_shards
        # Each was done by one attempt, and none is done twice.
        assert [each.attempts for each in shards if len(each.attempts) != 1] == []
    assert (await limits(gateway))["jobs"] == 118


@pytest.mark.process
def test_sighup_reloads_a_hub_and_does_not_end_it(tmp_path: Path) -> None:
    folder = hub_dir(tmp_path, "hub: {name: calm}\n")
    with running(folder) as process:
        assert process.stderr is not None
        with (folder / "configuration.yaml").open("a") as file:
            file.write("sla: {factor: 3}\n")
        process.send_signal(signal.SIGHUP)
        while "The configuration was reloaded by 'SIGHUP'" not in (
            line := process.stderr.readline()
        ):
            assert line, "the hub ended"
        assert "sla → factor: 2 -> 3" in line
        with (folder / "configuration.yaml").open("a") as file:
            file.write("nonsense: {}\n")
        process.send_signal(signal.SIGHUP)
        while "there is no such component" not in (line := process.stderr.readline()):
            assert line, "the hub ended"
        assert ask(folder, "status")["hub"]["state"] == "running"


@pytest.mark.process
def test_a_terminal_that_is_closed_stops_the_hub_in_it(tmp_path: Path) -> None:
    folder = hub_dir(tmp_path)
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        # Whoever runs the tests with nohup has it ignored.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    path = tmp_path / "log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "swarm_hub", "run", "-c", str(folder)],
            stdin=theirs, stderr=log, preexec_fn=take_terminal,
        )  # fmt: skip
    try:
        os.close(theirs)
        while "is ready" not in path.read_text():
            assert process.poll() is None, path.read_text()
            time.sleep(0.05)
        os.close(ours)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        said = path.read_text()
        assert process.returncode == 0, said
        assert "is stopping" in said
        assert "reloaded" not in said
    finally:
        process.kill()
        process.wait()
        process.wait()
