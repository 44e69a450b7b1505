"""A phone as Termux shows it: its variables, its folders and a getprop that answers as one."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from swarm_hub.cli import main
from swarm_hub.cli.diagnosis import Finding
from swarm_hub.cli.diagnosis.android import android, is_android

Look = Callable[[], dict[str, Finding]]


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Look]:
    """Return a way to emulate a phone of a release; gives what is found there, by subject."""
    programs, home, prefix = (tmp_path / each for each in ("bin", "home", "usr"))
    for folder in (programs, home, prefix):
        folder.mkdir()
    monkeypatch.setenv("TERMUX_VERSION", "0.118.0")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PREFIX", str(prefix))
    # termux-services starts runit there.
    (prefix / "etc" / "profile.d").mkdir(parents=True)
    (prefix / "etc" / "profile.d" / "start-services.sh").touch()
    (prefix / "bin").mkdir()
    (prefix / "bin" / "sh").symlink_to("/bin/sh")

    def program(name: str, text: str) -> None:
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)

    def make(release: str, sdk: str, *has: str) -> Look:
        program("getprop", f'case "$1" in *sdk) echo {sdk};; *) echo {release};; esac')
        for name in has:
            program(name, "exit 0")
        return lambda: {each.subject: each for each in android(tmp_path / "hub")}

    return make


def test_elsewhere_nothing_is_said_of_android(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TERMUX_VERSION", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not is_android()
    assert android(tmp_path) == []
    # Python 3.13 and newer.
    monkeypatch.setattr(sys, "platform", "android")
    assert is_android()


@pytest.mark.parametrize(
    ("release", "sdk", "command"),
    [
        ("11", "30", None),
        ("12", "31", "device_config put activity_manager max_phantom_processes 2147483647"),
        ("12", "32", "settings put global settings_enable_monitor_phantom_procs false"),
        ("14", "34", "settings put global settings_enable_monitor_phantom_procs false"),
    ],
)  # fmt: skip
def test_each_release_has_its_command_against_killed_processes(
    phone: Callable[..., Look], release: str, sdk: str, command: str | None
) -> None:
    found = phone(release, sdk)()
    assert found["android"].text == f"{release} (sdk {sdk})"
    phantom = found.get("phantom processes")
    expected = None if command is None else f"adb shell {command}"
    assert (phantom.command if phantom else None) == expected


def test_an_android_that_wasmtime_does_not_run_on_is_bad(phone: Callable[..., Look]) -> None:
    found = phone("7.0", "24")()["android"]
    assert (found.level, "needs 8 or newer" in found.text) == ("bad", True)


def test_a_phone_that_says_nothing_gets_the_advice_for_new_ones(
    phone: Callable[..., Look],
) -> None:
    found = phone("''", "''")()
    assert found["android"].level == "warn"
    assert "settings_enable_monitor" in found["phantom processes"].command


def test_what_is_missing_is_said_with_what_makes_it(
    phone: Callable[..., Look], tmp_path: Path
) -> None:
    found = phone("14", "34")()
    assert found["wake lock"].level == "bad"
    assert found["wake lock"].command == "pkg install termux-tools"
    makes = f"swarm-hub service install -c {tmp_path / 'hub'}"
    assert found["service"].command == f"pkg install termux-services && {makes}"
    assert found["boot"].command == makes
    assert "IGNORE_BATTERY_OPTIMIZATION_SETTINGS" in found["battery optimisation"].command


def test_the_command_makes_what_the_next_look_finds(
    phone: Callable[..., Look], tmp_path: Path
) -> None:
    look = phone("14", "34", "termux-wake-lock", "sv")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "configuration.yaml").touch()
    before = look()
    assert before["wake lock"].level == "ok"
    assert before["service"].command == before["boot"].command
    ran = CliRunner().invoke(main, before["service"].command.split()[1:])
    assert ran.exit_code == 0, ran.output
    after = look()
    assert (after["service"].level, after["boot"].level) == ("ok", "ok")


@pytest.mark.parametrize(
    ("script", "level", "text"),
    [
        (None, "warn", "it can't be read without Termux:API"),
        ('echo \'{"percentage": 85, "plugged": "PLUGGED_USB"}\'', "ok", "85 %, plugged in (usb)"),
        ('echo \'{"percentage": 85, "plugged": "UNPLUGGED"}\'', "ok", "85 %, unplugged"),
        ("echo '{\"present\": false}'", "ok", "there is none"),
        ("echo Termux:API is not yet available", "warn", "it can't be read: what it says: not"),
        ("exit 1", "warn", "termux-battery-status ended with 1; is the app Termux:API installed"),
    ],
)
def test_the_battery_is_asked_as_a_worker_does(
    phone: Callable[..., Look], tmp_path: Path, script: str | None, level: str, text: str
) -> None:
    look = phone("14", "34")
    if script is not None:
        program = tmp_path / "bin" / "termux-battery-status"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    found = look()["battery"]
    assert (found.level, text in found.text) == (level, True), found.text
    if script is None:
        assert found.command == "pkg install termux-api"
