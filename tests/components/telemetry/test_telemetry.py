"""Telemetry: unknown is null, never zero, and a stranger's payload is taken apart with care."""

import math
import os
import time
from pathlib import Path
from typing import Any

import cbor2
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.mesh import MESH
from swarm_hub.components.telemetry import TELEMETRY, network
from swarm_hub.components.telemetry.board import TOPIC
from swarm_hub.components.telemetry.probe import Probe
from swarm_hub.models.node import RUNTIMES_MAX, Telemetry
from swarm_hub.util import device
from swarm_hub.util.hashing import SHA256_HEX
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.programs import first_on_path
from tests.helpers.rest import call

FIELDS = tuple(Telemetry().to_wire())
TRUTHS = ("charging", "has_battery", "metered")
WORDS = ("power_source", "network")
TEXTS = (*WORDS, "slower")
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def repr_short(value: object) -> str:
    return f"{value!r:.12}"


def assert_plausible(telemetry: Telemetry) -> None:
    for name, value in telemetry.to_wire().items():
        if name == "runtimes":
            assert value is None or all(map(SHA256_HEX.match, value))
            continue
        kinds = (bool,) if name in TRUTHS else (str,) if name in TEXTS else (int, float)
        assert value is None or isinstance(value, kinds)
        if isinstance(value, float):
            assert math.isfinite(value)


@pytest.mark.parametrize("value", [0, -1, 1025, 1.5, True, "1", 10**400], ids=repr_short)
def test_what_is_no_number_of_slots_is_unknown(value: Any) -> None:
    assert Telemetry.from_wire({"slots": value}).slots is None


@pytest.mark.parametrize("value", ["x" * 201, "a\0b", "\ud800", b"slow", 5])
def test_a_reason_that_is_no_text_is_unknown(value: Any) -> None:
    assert Telemetry.from_wire({"slower": value}).slower is None


def test_of_runtimes_what_is_no_hash_or_no_text_is_left_out_and_so_are_too_many() -> None:
    sha = "0" * 64
    said = {sha: "ready", "x": "ready", "1" * 64: 5, "2" * 64: "x" * 201}
    assert Telemetry.from_wire({"runtimes": said}).runtimes == {sha: "ready"}
    many = {f"{number:064x}": "ready" for number in range(RUNTIMES_MAX + 1)}
    found = Telemetry.from_wire({"runtimes": many}).runtimes
    assert found is not None
    assert len(found) == RUNTIMES_MAX


@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING) | ANYTHING)
def test_whatever_a_peer_sends_becomes_finite_numbers_or_unknown(plain: Any) -> None:
    assert_plausible(Telemetry.from_wire(plain))


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, "5", True, [], None, 10**400], ids=repr_short
)
def test_what_is_no_finite_number_is_unknown(value: Any) -> None:
    found = Telemetry.from_wire(dict.fromkeys(FIELDS, value))
    assert found.to_wire() | dict.fromkeys((*TRUTHS, "slower")) == Telemetry().to_wire()


@pytest.mark.parametrize("value", ["", "WIFI", "wi fi", "a" * 17, "wifi\n", b"wifi", 5, "\x1b[2J"])
def test_what_is_no_short_word_is_unknown(value: Any) -> None:
    assert Telemetry.from_wire(dict.fromkeys(WORDS, value)) == Telemetry()


def test_telemetry_survives_the_wire() -> None:
    full = Telemetry(
        12.5, 2**33, 0.5, True, 80.0, True, 31.5, True, "usb", "wifi", 2, "not charging"
    )
    assert Telemetry.from_wire(cbor2.loads(cbor2.dumps(full.to_wire()))) == full


def measure() -> Telemetry:
    return Probe(time.monotonic).measure()


def test_a_machine_is_measured() -> None:
    found = measure()
    assert found.cpu_percent is not None
    assert 0 <= found.cpu_percent <= 100
    assert found.available_memory_bytes
    assert_plausible(found)


def test_what_android_denies_or_lacks_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_arguments: Any, **_options: Any) -> Any:
        raise PermissionError("/proc/stat")

    for name in ("cpu_percent", "virtual_memory", "sensors_battery"):
        monkeypatch.setattr(psutil, name, denied, raising=False)
    monkeypatch.delattr(psutil, "sensors_temperatures", raising=False)
    monkeypatch.delattr(os, "getloadavg")
    monkeypatch.setattr(device, "_kernel_load", denied)
    monkeypatch.setattr(device, "_PROC", Path("/proc/nothing"))
    monkeypatch.setattr(device, "_SYS", Path("/proc/nothing"))
    monkeypatch.setattr(network, "_ROUTES", Path("/proc/nothing/here"))
    assert measure() == Telemetry()


def test_what_a_peer_of_another_version_sends_is_understood_as_far_as_it_goes() -> None:
    older = {"cpu_percent": 12.5}
    newer = {**older, "metered": True, "network": "lifi", "phase_of_the_moon": 0.5}
    assert Telemetry.from_wire(older) == Telemetry(cpu_percent=12.5)
    assert Telemetry.from_wire(newer) == Telemetry(cpu_percent=12.5, metered=True, network="lifi")


async def telemetry_of(gateway: RunningHub) -> dict[str, Any]:
    _, body = await call(gateway, "GET", "/nodes")
    nodes = body["nodes"]
    return dict(nodes[0]["telemetry"]) if nodes else dict.fromkeys(FIELDS)


async def test_a_node_shows_what_it_measured_and_garbage_changes_nothing(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    worker = await swarm.worker("worker")
    seen = await until(
        lambda: telemetry_of(gateway), lambda found: found["cpu_percent"] is not None
    )
    assert seen["available_memory_bytes"] > 0
    mesh = worker.hub.services[MESH]
    heard = gateway.hub.services[TELEMETRY]
    before = heard.of(mesh.peer_id)
    for payload in (b"", b"\xff", b"x" * 5000, b"\x81" * 4000, cbor2.dumps(1) + b"more"):
        await mesh.publish(TOPIC, payload)
    marked = {**before.to_wire(), "load_1m": 77.0}
    await mesh.publish(TOPIC, cbor2.dumps(marked))
    await until(lambda: telemetry_of(gateway), lambda found: found["load_1m"] == 77.0)


async def test_telemetry_of_a_stranger_is_not_kept(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    board = gateway.hub.services[TELEMETRY]
    board._on_gossip("12D3KooWstranger", cbor2.dumps({"cpu_percent": 1.0}))
    assert board.of("12D3KooWstranger") == Telemetry()


async def test_a_phone_is_listed_with_its_battery_and_its_network(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = first_on_path(tmp_path / "programs", monkeypatch)
    fake.says("termux-battery-status", '{"percentage": 77, "plugged": "PLUGGED_USB", '
              '"temperature": 31.5}')  # fmt: skip
    fake.says("termux-wifi-connectioninfo", '{"supplicant_state": "COMPLETED", "ip": "10.0.0.7"}')
    gateway = await swarm.gateway()
    await swarm.worker("phone")
    seen = await until(
        lambda: telemetry_of(gateway), lambda found: found["battery_percent"] is not None
    )
    shown = ("has_battery", "battery_percent", "charging", "power_source", "temperature_c")
    assert [seen[name] for name in (*shown, "network", "metered")] == [
        True, 77.0, True, "usb", 31.5, "wifi", None,
    ]  # fmt: skip
    # The gateway has no use for what its own battery says, so it asks nobody.
    assert len(fake.asked("termux-battery-status")) == 1
    assert len(fake.asked("termux-wifi-connectioninfo")) == 1
