"""Each repair appears with its cause and goes with it, by itself."""

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from swarm_hub import setup
from swarm_hub.cli import main
from swarm_hub.components import worker as worker_component
from swarm_hub.components.gateway import NODE_LINKS
from swarm_hub.components.gateway.nodes.losses import LOSSES
from swarm_hub.components.worker.repairs import KILLS_FILE
from swarm_hub.const import REPAIRS_FILE, STORAGE_DIR
from swarm_hub.exceptions import SetupError
from swarm_hub.helpers.signing_keys import KeyFiles
from swarm_hub.models.envelope import key_id
from swarm_hub.models.event import EphemeralEvent
from swarm_hub.models.node import WorkerOffer
from swarm_hub.repairs import Repair
from swarm_hub.storage.engine import space
from swarm_hub.util.clock import SETTLED_AFTER_S
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.envelopes import peer_id, state_is
from tests.helpers.rest import call


async def all_of(hub: RunningHub) -> dict[str, dict[str, Any]]:
    status, body = await call(hub, "GET", "/repairs")
    assert status == 200, body
    return {each["id"]: each for each in body["repairs"]}


async def appears(hub: RunningHub, repair_id: str) -> dict[str, Any]:
    found = await until(lambda: all_of(hub), lambda found: repair_id in found)
    return dict(found[repair_id])


async def goes(hub: RunningHub, repair_id: str) -> None:
    await until(lambda: all_of(hub), lambda found: repair_id not in found)


def events(hub: RunningHub, repair_id: str) -> list[str]:
    """Return what is told of a repair from now on: the type of each event."""
    told: list[str] = []

    def hear(event: EphemeralEvent) -> None:
        if event.data.get("id") == repair_id:
            told.append(event.event_type)

    hub.hub.bus.listen(EphemeralEvent, hear)
    return told


async def command(hub: RunningHub, *arguments: str) -> str:
    """Run a command beside the hub."""
    done = await asyncio.to_thread(
        CliRunner().invoke, main, [*arguments, "-c", str(hub.folder)], standalone_mode=False
    )
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    return str(done.stdout)


async def of_command(hub: RunningHub, *arguments: str) -> list[str]:
    """Return the ids of the repairs that the command line tells of."""
    found = json.loads(await command(hub, "repairs", "--json", *arguments))
    return [each["id"] for each in found]


def one(**said: Any) -> Repair:
    return Repair("oven", said.pop("severity", "warning"), "It is hot", "It burns", "Open", **said)


async def test_a_hub_that_is_well_has_none_but_notices(swarm: Swarm) -> None:
    hub = await swarm.gateway()
    assert {each["severity"] for each in (await all_of(hub)).values()} <= {"notice"}
    _, health = await call(hub, "GET", "/health")
    assert health["problems"] == []


async def test_a_clock_that_jumped_until_it_has_run_for_an_hour(swarm: Swarm) -> None:
    hub = await swarm.gateway()
    told = events(hub, "clock")
    hub.clock.jump_s = 7200
    hub.clock.time()
    found = await appears(hub, "clock")
    assert found["severity"] == "warning"
    assert found["title"].startswith("the clock jumped forward by 7200 s")
    assert found["command"] == "timedatectl set-ntp true"
    _, health = await call(hub, "GET", "/health")
    assert health["problems"] == [found["title"]]
    hub.clock.offset_s += SETTLED_AFTER_S
    await goes(hub, "clock")
    assert told == ["repair_raised", "repair_gone"]


async def test_a_disk_that_runs_low_and_then_full(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [2**34]
    monkeypatch.setattr(
        space.os, "statvfs", lambda _folder: SimpleNamespace(f_bavail=free[0], f_frsize=1)
    )
    hub = await swarm.gateway()
    told = events(hub, "disk")
    assert "disk" not in await all_of(hub)
    free[0] = 200 * 1024**2
    await hub.hub.store.look_at_space()
    low = await appears(hub, "disk")
    assert (low["severity"], low["title"]) == ("warning", "The disk runs low: 200 MiB are free")
    # It stays hidden only as long as it does not get worse.
    assert (await call(hub, "POST", "/repairs/disk/ignore", json={}))[1]["ignored"] is True
    assert (await all_of(hub))["disk"]["ignored"] is True
    free[0] = 5 * 1024**2
    await hub.hub.store.look_at_space()
    full = (await all_of(hub))["disk"]
    assert (full["severity"], full["ignored"]) == ("error", False)
    assert full["since"] == low["since"]
    free[0] = 2**34
    await hub.hub.store.look_at_space()
    await goes(hub, "disk")
    assert told == ["repair_raised", "repair_raised", "repair_gone"]


async def test_a_sqlite_with_the_wal_reset_bug(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = await swarm.gateway()
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))
    assert (await appears(hub, "sqlite"))["severity"] == "notice"
    _, health = await call(hub, "GET", "/health")
    assert health["problems"] == []
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    await goes(hub, "sqlite")


class _Link:
    """A node of this process that does nothing."""

    node_id = "not-a-peer-id"
    rtt_s = None

    def drain(self, _reason: str | None) -> None:
        """Take it in."""


async def test_a_node_that_flaps_until_it_is_drained_by_the_button_or_stays(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    worker = await swarm.worker("worker")
    node_id = peer_id(worker)
    await state_is(gateway, node_id, "up")
    await swarm.stop(worker)
    await state_is(gateway, node_id, "down")
    links, link = gateway.hub.services[NODE_LINKS], _Link()
    link.node_id = node_id
    for _ in range(LOSSES - 1):
        assert f"flaps.{node_id}" not in await all_of(gateway)
        links.connected(link, "worker", WorkerOffer())  # type: ignore[arg-type]
        links.disconnected(node_id, "gone")
    found = await appears(gateway, f"flaps.{node_id}")
    assert "The node worker was lost 5 times in 30 min" in found["title"]
    assert found["button"] == "Drain it"
    status, body = await call(gateway, "POST", f"/repairs/flaps.{node_id}/fix")
    assert (status, body) == (200, {"id": f"flaps.{node_id}", "gone": True})
    await call(gateway, "POST", f"/nodes/{node_id}/undrain")
    await appears(gateway, f"flaps.{node_id}")
    gateway.clock.monotonic_offset_s += 1801
    await goes(gateway, f"flaps.{node_id}")


async def test_a_worker_that_does_not_trust_its_gateway_is_seen_from_both_sides(
    swarm: Swarm,
) -> None:
    gateway = await swarm.gateway()
    gateway_id, key = swarm.keys("gateway")
    bootnode = f"mesh: {{transport: loopback, bootnodes: [/memory/0/p2p/{gateway_id}]}}\n"
    worker = await swarm.start("worker", f"worker: {{charging_only: false}}\n{bootnode}")
    there = f"untrusted.{peer_id(worker)}"
    assert key in (await appears(gateway, there))["fix"]
    here = f"trust.{gateway_id}"
    assert here in await of_command(worker)
    assert f"signer: trust: [{key}]" in await command(worker, "repairs")
    await swarm.stop(worker)
    worker = await swarm.worker("worker")
    await state_is(gateway, peer_id(worker), "up")
    await goes(gateway, there)
    assert here not in await of_command(worker)


async def test_a_key_of_its_own_that_is_revoked_and_one_that_it_trusts(swarm: Swarm) -> None:
    other = "ab" * 32
    hub = await swarm.gateway(extra=f"signer: {{trust: ['{other}']}}\n")
    files = KeyFiles(hub.hub.storage_path())
    kid = files.own(hub.clock.time()).kid
    assert "key.own" not in await all_of(hub)
    for each in (kid, key_id(bytes.fromhex(other))):
        files.revoke(each, "stolen", hub.clock.time())
    await hub.hub.control.run({"command": "reload_keys"})
    own = await appears(hub, "key.own")
    assert own["severity"] == "error"
    assert own["title"].endswith("is revoked: stolen")
    retired = await appears(hub, f"key.retired.{key_id(bytes.fromhex(other))}")
    assert f"Take {other} out of signer: trust" in retired["fix"]
    await swarm.stop(hub)
    (hub.folder / STORAGE_DIR / "signer.key").unlink()
    hub = await swarm.gateway()
    assert not [each for each in await all_of(hub) if each.startswith("key.")]


async def test_a_backup_that_failed_until_one_succeeds(swarm: Swarm, tmp_path: Path) -> None:
    (swarm_dir := tmp_path / "gateway").mkdir()
    blocked = swarm_dir / "safe"
    blocked.write_text("no directory")
    hub = await swarm.gateway(extra="storage: {backup: {every: 1s, directory: safe}}\n")
    found = await appears(hub, "backup")
    assert (found["severity"], found["button"]) == ("error", "Back up now")
    status, body = await call(hub, "POST", "/repairs/backup/fix")
    assert (status, body["gone"]) == (200, False)
    blocked.unlink()
    status, body = await call(hub, "POST", "/repairs/backup/fix")
    assert (status, body["gone"]) == (200, True)
    assert list(blocked.iterdir())


async def test_an_api_that_is_open_to_the_network_without_tls(swarm: Swarm) -> None:
    hub = await swarm.gateway()
    assert "api.open" not in await all_of(hub)
    await swarm.stop(hub)
    text = (hub.folder / "configuration.yaml").read_text()
    hub = await swarm.start(
        "gateway", text.partition("\n")[2].replace("api: {", "api: {host: 0.0.0.0, "),
        int(hub.url.rpartition(":")[2]),
    )  # fmt: skip
    assert "api: tls" in (await appears(hub, "api.open"))["fix"]


async def test_a_phone_that_kills_its_hub_until_it_does_not_for_a_day(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_component, "is_android", lambda: True)
    extra = "worker: {charging_only: false, min_battery: 0}\n"
    for life in range(4):
        hub = await swarm.gateway(extra=extra)
        assert ("phone.killed" in await all_of(hub)) == (life == 3)
        kept = hub.hub.storage_path(KILLS_FILE)
        as_if_killed = kept.read_bytes()
        await swarm.stop(hub)
        kept.write_bytes(as_if_killed)
    kept.unlink()
    kept.write_bytes(as_if_killed.replace(b'"runs": true', b'"runs": false'))
    hub = await swarm.gateway(extra=extra)
    found = await appears(hub, "phone.killed")
    assert "3 times" in found["title"]
    assert found["command"].startswith("adb shell")
    hub.clock.offset_s += 86_400
    await goes(hub, "phone.killed")


RAISES = {
    "import": "raise RuntimeError('torn')\n",
    "async_setup": "async def async_setup(hub, config):\n    raise RuntimeError('torn')\n",
    "start": (
        "async def async_setup(hub, config):\n    async def start():\n"
        "        raise RuntimeError('torn')\n    hub.on_start(start)\n    return True\n"
    ),
    "open": (
        "async def async_setup(hub, config):\n    async def start():\n"
        "        raise RuntimeError('torn')\n    hub.on_open(start)\n    return True\n"
    ),
}


def custom(folder: Path, code: str) -> None:
    component = folder / "custom_components" / "mine"
    component.mkdir(parents=True, exist_ok=True)
    (component / "manifest.json").write_text(
        '{"domain": "mine", "name": "Mine", "version": "1", "documentation": "none"}'
    )
    (component / "__init__.py").write_text(f"CONFIG_SCHEMA = lambda value: value\n{code}")


@pytest.mark.parametrize("where", RAISES)
async def test_a_component_that_fails_takes_no_other_down(
    swarm: Swarm, tmp_path: Path, where: str
) -> None:
    swarm.keys("gateway")
    custom(tmp_path / "gateway", RAISES[where])
    hub = await swarm.gateway(extra="mine: {}\n")
    found = await appears(hub, "component.mine")
    assert found["severity"] == "error"
    assert "torn" in found["fix"]
    _, system = await call(hub, "GET", "/system")
    assert "mine" not in system["components"]
    assert {"gateway", "api", "frontend", "repairs"} <= set(system["components"])
    custom(hub.folder, "async def async_setup(hub, config):\n    return True\n")
    await swarm.stop(hub)
    # Code is imported once in a process, so what was imported does not change here.
    hub = await swarm.gateway(extra="mine: {}\n" if where == "import" else "")
    assert "component.mine" not in await all_of(hub)


async def test_a_component_whose_start_never_ends_is_left_behind(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "_START_MAX_S", 0.5)
    swarm.keys("gateway")
    never = "import asyncio\n" + RAISES["start"].replace(
        "raise RuntimeError('torn')", "await asyncio.Event().wait()"
    )
    custom(tmp_path / "gateway", never)
    hub = await swarm.gateway(extra="mine: {}\n")
    assert "took too long" in (await appears(hub, "component.mine"))["title"]


async def test_a_component_that_a_role_needs_still_stops_the_start(
    swarm: Swarm, tmp_path: Path
) -> None:
    swarm.keys("gateway")
    custom(tmp_path / "gateway", RAISES["start"])
    component = tmp_path / "gateway" / "custom_components" / "mine"
    needs = component.with_name("sla")
    component.rename(needs)
    manifest = (needs / "manifest.json").read_text()
    manifest = manifest.replace('"mine"', '"sla"').replace("{", '{"overrides": true, ', 1)
    (needs / "manifest.json").write_text(manifest)
    # The gateway can't be set up without what it offers.
    with pytest.raises(SetupError, match="gateway: unexpected KeyError"):
        await swarm.gateway()


async def test_a_task_that_keeps_failing_is_told_and_others_run_on(swarm: Swarm) -> None:
    hub = await swarm.gateway()
    mended = False

    async def work() -> None:
        if not mended:
            raise RuntimeError("torn")

    hub.hub.tasks.supervise(work, "the oven's watch")
    found = await appears(hub, "task.the-oven-s-watch")
    assert "RuntimeError('torn')" in found["title"]
    assert (await call(hub, "GET", "/health"))[1]["ok"] is True
    mended = True


async def test_what_is_stuck_is_a_repair_and_makes_the_hub_unwell(swarm: Swarm) -> None:
    hub, released = await swarm.gateway(), asyncio.Event()

    async def sign() -> None:
        await released.wait()

    hub.hub.watchdog.watch("the oven", sign, 0.0)
    await appears(hub, "stuck.the-oven")
    status, health = await call(hub, "GET", "/health")
    assert (status, health["ok"]) == (503, False)
    released.set()
    await goes(hub, "stuck.the-oven")


async def test_what_is_ignored_stays_so_over_a_restart_and_can_be_shown_again(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))
    hub = await swarm.gateway()
    _, body = await call(hub, "POST", "/repairs/sqlite/ignore", json={})
    assert body["ignored"] is True
    await swarm.stop(hub)
    hub = await swarm.gateway()
    assert (await all_of(hub))["sqlite"]["ignored"] is True
    _, body = await call(hub, "POST", "/repairs/sqlite/ignore", json={"ignored": False})
    assert body["ignored"] is False
    assert os.stat(hub.hub.storage_path(REPAIRS_FILE)).st_mode & 0o077 == 0


async def test_refusals(swarm: Swarm) -> None:
    hub = await swarm.gateway()
    hub.hub.repair_sources.append(lambda: [one()])
    for path in ("/repairs/oven/fix", "/repairs/none/fix", "/repairs/none/ignore"):
        status, body = await call(hub, "POST", path, json={})
        assert (status, body["code"]) == (
            (409, "no_button") if "oven" in path else (404, "unknown_repair")
        )
    assert (await call(hub, "POST", "/repairs/oven/ignore", json={"ignored": "no"}))[0] == 422


async def test_a_source_that_fails_hides_none_of_the_others(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    hub = await swarm.gateway()

    def torn() -> list[Repair]:
        raise RuntimeError("torn")

    hub.hub.repair_sources += [torn, lambda: [one()]]
    await all_of(hub)
    assert "oven" in await all_of(hub)
    assert caplog.text.count("What is to be repaired can't be told") == 1


async def test_the_command_line_shows_fixes_and_ignores(swarm: Swarm) -> None:
    hub = await swarm.gateway()
    broken: list[Callable[[], object]] = [print]

    async def mend() -> None:
        broken.clear()

    hub.hub.repair_sources.append(lambda: [one(button="Open it", mend=mend)] if broken else [])
    assert "oven" in await of_command(hub)
    shown = await command(hub, "repairs")
    assert "warning: It is hot" in shown
    assert "swarm-hub repairs --fix oven   # Open it" in shown
    assert "warning: It is hot (swarm-hub repairs)" in await command(hub, "status")
    assert "It is hot" not in await command(hub, "repairs", "--ignore", "oven")
    assert "It is hot" in await command(hub, "repairs", "--all")
    assert "It is hot" not in await command(hub, "status")
    assert "oven" not in await of_command(hub, "--fix", "oven")
