"""What Android does to a hub in Termux, and the command against each.

From documents; nothing of it was tried on a device.
"""

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from swarm_hub.cli.diagnosis import Finding
from swarm_hub.exceptions import HubError
from swarm_hub.util import termux
from swarm_hub.util.programs import said_by

_WITHIN_S: Final = 2.0
# Shorter than `doctor` waits for a check.
_BATTERY_WITHIN_S: Final = 7.0
_ANDROID_12: Final = 31
_ANDROID_12L: Final = 32


def is_android() -> bool:
    """Whether this is Android: Python says so from 3.13 on, Termux's variables always."""
    return sys.platform == "android" or "TERMUX_VERSION" in os.environ


def android(config_dir: Path) -> list[Finding]:
    """Look at what keeps a hub alive on a phone; nothing elsewhere."""
    if not is_android():
        return []
    # Without the sdk it is treated as a new one, where the limit is on.
    sdk = _property("ro.build.version.sdk")
    return [
        _release(sdk),
        *_phantom_processes(int(sdk) if sdk.isdecimal() else _ANDROID_12L),
        _wake_lock(),
        _battery(),
        Finding(
            "warn", "battery optimisation",
            "let Android not optimise Termux: choose Termux there, then Unrestricted (or Don't "
            "optimise)",
            "am start -a android.settings.IGNORE_BATTERY_OPTIMIZATION_SETTINGS",
        ),
        _service(config_dir),
        _boot(config_dir),
    ]  # fmt: skip


def _release(sdk: str) -> Finding:
    release = _property("ro.build.version.release")
    if not release:
        return Finding("warn", "android", "its release is unknown: getprop says nothing")
    if sdk.isdecimal() and int(sdk) < 26:
        return Finding("bad", "android", f"{release} (sdk {sdk}): wasmtime needs 8 or newer")
    return Finding("ok", "android", f"{release} (sdk {sdk or 'unknown'})")


def _phantom_processes(sdk: int) -> list[Finding]:
    if sdk < _ANDROID_12:
        return []
    if sdk < _ANDROID_12L:
        command = "adb shell device_config put activity_manager max_phantom_processes 2147483647"
    else:
        command = "adb shell settings put global settings_enable_monitor_phantom_procs false"
    text = (
        "this Android kills busy background processes beyond 32 of all apps, and nothing here can "
        "see whether that is off; from a computer, once"
    )
    return [Finding("warn", "phantom processes", text, command)]


def _wake_lock() -> Finding:
    if shutil.which("termux-wake-lock") is None:
        return Finding(
            "bad", "wake lock", "termux-wake-lock is missing: the device would sleep",
            "pkg install termux-tools",
        )  # fmt: skip
    return Finding("ok", "wake lock", "a worker takes it while it has work")


def _battery() -> Finding:
    """Ask the battery as a worker does."""
    if shutil.which(termux.BATTERY[0]) is None:
        return Finding(
            "warn", "battery", "it can't be read without Termux:API, and then a worker takes no "
            "work; install that app from where Termux came from, then", "pkg install termux-api",
        )  # fmt: skip
    try:
        found = termux.read_battery(asyncio.run(said_by(termux.BATTERY, _BATTERY_WITHIN_S)))
    except (HubError, ValueError) as error:
        text = (
            f"it can't be read: {error}; is the app Termux:API installed, and was it opened once?"
        )
        return Finding("warn", "battery", text, termux.BATTERY[0])
    if not found.exists:
        return Finding("ok", "battery", "there is none")
    plug = {
        True: f"plugged in ({found.source or 'unknown'})",
        False: "unplugged",
        None: "plug unknown",
    }
    return Finding("ok", "battery", f"{found.percent:g} %, {plug[found.plugged]}")


def _service(config_dir: Path) -> Finding:
    services = Path(os.environ.get("PREFIX", "/data/data/com.termux/files/usr"), "var", "service")
    if (found := _mentions_hub(services.glob("*/run"))) is not None:
        return Finding("ok", "service", f"{found} runs a hub again when it was killed")
    first = "" if shutil.which("sv") else "pkg install termux-services && "
    return Finding(
        "warn", "service", "nothing runs a hub again that Android has killed",
        first + _install(config_dir),
    )  # fmt: skip


def _boot(config_dir: Path) -> Finding:
    if (found := _mentions_hub(Path("~/.termux/boot").expanduser().glob("*"))) is not None:
        return Finding("ok", "boot", f"{found} starts a hub with the device, by Termux:Boot")
    return Finding(
        "warn", "boot",
        "nothing starts a hub with the device; install Termux:Boot, open it once, then",
        _install(config_dir),
    )  # fmt: skip


def _install(config_dir: Path) -> str:
    return f"swarm-hub service install -c {shlex.quote(str(config_dir.absolute()))}"


def _mentions_hub(scripts: Iterable[Path]) -> Path | None:
    for script in scripts:
        try:
            text = script.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        # A boot script may start all services.
        if "swarm-hub" in text or "swarm_hub" in text or "start-services" in text:
            return script
    return None


def _property(name: str) -> str:
    try:
        done = subprocess.run(
            ["getprop", name],  # noqa: S607 - where it is differs between Androids
            capture_output=True,
            text=True,
            timeout=_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
