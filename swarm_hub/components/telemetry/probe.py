"""Measuring this device; what can't be measured is None, never zero."""

import sys
from pathlib import Path
from typing import Final

from swarm_hub.models.node import Telemetry
from swarm_hub.util import device

# Python before 3.13 calls Android "linux".
_ANDROID: Final = Path("/system/build.prop")

# Two readings are compared; psutil's "since the last call" form answers a false 0 at first.
_CPU_WINDOW_S: Final = 0.2
_ROUTES: Final = Path("/proc/net/route")
# Interfaces of modems; traffic over them is usually paid for by volume.
_MODEMS: Final = ("wwan", "rmnet", "ccmni")
_SENSORS: Final = (
    *("battery", "bms", "max170xx_battery"),
    *("coretemp", "cpu_thermal", "k10temp", "cpu-thermal", "soc_thermal"),
)


def measure() -> Telemetry:
    """Measure this device now; may take a few milliseconds, so run it in a thread."""
    battery = device.battery()
    return Telemetry(
        cpu_percent=device.cpu_percent(_CPU_WINDOW_S),
        available_memory_bytes=device.available_memory_bytes(),
        load_1m=device.load_1m(),
        has_battery=_has_battery(battery is not None),
        battery_percent=None if battery is None else battery.percent,
        charging=None if battery is None else battery.plugged,
        temperature_c=device.temperature_c(_SENSORS),
        metered=_metered(),
    )


def _has_battery(readable: bool) -> bool | None:
    """Tell a machine without a battery from one whose battery can't be read."""
    if readable:
        return True
    if sys.platform == "android" or _ANDROID.exists():
        return None
    return False if device.has_no_battery() else None


def _metered() -> bool | None:
    """Recognise a modem's network; only the owner knows about others, as Wi-Fi may be a phone's."""
    try:
        routes = [line.split() for line in _ROUTES.read_text().splitlines()[1:]]
        # Interface, destination, gateway, flags, references, uses, metric, mask.
        default = [
            (int(route[6]), route[0]) for route in routes if route[1] == route[7] == "00000000"
        ]
    except (OSError, LookupError, ValueError):
        return None
    return True if default and min(default)[1].startswith(_MODEMS) else None
