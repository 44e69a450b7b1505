"""What a device tells of itself with psutil, without it, and where the kernel denies much."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from swarm_hub.util import device
from swarm_hub.util.device import Battery
from tests.helpers.without import python_without


@pytest.fixture
def phone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Be without psutil and load average; returns a folder with the `proc` and `sys` there are."""
    monkeypatch.setattr(device, "psutil", None)
    monkeypatch.setattr(device, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(device, "_SYS", tmp_path / "sys")
    monkeypatch.delattr(os, "getloadavg")
    return tmp_path


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def later(monkeypatch: pytest.MonkeyPatch, root: Path, files: dict[str, str]) -> None:
    """Have these files when somebody has waited."""
    monkeypatch.setattr(device.time, "sleep", lambda _: write(root, files))


def test_nothing_readable_is_nothing_known(phone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied() -> float:
        raise PermissionError("sysinfo")

    monkeypatch.setattr(device, "_kernel_load", denied)
    assert device.cpu_percent(0) is None
    assert device.load_1m() is None
    assert device.available_memory_bytes() is None
    assert device.total_memory_bytes() is None
    assert device.battery() is None
    assert device.temperature_c(("battery",)) is None
    assert not device.has_no_battery()


def test_the_load_comes_from_sysinfo(phone: Path) -> None:
    load = device.load_1m()
    assert load is not None
    assert load == pytest.approx(float(Path("/proc/loadavg").read_text().split()[0]), abs=1)


def test_memory_comes_from_meminfo(phone: Path) -> None:
    write(phone, {"proc/meminfo": "MemTotal: 8 kB\nMemAvailable:    3 kB\nBuffers: 1 kB\n"})
    assert device.available_memory_bytes() == 3072
    assert device.total_memory_bytes() == 8192
    write(phone, {"proc/meminfo": "Buffers: 1 kB\n"})
    assert device.available_memory_bytes() is None


def test_the_cpus_are_as_busy_as_proc_stat_says(
    phone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(phone, {"proc/stat": "cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1 2 3\n"})
    later(monkeypatch, phone, {"proc/stat": "cpu  20 0 20 130 20 5 5 0 0 0\n"})
    assert device.cpu_percent(0.2) == 30.0


def test_without_proc_stat_the_speed_of_the_cpus_tells_how_busy_they_are(
    phone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "sys/devices/system/cpu/cpu{}/cpufreq/stats/time_in_state"
    write(phone, {name.format(0): "300 1000\n3000 50\n", name.format(1): "500 7\n2000 7\n"})
    # The first runs 5 at a tenth of its speed and 5 at full speed, the second 10 at a quarter.
    later(
        monkeypatch, phone,
        {name.format(0): "300 1005\n3000 55\n", name.format(1): "500 17\n2000 7\n"},
    )  # fmt: skip
    assert device.cpu_percent(0.2) == pytest.approx(100 * (0.5 + 5 + 2.5) / 20)


def test_counters_that_stand_still_tell_nothing(
    phone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(phone, {"proc/stat": "cpu  10 0 10 70 10 0 0 0 0 0\n"})
    later(monkeypatch, phone, {})
    assert device.cpu_percent(0.2) is None


SUPPLIES = "sys/class/power_supply"


def battery_files(**changes: str) -> dict[str, str]:
    said = {"type": "Battery", "capacity": "55", "status": "Discharging", **changes}
    return {f"{SUPPLIES}/BAT0/{name}": f"{text}\n" for name, text in said.items()}


@pytest.mark.parametrize(
    ("status", "plugged"),
    [("Charging", True), ("Full", True), ("Discharging", False), ("Unknown", None)],
)
def test_a_battery_is_found_among_the_power_supplies(
    phone: Path, status: str, plugged: bool | None
) -> None:
    write(phone, {f"{SUPPLIES}/AC/type": "Mains\n"})
    assert device.battery() is None
    assert device.has_no_battery()
    write(phone, battery_files(status=status))
    assert device.battery() == Battery(55.0, plugged)
    assert not device.has_no_battery()


@pytest.mark.parametrize(
    ("supplies", "status", "plugged", "source"),
    [
        ({"AC": ("Mains", "1")}, "Charging", True, "ac"),
        # Its owner spares the battery, which is no reason to call it unplugged.
        ({"AC": ("Mains", "1")}, "Not charging", True, "ac"),
        # A charger that is weaker than the computer.
        ({"AC": ("Mains", "1")}, "Discharging", True, "ac"),
        ({"AC": ("Mains", "0")}, "Discharging", False, None),
        ({"AC": ("Mains", "0")}, "Unknown", False, None),
        ({"AC": ("Mains", "0"), "c": ("USB", "1")}, "Charging", True, "usb"),
        ({"AC": ("Mains", "1"), "c": ("USB", "1")}, "Charging", True, "ac"),
        ({"c": ("USB_PD", "1")}, "Charging", True, "usb"),
        ({"pad": ("Wireless", "1")}, "Charging", True, "wireless"),
        ({"pad": ("Wireless", "broken")}, "Unknown", None, None),
    ],
)
def test_the_plug_is_what_is_online(
    phone: Path,
    supplies: dict[str, tuple[str, str]],
    status: str,
    plugged: bool | None,
    source: str | None,
) -> None:
    write(phone, battery_files(status=status))
    for name, (kind, online) in supplies.items():
        write(phone, {f"{SUPPLIES}/{name}/type": kind, f"{SUPPLIES}/{name}/online": online})
    assert device.battery() == Battery(55.0, plugged, source)


def test_a_battery_may_tell_its_temperature(phone: Path) -> None:
    write(phone, battery_files(temp="312", capacity="101"))
    assert device.battery() == Battery(100.0, False, None, 31.2)


def test_the_battery_of_a_mouse_is_not_the_device_s(
    phone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mouse = f"{SUPPLIES}/hidpp_battery_0"
    write(phone, {f"{mouse}/type": "Battery", f"{mouse}/scope": "Device", f"{mouse}/capacity": "5"})
    # psutil takes it for one.
    seen = SimpleNamespace(sensors_battery=lambda: SimpleNamespace(percent=5, power_plugged=None))
    monkeypatch.setattr(device, "psutil", seen)
    assert device.battery() is None
    assert device.has_no_battery()
    write(phone, battery_files())
    assert device.battery() == Battery(55.0, False)


def test_a_kernel_without_power_supplies_has_no_battery(phone: Path) -> None:
    write(phone, {"sys/class/net/lo/type": "772"})
    assert device.has_no_battery()
    assert device.battery() is None


@pytest.mark.parametrize("files", [battery_files(capacity="full"), battery_files(capacity="")])
def test_a_battery_that_is_there_but_can_not_be_read_is_not_absent(
    phone: Path, files: dict[str, str]
) -> None:
    write(phone, files)
    assert device.battery() is None
    assert not device.has_no_battery()


def test_android_is_told_by_python_or_by_its_files(
    phone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_ANDROID", phone / "build.prop")
    monkeypatch.setattr(sys, "platform", "linux")
    assert not device.is_android()
    write(phone, {"build.prop": ""})
    assert device.is_android()
    # A name that can't be looked up is no reason to end.
    monkeypatch.setattr(device, "_ANDROID", phone / ("x" * 300))
    assert not device.is_android()
    monkeypatch.setattr(sys, "platform", "android")
    assert device.is_android()


def test_the_first_sensor_that_there_is_counts(phone: Path) -> None:
    zones = "sys/class/thermal/thermal_zone"
    write(
        phone,
        {
            f"{zones}0/type": "soc_thermal\n", f"{zones}0/temp": "41500\n",
            f"{zones}1/type": "battery\n", f"{zones}1/temp": "30000\n",
            f"{zones}2/type": "broken\n",
        },
    )  # fmt: skip
    assert device.temperature_c(("battery", "soc_thermal")) == 30.0
    assert device.temperature_c(("nothing", "soc_thermal")) == 41.5
    assert device.temperature_c(("broken",)) is None


def test_addresses_are_those_from_which_the_internet_would_be_reached(phone: Path) -> None:
    found = device.interface_ips()
    assert found[:2] == ["127.0.0.1", "::1"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return
        assert probe.getsockname()[0] in found


MEASURED = """
import json, time
from swarm_hub.components.sandbox import pool
from swarm_hub.components.telemetry.probe import Probe
from swarm_hub.util import device
assert device.psutil is None
found = Probe(time.monotonic).measure().to_wire()
found["ips"] = device.interface_ips()
print(json.dumps(found))
"""
REFUSING = """
import importlib.abc
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "psutil":
            raise NotImplementedError("platform android is not supported")
del sys.modules["psutil"]
sys.meta_path.insert(0, Refuse())
"""


@pytest.mark.parametrize("before", ["", REFUSING], ids=["not installed", "refuses to be imported"])
def test_a_machine_is_measured_without_psutil(before: str) -> None:
    found = json.loads(python_without(("psutil",), before + MEASURED))
    assert 0 <= found["cpu_percent"] <= 100
    assert found["available_memory_bytes"] > 2**20
    assert found["load_1m"] >= 0
    assert "127.0.0.1" in found["ips"]
