"""Measuring this device; what can't be measured is None, never zero.

Android denies much of this (PermissionError) or lacks it (AttributeError).
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import psutil

from swarm_hub.models.node import Telemetry
from swarm_hub.util.memory import available_memory_bytes

_T = TypeVar("_T")

# Python before 3.13 calls Android "linux".
_ANDROID: Final = Path("/system/build.prop")

# psutil compares two readings; its "since the last call" form answers a false 0 at first.
_CPU_WINDOW_S: Final = 0.2
_BATTERY_ZONES: Final = ("battery", "bms", "max170xx_battery")
_ROUTES: Final = Path("/proc/net/route")
# Interfaces of modems; traffic over them is usually paid for by volume.
_MODEMS: Final = ("wwan", "rmnet", "ccmni")
_CPU_ZONES: Final = ("coretemp", "cpu_thermal", "k10temp", "cpu-thermal", "soc_thermal")


def measure() -> Telemetry:
    """Measure this device now; may take a few milliseconds, so run it in a thread."""
    battery = _known(lambda: psutil.sensors_battery())
    return Telemetry(
        cpu_percent=_known(lambda: psutil.cpu_percent(interval=_CPU_WINDOW_S)),
        available_memory_bytes=available_memory_bytes(),
        load_1m=_known(lambda: psutil.getloadavg()[0]),
        has_battery=_has_battery(battery is not None),
        battery_percent=None if battery is None else float(battery.percent),
        # psutil answers None if the system does not tell whether the device is plugged in.
        charging=None if battery is None else battery.power_plugged,
        temperature_c=_known(_temperature),
        metered=_known(_metered),
    )


def _has_battery(readable: bool) -> bool | None:
    """Tell a machine without a battery from one whose battery can't be read."""
    if readable:
        return True
    if sys.platform == "android" or _ANDROID.exists():
        return None
    return _known(lambda: psutil.sensors_battery() is not None)


def _metered() -> bool | None:
    """Recognise a modem's network; only the owner knows about others, as Wi-Fi may be a phone's."""
    routes = [line.split() for line in _ROUTES.read_text().splitlines()[1:]]
    # Interface, destination, gateway, flags, references, uses, metric, mask.
    default = [(int(route[6]), route[0]) for route in routes if route[1] == route[7] == "00000000"]
    return True if default and min(default)[1].startswith(_MODEMS) else None


def _temperature() -> float | None:
    zones = psutil.sensors_temperatures()
    for name in (*_BATTERY_ZONES, *_CPU_ZONES):
        for entry in zones.get(name, ()):
            return float(entry.current)
    return None


def _known(read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except (OSError, AttributeError, LookupError, ValueError, RuntimeError, psutil.Error):
        return None
