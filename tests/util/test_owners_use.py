"""What shows that somebody uses a device: their terminals, and what counts their keystrokes."""

import os
from pathlib import Path

import pytest

from swarm_hub.util import owners_use
from swarm_hub.util.owners_use import OwnersUse

NOW_S = 1_800_000_000.0
INTERRUPTS = """           CPU0       CPU1
  1:         {0}          7   IO-APIC    1-edge      i8042
  8:          1          0   IO-APIC    8-edge      rtc0
 12:        100         20   IO-APIC   12-edge      i8042
NMI:          5          5   Non-maskable interrupts
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(owners_use, "_DEV", tmp_path / "dev")
    monkeypatch.setattr(owners_use, "_INTERRUPTS", tmp_path / "interrupts")
    monkeypatch.setattr(owners_use, "_USB", tmp_path / "usb")
    return tmp_path


def terminal(root: Path, name: str, idle_s: float) -> None:
    path = root / "dev" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (NOW_S - idle_s, NOW_S))


def usb(root: Path, name: str, count: int, kind: str = "03", protocol: str = "01") -> None:
    for folder, files in (
        (f"{name}:1.0", {"bInterfaceClass": kind, "bInterfaceProtocol": protocol}),
        (name, {"urbnum": str(count)}),
    ):
        (root / "usb" / folder).mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (root / "usb" / folder / file).write_text(f"{text}\n")


def test_a_device_that_shows_nothing_is_not_known_to_be_idle(root: Path) -> None:
    assert OwnersUse().idle_s(NOW_S, 0.0) is None


def test_the_terminal_read_last_counts(root: Path) -> None:
    use = OwnersUse()
    terminal(root, "tty1", 90_000)
    assert use.idle_s(NOW_S, 0.0) == 90_000
    terminal(root, "pts/7", 42)
    terminal(root, "ttyS0", 1)
    assert use.idle_s(NOW_S, 0.0) == 42


def test_a_terminal_of_the_future_is_of_a_clock_that_was_wrong(root: Path) -> None:
    terminal(root, "tty1", -3600)
    assert OwnersUse().idle_s(NOW_S, 0.0) is None
    terminal(root, "pts/1", -5)
    assert OwnersUse().idle_s(NOW_S, 0.0) == 0.0


@pytest.mark.parametrize("kind", ["keyboard", "mouse", "laptop"])
def test_keys_and_moves_are_noticed_when_they_are_made(root: Path, kind: str) -> None:
    def make(count: int) -> None:
        if kind == "laptop":
            (root / "interrupts").write_text(INTERRUPTS.format(count))
        else:
            usb(root, "1-2", count, protocol="01" if kind == "keyboard" else "02")

    use = OwnersUse()
    make(50)
    terminal(root, "tty1", 90_000)
    # What was before the first look is not known.
    assert use.idle_s(NOW_S, 10.0) == 90_000
    assert use.idle_s(NOW_S, 20.0) == 90_000
    make(51)
    assert use.idle_s(NOW_S, 30.0) == 0.0
    assert use.idle_s(NOW_S, 90.0) == 60.0


def test_a_keyboard_that_comes_or_goes_is_none_that_is_used(root: Path) -> None:
    use = OwnersUse()
    usb(root, "1-1", 5)
    assert use.idle_s(NOW_S, 0.0) == NOW_S
    usb(root, "1-2", 7)
    assert use.idle_s(NOW_S, 61.0) == NOW_S
    (root / "usb/1-1/urbnum").unlink()
    assert use.idle_s(NOW_S, 62.0) == NOW_S
    usb(root, "1-2", 8)
    assert use.idle_s(NOW_S, 63.0) == 0.0


@pytest.mark.parametrize(("kind", "protocol"), [("08", "50"), ("03", "00"), ("09", "01")])
def test_other_devices_on_usb_are_not_looked_at(root: Path, kind: str, protocol: str) -> None:
    usb(root, "2-1", 5, kind, protocol)
    assert OwnersUse().idle_s(NOW_S, 0.0) is None
