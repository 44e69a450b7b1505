"""Telemetry: unknown is null, never zero, and a stranger's payload is taken apart with care."""

import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cbor2
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.mesh import MESH
from swarm_hub.components.telemetry import TELEMETRY, probe
from swarm_hub.components.telemetry.board import TOPIC
from swarm_hub.models.node import Telemetry
from swarm_hub.util import device
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call

FIELDS = tuple(Telemetry().to_wire())
TRUTHS = ("charging", "has_battery", "metered")
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def repr_short(value: object) -> str:
    return f"{value!r:.12}"


def assert_plausible(telemetry: Telemetry) -> None:
    for name, value in telemetry.to_wire().items():
        kinds = (bool,) if name in TRUTHS else (int, float)
        assert value is None or isinstance(value, kinds)
        if isinstance(value, float):
            assert math.isfinite(value)


@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING) | ANYTHING)
def test_whatever_a_peer_sends_becomes_finite_numbers_or_unknown(plain: Any) -> None:
    assert_plausible(Telemetry.from_wire(plain))


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, "5", True, [], None, 10**400], ids=repr_short
)
def test_what_is_no_finite_number_is_unknown(value: Any) -> None:
    found = Telemetry.from_wire(dict.fromkeys(FIELDS, value))
    assert found.to_wire() | dict.fromkeys(TRUTHS) == Telemetry().to_wire()


def test_telemetry_survives_the_wire() -> None:
    full = Telemetry(12.5, 2**33, 0.5, True, 80.0, False, 31.5, True)
    assert Telemetry.from_wire(cbor2.loads(cbor2.dumps(full.to_wire()))) == full


def test_a_machine_is_measured() -> None:
    found = probe.measure()
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
    monkeypatch.setattr(probe, "_ROUTES", Path("/proc/nothing/here"))
    assert probe.measure() == Telemetry()


def test_what_a_peer_of_another_version_sends_is_understood_as_far_as_it_goes() -> None:
    older = {"cpu_percent": 12.5}
    newer = {**older, "metered": True, "phase_of_the_moon": 0.5}
    assert Telemetry.from_wire(older) == Telemetry(cpu_percent=12.5)
    assert Telemetry.from_wire(newer) == Telemetry(cpu_percent=12.5, metered=True)


@pytest.mark.parametrize(
    ("default", "metered"),
    [
        ("eth0 00000000 010200C0 0003 0 0 100 00000000", None),
        ("wwan0 00000000 010200C0 0003 0 0 700 00000000", True),
        ("wwan0 000200C0 00000000 0001 0 0 0 00FFFFFF", None),
        ("no route", None),
        (
            "wwan0 00000000 010200C0 0003 0 0 700 00000000\n"
            "wlan0 00000000 010200C0 0003 0 0 600 00000000",
            None,
        ),
    ],
    ids=["cable", "modem", "modem that is not the default", "unreadable", "modem in reserve"],
)
def test_a_network_is_metered_only_where_it_goes_over_a_modem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, default: str, metered: bool | None
) -> None:
    routes = tmp_path / "route"
    routes.write_text(f"Iface Destination Gateway Flags RefCnt Use Metric Mask\n{default}\n")
    monkeypatch.setattr(probe, "_ROUTES", routes)
    assert probe.measure().metered is metered


@pytest.mark.parametrize(("plugged", "charging"), [(True, True), (False, False), (None, None)])
def test_a_battery_whose_plug_is_unknown_is_not_called_unplugged(
    monkeypatch: pytest.MonkeyPatch, plugged: bool | None, charging: bool | None
) -> None:
    battery = SimpleNamespace(percent=55, power_plugged=plugged)
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    found = probe.measure()
    assert (found.battery_percent, found.charging) == (55.0, charging)


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
