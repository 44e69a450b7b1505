"""What Termux:API tells of an Android device: its programs, and how what they say is read.

They are in the package termux-api, and work with the app Termux:API only.
"""

from collections.abc import Mapping
from typing import Any, Final

from swarm_hub.util.bounds import is_number, shown
from swarm_hub.util.device import POWER_SOURCES, Battery
from swarm_hub.util.strict_json import parse_json

BATTERY: Final = ("termux-battery-status",)
WIFI: Final = ("termux-wifi-connectioninfo",)
NOTIFY: Final = "termux-notification"
NOTIFY_REMOVE: Final = "termux-notification-remove"
_BUTTONS_MAX: Final = 3
_PLUGGED: Final = "PLUGGED_"
_TEMPERATURES_C: Final = (-50.0, 150.0)


def read_battery(raw: bytes) -> Battery:
    """Read what `termux-battery-status` says; raises ValueError or MalformedRequest."""
    said = _object(raw)
    if said.get("present") is False:
        return Battery(None, None, exists=False)
    percent, plugged = said.get("percentage"), said.get("plugged")
    if not is_number(percent, 0, 100):
        raise ValueError(f"its percentage is {shown(percent)}")
    source = None
    if isinstance(plugged, str) and plugged.startswith(_PLUGGED):
        word = plugged.removeprefix(_PLUGGED).lower()
        source = word if word in POWER_SOURCES else None
        is_plugged: bool | None = True
    else:
        is_plugged = False if plugged == "UNPLUGGED" else None
    return Battery(float(percent), is_plugged, source, _temperature_c(said.get("temperature")))  # type: ignore[arg-type]


def read_wifi(raw: bytes) -> bool:
    """Read from what `termux-wifi-connectioninfo` says whether the device is on a Wi-Fi."""
    said = _object(raw)
    state, ip = said.get("supplicant_state"), said.get("ip")
    if not isinstance(state, str):
        raise ValueError(f"its supplicant_state is {shown(state)}")
    return state == "COMPLETED" and ip not in (None, "", "0.0.0.0")  # noqa: S104 - means none


def notification(name: str, title: str, text: str, buttons: Mapping[str, str]) -> tuple[str, ...]:
    """Return the command that shows a silent notification, or replaces the one of that name.

    `buttons` are their texts with what Termux's shell runs, three at most.
    """
    command = [
        *(NOTIFY, "--id", name, "--ongoing", "--alert-once", "--priority", "low"),
        *("--title", title, "--content", text),
    ]
    for number, (label, action) in enumerate(list(buttons.items())[:_BUTTONS_MAX], 1):
        command += [f"--button{number}", label, f"--button{number}-action", action]
    return tuple(command)


def _object(raw: bytes) -> dict[str, Any]:
    said = parse_json(raw, "what it says")
    if not isinstance(said, dict):
        raise ValueError(f"it says {shown(said)}")
    if "API_ERROR" in said:
        raise ValueError(f"it says {shown(said['API_ERROR'])}")
    return said


def _temperature_c(value: object) -> float | None:
    # Some versions say it as a text.
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if is_number(value, *_TEMPERATURES_C) else None  # type: ignore[arg-type]
