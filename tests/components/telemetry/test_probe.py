"""A device is measured by what its kernel shows and by what its programs said last."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from swarm_hub.components.telemetry import network, probe
from swarm_hub.components.telemetry.probe import Probe
from swarm_hub.models.node import Telemetry
from swarm_hub.util import device
from tests.helpers.programs import Programs, first_on_path

BATTERY = "termux-battery-status"
WIFI = "termux-wifi-connectioninfo"


class Device:
    """A device of which nothing is known but what a test gives it."""

    def __init__(self, root: Path, programs: Programs) -> None:
        self.root = root
        self.programs = programs
        self.now = 0.0
        self.probe = Probe(lambda: self.now)

    def file(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def routes(self, *lines: str) -> None:
        header = "Iface Destination Gateway Flags RefCnt Use Metric Mask"
        self.file("route", "\n".join((header, *lines)) + "\n")

    def battery(self, percent: int, plugged: str = "PLUGGED_AC", celsius: float = 30.0) -> None:
        self.programs.says(
            BATTERY,
            f'{{"percentage": {percent}, "plugged": "{plugged}", "temperature": {celsius}}}',
        )

    async def after(self, seconds: float = 60.0) -> Telemetry:
        """Let time pass, ask and measure."""
        self.now += seconds
        await self.probe.ask()
        return self.probe.measure()


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.setattr(device, "psutil", None)
    monkeypatch.setattr(device, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(device, "_SYS", tmp_path / "sys")
    monkeypatch.setattr(probe, "_CPU_WINDOW_S", 0.0)
    monkeypatch.setattr(network, "_ROUTES", tmp_path / "route")
    monkeypatch.setattr(network, "_INTERFACES", tmp_path / "net")
    return Device(tmp_path, first_on_path(tmp_path / "programs", monkeypatch))


async def test_a_phone_is_what_termux_says(bare: Device) -> None:
    bare.battery(83, "PLUGGED_WIRELESS", 33.5)
    found = await bare.after()
    assert found.has_battery is True
    assert (found.battery_percent, found.charging, found.power_source) == (83.0, True, "wireless")
    assert found.temperature_c == 33.5
    bare.battery(82, "UNPLUGGED")
    found = await bare.after()
    assert (found.battery_percent, found.charging, found.power_source) == (82.0, False, None)


async def test_what_termux_says_no_more_is_unknown_after_five_minutes(bare: Device) -> None:
    bare.battery(83)
    assert (await bare.after()).battery_percent == 83.0
    bare.programs.add(BATTERY, "exit 1")
    for _ in range(5):
        assert (await bare.after()).battery_percent == 83.0
    found = await bare.after()
    assert (found.battery_percent, found.charging, found.has_battery) == (None, None, None)


@pytest.mark.parametrize("script", ["exit 1", "echo '{}'", "yes", "echo Termux:API is missing"])
async def test_a_battery_of_which_termux_says_nothing_is_unknown(bare: Device, script: str) -> None:
    bare.programs.add(BATTERY, script)
    found = await bare.after()
    assert (found.has_battery, found.battery_percent, found.charging) == (None, None, None)


async def test_an_android_without_a_battery_has_none(bare: Device) -> None:
    bare.programs.says(BATTERY, '{"present": false, "percentage": 0, "plugged": "PLUGGED_AC"}')
    found = await bare.after()
    assert (found.has_battery, found.battery_percent, found.charging) == (False, None, None)


async def test_a_zero_out_of_the_blue_is_not_believed(bare: Device) -> None:
    bare.battery(0)
    found = await bare.after()
    assert (found.has_battery, found.battery_percent, found.charging) == (True, None, True)
    bare.battery(60)
    assert (await bare.after()).battery_percent == 60.0
    bare.battery(0)
    assert (await bare.after()).battery_percent is None
    assert (await bare.after()).battery_percent is None
    bare.battery(9)
    assert (await bare.after()).battery_percent == 9.0
    bare.battery(0)
    assert (await bare.after()).battery_percent == 0.0


async def test_the_battery_of_a_computer_needs_no_program(bare: Device) -> None:
    for name, text in {"type": "Battery", "capacity": "64", "status": "Charging"}.items():
        bare.file(f"sys/class/power_supply/BAT0/{name}", text)
    bare.file("sys/class/thermal/thermal_zone0/type", "coretemp")
    bare.file("sys/class/thermal/thermal_zone0/temp", "51000")
    found = await bare.after()
    assert (found.has_battery, found.battery_percent, found.charging) == (True, 64.0, True)
    assert found.temperature_c == 51.0
    bare.file("sys/class/power_supply/BAT0/temp", "305")
    assert (await bare.after()).temperature_c == 30.5


@pytest.mark.parametrize(("plugged", "charging"), [(True, True), (False, False), (None, None)])
async def test_a_battery_whose_plug_is_unknown_is_not_called_unplugged(
    bare: Device, monkeypatch: pytest.MonkeyPatch, plugged: bool | None, charging: bool | None
) -> None:
    battery = SimpleNamespace(percent=55, power_plugged=plugged)
    seen = SimpleNamespace(sensors_battery=lambda: battery, Error=psutil.Error)
    monkeypatch.setattr(device, "psutil", seen)
    found = bare.probe.measure()
    assert (found.battery_percent, found.charging) == (55.0, charging)


CABLE = "eth0 00000000 010200C0 0003 0 0 100 00000000"
MODEM = "wwan0 00000000 010200C0 0003 0 0 700 00000000"
RADIO = "wlan0 00000000 010200C0 0003 0 0 600 00000000"


@pytest.mark.parametrize(
    ("routes", "kind", "metered"),
    [
        ([CABLE], "ethernet", None),
        ([RADIO], "wifi", None),
        ([MODEM], "mobile", True),
        ([MODEM, RADIO], "wifi", None),
        (["wwan0 000200C0 00000000 0001 0 0 0 00FFFFFF"], None, None),
        (["tun0 00000000 010200C0 0003 0 0 0 00000000"], None, None),
        (["no route"], None, None),
        ([], None, None),
    ],
)
def test_the_kernel_tells_the_kind_of_the_network_of_the_default_route(
    bare: Device, routes: list[str], kind: str | None, metered: bool | None
) -> None:
    bare.file("net/eth0/device/vendor", "0x8086")
    bare.file("net/eth0/type", "1")
    bare.file("net/wlan0/wireless/status", "")
    bare.file("net/wlan0/device/vendor", "0x8086")
    bare.file("net/wlan0/type", "1")
    bare.file("net/tun0/type", "65534")
    bare.routes(*routes)
    found = bare.probe.measure()
    assert (found.network, found.metered) == (kind, metered)


NMCLI = """GENERAL.DEVICE:wlan0
GENERAL.IP-IFACE:wlan0
GENERAL.TYPE:wifi
GENERAL.METERED:{wifi}

GENERAL.DEVICE:cdc-wdm0
GENERAL.IP-IFACE:wwan0
GENERAL.TYPE:gsm
GENERAL.METERED:{modem}

GENERAL.DEVICE:lo
GENERAL.TYPE:loopback
"""


@pytest.mark.parametrize(
    ("route", "said", "kind", "metered"),
    [
        (RADIO, {"wifi": "yes"}, "wifi", True),
        (RADIO, {"wifi": "yes (guessed)"}, "wifi", True),
        (RADIO, {"wifi": "no (guessed)"}, "wifi", False),
        (RADIO, {"wifi": "unknown"}, "wifi", None),
        (MODEM, {"modem": "no"}, "mobile", False),
        (MODEM, {"modem": "unknown"}, "mobile", True),
        (CABLE, {}, None, None),
    ],
)
async def test_network_manager_knows_better(
    bare: Device, route: str, said: dict[str, str], kind: str | None, metered: bool | None
) -> None:
    bare.routes(route)
    bare.programs.says("nmcli", NMCLI.format_map({"wifi": "", "modem": ""} | said))
    found = await bare.after()
    assert (found.network, found.metered) == (kind, metered)
    assert bare.programs.asked("nmcli") == [" ".join(network.NMCLI[1:])]


@pytest.mark.parametrize("script", ["exit 8", "echo Error: NetworkManager is not running.", "yes"])
async def test_without_network_manager_the_kernel_is_believed(bare: Device, script: str) -> None:
    bare.routes(MODEM)
    bare.programs.add("nmcli", script)
    found = await bare.after()
    assert (found.network, found.metered) == ("mobile", True)


def is_reached_from(*addresses: str) -> Callable[[], list[str]]:
    return lambda: ["127.0.0.1", "::1", *addresses]


@pytest.mark.parametrize(
    ("state", "addresses", "kind", "metered"),
    [
        ("COMPLETED", ["192.168.1.50"], "wifi", None),
        ("DISCONNECTED", ["10.20.30.40"], "mobile", True),
        ("DISCONNECTED", [], None, None),
        ("SCANNING", ["2001:db8::5"], "mobile", True),
    ],
)
async def test_a_phone_that_is_on_no_wifi_is_on_a_mobile_network(
    bare: Device,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    addresses: list[str],
    kind: str | None,
    metered: bool | None,
) -> None:
    monkeypatch.setattr(device, "interface_ips", is_reached_from(*addresses))
    ip = "192.168.1.50" if state == "COMPLETED" else "0.0.0.0"
    bare.programs.says(WIFI, f'{{"supplicant_state": "{state}", "ip": "{ip}"}}')
    found = await bare.after()
    assert (found.network, found.metered) == (kind, metered)
