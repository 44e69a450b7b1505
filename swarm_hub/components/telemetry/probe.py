"""Measuring this device; what can't be measured is None, never zero."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from swarm_hub.components.telemetry import network
from swarm_hub.components.telemetry.network import Network
from swarm_hub.models.node import Telemetry
from swarm_hub.util import device, termux
from swarm_hub.util.device import Battery
from swarm_hub.util.programs import Asked

# Two readings are compared; psutil's "since the last call" form answers a false 0 at first.
_CPU_WINDOW_S: Final = 0.2
_SENSORS: Final = (
    *("battery", "bms", "max170xx_battery"),
    *("coretemp", "cpu_thermal", "k10temp", "cpu-thermal", "soc_thermal"),
)
# A battery that goes from more than this to nothing at once has only lost its driver.
_LOW_PERCENT: Final = 10.0
# Without any other address no network is there.
_NO_NETWORK: Final = frozenset({"127.0.0.1", "::1"})


class Probe:
    """Measures this device: of itself, and by what programs said last that are slow to answer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._battery = Asked(termux.BATTERY, termux.read_battery, clock)
        self._wifi = Asked(termux.WIFI, termux.read_wifi, clock)
        self._managed = Asked(network.NMCLI, network.read_nmcli, clock)
        self._last_percent: float | None = None

    async def ask(self) -> bool:
        """Ask the programs that are due, at most some 10 s; returns whether any said something."""
        asked = (self._battery.ask(), self._wifi.ask(), self._managed.ask())
        return any(await asyncio.gather(*asked))

    def measure(self) -> Telemetry:
        """Measure this device now; may take a few milliseconds, so run it in a thread."""
        interface = network.default_interface()
        found = Telemetry(
            cpu_percent=device.cpu_percent(_CPU_WINDOW_S),
            available_memory_bytes=device.available_memory_bytes(),
            load_1m=device.load_1m(),
            temperature_c=device.temperature_c(_SENSORS),
        )
        battery = self._battery.newest() or device.battery()
        connected = self._network(interface)
        return replace(
            self._with_battery(found, battery), network=connected.kind, metered=connected.metered
        )

    def _with_battery(self, found: Telemetry, battery: Battery | None) -> Telemetry:
        if battery is None:
            return replace(found, has_battery=False if _lacks_battery() else None)
        if not battery.exists:
            return replace(found, has_battery=False)
        warmth_c = battery.temperature_c
        return replace(
            found,
            has_battery=True,
            battery_percent=self._believed(battery.percent),
            charging=battery.plugged,
            power_source=battery.source if battery.plugged else None,
            temperature_c=found.temperature_c if warmth_c is None else warmth_c,
        )

    def _believed(self, percent: float | None) -> float | None:
        """Return a percentage, but not a 0 out of the blue, which is a reading that failed."""
        if percent == 0 and (self._last_percent is None or self._last_percent > _LOW_PERCENT):
            return None
        if percent is not None:
            self._last_percent = percent
        return percent

    def _network(self, interface: str | None) -> Network:
        if (on_wifi := self._wifi.newest()) is not None:
            if on_wifi:
                return Network(network.WIFI)
            is_connected = not _NO_NETWORK.issuperset(device.interface_ips())
            # Android has hardly anything else, and keeps its routes to itself.
            return Network(network.MOBILE, True) if is_connected else Network()
        told = network.of_interface(interface)
        for each in self._managed.newest() or ():
            if interface in each.interfaces:
                return Network(
                    each.network.kind or told.kind,
                    told.metered if each.network.metered is None else each.network.metered,
                )
        return told


def _lacks_battery() -> bool:
    """Tell a machine without a battery from one whose battery can't be read."""
    return not device.is_android() and device.has_no_battery()
