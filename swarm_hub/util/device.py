"""What this device tells of itself: by psutil, else by what Linux offers, else None; never 0.

psutil has no wheel for Android, and Android denies it much of what it reads. Each value is asked of
psutil first, then of the kernel by ways that are open to an ordinary app. The battery is asked of
the kernel first: psutil takes that of a wireless mouse for the device's own.
"""

import contextlib
import ctypes
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

psutil: Any
try:
    import psutil
# The one of its index, unlike Termux's, refuses to be imported on Android.
except (ImportError, NotImplementedError):
    psutil = None

_T = TypeVar("_T")
_UNKNOWN: Final = (
    *(OSError, AttributeError, LookupError, ValueError, RuntimeError, ZeroDivisionError),
    *((psutil.Error,) if psutil is not None else ()),
)
_PROC: Final = Path("/proc")
_SYS: Final = Path("/sys")
_ANDROID: Final = Path("/system/build.prop")
# The fixed point of sysinfo(2).
_LOAD_UNIT: Final = 65536
# Addresses for documentation, which lead to nobody: routes to the internet in general apply.
_NOBODY: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
_PLUGGED: Final = {"Charging": True, "Full": True, "Discharging": False}
# What may charge a device.
POWER_SOURCES: Final = ("ac", "usb", "wireless", "dock")
# The types of power supplies, the best first; there are several of USB.
_SUPPLIES: Final = (("Mains", "ac"), ("USB", "usb"), ("Wireless", "wireless"))


@dataclass(frozen=True, slots=True)
class Battery:
    """A battery, or the word that there is none; None is what the system does not tell.

    `source` is one of `POWER_SOURCES` while it is plugged in.
    """

    percent: float | None
    plugged: bool | None
    source: str | None = None
    temperature_c: float | None = None
    exists: bool = True


class _SysInfo(ctypes.Structure):
    # The kernel writes more than the load behind it, at most 112 bytes in all.
    _fields_ = (
        ("uptime", ctypes.c_long),
        ("loads", ctypes.c_ulong * 3),
        ("rest", ctypes.c_char * 128),
    )


def is_android() -> bool:
    """Whether this is Android, which Python calls Linux before 3.13."""
    # Unlike a Path of Python 3.11 it does not raise for what may not be looked at.
    return sys.platform == "android" or os.path.exists(_ANDROID)


def has_psutil() -> bool:
    """Whether psutil is installed and willing."""
    return psutil is not None


def cpu_percent(window_s: float) -> float | None:
    """Return how busy all CPUs were in the next `window_s` seconds, 0 to 100."""
    return _first(
        lambda: float(psutil.cpu_percent(interval=window_s)),
        lambda: _share(_busy_time, window_s),
        lambda: _share(_time_at_speed, window_s),
    )


def load_1m() -> float | None:
    """Return the load average of a minute."""
    # psutil's own is that of the os module, which Android has not.
    return _first(lambda: float(os.getloadavg()[0]), _kernel_load)


def total_memory_bytes() -> int | None:
    """Return what there is for all programs; a container's own limit is not seen."""
    return _first(lambda: int(psutil.virtual_memory().total), lambda: _kernel_memory("MemTotal:"))


def available_memory_bytes() -> int | None:
    """Return what new programs can have without swapping.

    A container's own limit is not seen.
    """
    return _first(
        lambda: int(psutil.virtual_memory().available), lambda: _kernel_memory("MemAvailable:")
    )


def battery() -> Battery | None:
    """Return the battery; None if there is none, or none that can be read."""
    return None if has_no_battery() else _first(_kernel_battery, _psutil_battery)


def has_no_battery() -> bool:
    """Whether the system says that there is no battery, as opposed to saying nothing."""
    if (found := _known(lambda: list(_supplies("Battery")))) is not None:
        return not found
    if psutil is not None:
        return _known(lambda: psutil.sensors_battery() is None) or False
    return False


def temperature_c(sensors: tuple[str, ...]) -> float | None:
    """Return what the first of these sensors that there is shows."""
    return _first(lambda: _psutil_temperature(sensors), lambda: _kernel_temperature(sensors))


def interface_ips() -> list[str]:
    """Return the IP addresses of this device, as far as it tells.

    Android lets no app list its interfaces. The address from which the internet would be reached
    is known without: a UDP socket is given it when it is connected, which sends nothing.
    """
    return _first(_psutil_ips, _route_ips) or []


def _known(read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except _UNKNOWN:
        return None


def _first(*reads: Callable[[], _T | None]) -> _T | None:
    return next((found for read in reads if (found := _known(read)) is not None), None)


def _share(read: Callable[[], tuple[float, float]], window_s: float) -> float | None:
    """Return the percentage by which the first of two counters grew while the second did."""
    used, total = read()
    time.sleep(window_s)
    used_later, total_later = read()
    if total_later <= total:
        return None
    return min(max(100 * (used_later - used) / (total_later - total), 0.0), 100.0)


def _busy_time() -> tuple[float, float]:
    # user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in user.
    times = [float(each) for each in (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(times) - sum(times[3:5]), sum(times)


def _time_at_speed() -> tuple[float, float]:
    """Return how long the CPUs ran, weighted by their share of the highest speed, and unweighted.

    Idle time counts at the speed that the CPU idles at, so an idle phone shows some 15 percent.
    """
    weighted = total = 0.0
    for cpu in sorted((_SYS / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/stats/time_in_state")):
        states = [tuple(map(float, line.split())) for line in cpu.read_text().splitlines()]
        fastest = max(speed for speed, _ in states)
        weighted += sum(speed / fastest * spent for speed, spent in states)
        total += sum(spent for _, spent in states)
    return weighted, total


def _kernel_load() -> float:
    found = _SysInfo()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.sysinfo(ctypes.byref(found)) != 0:
        raise OSError(ctypes.get_errno(), "sysinfo")
    return float(found.loads[0]) / _LOAD_UNIT


def _kernel_memory(name: str) -> int:
    lines = (_PROC / "meminfo").read_text().splitlines()
    found = [int(line.split()[1]) for line in lines if line.startswith(name)]
    return found[0] * 1024


def _psutil_battery() -> Battery | None:
    found = psutil.sensors_battery()
    return None if found is None else Battery(float(found.percent), found.power_plugged)


def _supplies(kind: str) -> Iterator[Path]:
    """Yield the power supplies of a type, without those of mice and headsets."""
    # A system without any has not even the folder.
    names = {each.name for each in (_SYS / "class").iterdir()}
    if "power_supply" not in names:
        return
    for supply in sorted((_SYS / "class/power_supply").iterdir()):
        with contextlib.suppress(FileNotFoundError):
            if _line(supply / "type").startswith(kind) and _said(supply / "scope") != "Device":
                yield supply


def _kernel_battery() -> Battery | None:
    for supply in _supplies("Battery"):
        percent = float(_line(supply / "capacity"))
        source, is_told = _kernel_source()
        plugged = True if source else _PLUGGED.get(_said(supply / "status") or "")
        if plugged is None and is_told:
            plugged = False
        tenths = _said(supply / "temp")
        return Battery(
            min(percent, 100.0), plugged, source, None if tenths is None else float(tenths) / 10
        )
    return None


def _kernel_source() -> tuple[str | None, bool]:
    """Return what the device is plugged into, and whether that is told at all."""
    is_told = False
    for kind, name in _SUPPLIES:
        for supply in _supplies(kind):
            online = _said(supply / "online")
            if online == "1":
                return name, True
            is_told |= online == "0"
    return None, is_told


def _line(path: Path) -> str:
    return path.read_text().strip()


def _said(path: Path) -> str | None:
    return _known(lambda: _line(path))


def _psutil_temperature(sensors: tuple[str, ...]) -> float | None:
    zones = psutil.sensors_temperatures()
    return next((float(entry.current) for name in sensors for entry in zones.get(name, ())), None)


def _kernel_temperature(sensors: tuple[str, ...]) -> float | None:
    found: dict[str, float] = {}
    for zone in sorted((_SYS / "class/thermal").glob("thermal_zone*")):
        with contextlib.suppress(OSError, ValueError):
            name = (zone / "type").read_text().strip()
            found.setdefault(name, float((zone / "temp").read_text()) / 1000)
    return next((found[name] for name in sensors if name in found), None)


def _psutil_ips() -> list[str]:
    return [
        entry.address.partition("%")[0]
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    ]


def _route_ips() -> list[str]:
    found = ["127.0.0.1", "::1"]
    for family, nobody in _NOBODY:
        with (
            contextlib.suppress(OSError),
            socket.socket(family, socket.SOCK_DGRAM) as probe,
        ):
            probe.connect((nobody, 9))
            found.append(str(probe.getsockname()[0]))
    return found
