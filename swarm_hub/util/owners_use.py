"""When somebody last used this device, as far as the kernel shows it to everybody.

Terminals tell when they were last read from, within 8 s. Keyboards and mice are counted: those on
USB by the requests that each of their reports completes (`urbnum`), those of a PS/2 port, as most
laptops have them, by their interrupts. What is on Bluetooth, or a touch screen, is not seen.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_DEV: Final = Path("/dev")
_INTERRUPTS: Final = Path("/proc/interrupts")
_USB: Final = Path("/sys/bus/usb/devices")
_TERMINALS: Final = ("tty[0-9]*", "pts/[0-9]*")
# HID interfaces that are a keyboard or a mouse.
_HID: Final = "03"
_INPUT_PROTOCOLS: Final = ("01", "02")
_LOOK_FOR_DEVICES_EVERY_S: Final = 60.0
# An access in the future was made before the clock was set back.
_AHEAD_MAX_S: Final = 60.0


class OwnersUse:
    """Compares what it sees with what it saw at the last look."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._counted_at: float | None = None
        self._devices: list[Path] = []
        self._devices_at: float | None = None

    def idle_s(self, now_s: float, now: float) -> float | None:
        """Return for how long nobody has used the device; None if that can't be told.

        `now_s` is since the epoch, `now` monotonic.
        """
        seen = [now_s - at for at in _terminals_read_at() if at - now_s <= _AHEAD_MAX_S]
        counts = dict(self._count(now))
        known = counts.keys() & self._counts.keys()
        if any(counts[name] != self._counts[name] for name in known):
            self._counted_at = now
        self._counts = counts
        if self._counted_at is not None:
            seen.append(now - self._counted_at)
        if not seen and not counts:
            return None
        # Nothing moved since the first look.
        return max(0.0, min(seen, default=now_s))

    def _count(self, now: float) -> Iterator[tuple[str, int]]:
        if self._devices_at is None or now - self._devices_at >= _LOOK_FOR_DEVICES_EVERY_S:
            self._devices, self._devices_at = list(_usb_inputs()), now
        for device in self._devices:
            # It may just have been pulled.
            with contextlib.suppress(OSError, ValueError):
                yield device.name, int((device / "urbnum").read_text())
        with contextlib.suppress(OSError, ValueError):
            yield "i8042", _ps2_interrupts()


def _terminals_read_at() -> Iterator[float]:
    for pattern in _TERMINALS:
        for terminal in _DEV.glob(pattern):
            with contextlib.suppress(OSError):
                yield terminal.stat().st_atime


def _usb_inputs() -> Iterator[Path]:
    for interface in _USB.glob("*:*"):
        with contextlib.suppress(OSError):
            kind = (interface / "bInterfaceClass").read_text().strip()
            protocol = (interface / "bInterfaceProtocol").read_text().strip()
            if kind == _HID and protocol in _INPUT_PROTOCOLS:
                yield _USB / interface.name.partition(":")[0]


def _ps2_interrupts() -> int:
    """Return the interrupts of the keyboard's controller; raises ValueError if there is none."""
    found = [
        int(word)
        for line in _INTERRUPTS.read_text().splitlines()
        if line.endswith("i8042")
        for word in line.split()[1:]
        if word.isdecimal()
    ]
    if not found:
        raise ValueError("there is no i8042")
    return sum(found)
