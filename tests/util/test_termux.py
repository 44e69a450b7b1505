"""What Termux:API's programs say, in all the ways in which they were seen to say it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.exceptions import HubError
from swarm_hub.util.device import Battery
from swarm_hub.util.termux import read_battery, read_wifi

PHONE = {
    "present": True, "technology": "Li-ion", "health": "GOOD", "plugged": "PLUGGED_AC",
    "status": "CHARGING", "temperature": 27.3, "voltage": 4099, "current": 820000,
    "current_average": -576, "percentage": 85, "level": 85, "scale": 100,
    "charge_counter": 3194654, "energy": None,
}  # fmt: skip
WIFI = {
    "bssid": "02:00:00:00:00:00", "frequency_mhz": 5240, "ip": "192.168.1.50",
    "link_speed_mbps": 433, "rssi": -55, "ssid": "<unknown ssid>", "supplicant_state": "COMPLETED",
}  # fmt: skip


def said(base: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({**base, **changes}, indent=2).encode()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Battery(85.0, True, "ac", 27.3)),
        ({"plugged": "PLUGGED_USB"}, Battery(85.0, True, "usb", 27.3)),
        ({"plugged": "PLUGGED_WIRELESS"}, Battery(85.0, True, "wireless", 27.3)),
        ({"plugged": "PLUGGED_DOCK"}, Battery(85.0, True, "dock", 27.3)),
        ({"plugged": "PLUGGED_16"}, Battery(85.0, True, None, 27.3)),
        ({"plugged": "UNPLUGGED", "status": "DISCHARGING"}, Battery(85.0, False, None, 27.3)),
        # A charger weaker than the phone: it is plugged in, whatever the battery does.
        ({"plugged": "PLUGGED_USB", "status": "DISCHARGING"}, Battery(85.0, True, "usb", 27.3)),
        ({"plugged": None}, Battery(85.0, None, None, 27.3)),
        ({"plugged": 5}, Battery(85.0, None, None, 27.3)),
        ({"temperature": "22.3"}, Battery(85.0, True, "ac", 22.3)),
        ({"temperature": "warm"}, Battery(85.0, True, "ac")),
        ({"temperature": "nan"}, Battery(85.0, True, "ac")),
        ({"temperature": 1e9}, Battery(85.0, True, "ac")),
        ({"temperature": None}, Battery(85.0, True, "ac")),
        ({"percentage": 0}, Battery(0.0, True, "ac", 27.3)),
        ({"present": False, "percentage": -1}, Battery(None, None, exists=False)),
    ],
)
def test_what_a_battery_says(changes: dict[str, Any], expected: Battery) -> None:
    assert read_battery(said(PHONE, **changes)) == expected


@pytest.mark.parametrize("percentage", [-1, 101, None, "85", True, [], 10**400])
def test_a_percentage_that_is_none_is_refused(percentage: object) -> None:
    with pytest.raises(ValueError, match="its percentage is "):
        read_battery(said(PHONE, percentage=percentage))


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{", b"null", b"\xff", b'{"API_ERROR": "no permission"}', b"[" * 60_000,
     b'{"percentage": NaN}', b"Termux:API is not installed"],
    ids=lambda raw: repr(raw[:20]),
)  # fmt: skip
def test_what_is_no_answer_is_refused(raw: bytes) -> None:
    for read in (read_battery, read_wifi):
        with pytest.raises((ValueError, HubError)):
            read(raw)


@given(
    st.dictionaries(
        st.sampled_from([*PHONE, "supplicant_state", "ip"]),
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    )
)
def test_whatever_is_said_is_read_or_refused(plain: dict[str, Any]) -> None:
    for read in (read_battery, read_wifi):
        try:
            found = read(json.dumps(plain).encode())
        except (ValueError, HubError):
            continue
        if isinstance(found, Battery) and found.percent is not None:
            assert 0 <= found.percent <= 100


@pytest.mark.parametrize(
    ("changes", "on_wifi"),
    [
        ({}, True),
        ({"supplicant_state": "DISCONNECTED", "ip": "0.0.0.0"}, False),
        ({"supplicant_state": "UNINITIALIZED", "ip": "0.0.0.0"}, False),
        ({"supplicant_state": "COMPLETED", "ip": "0.0.0.0"}, False),
        ({"ip": None}, False),
        ({"ssid": "home", "bssid": None}, True),
    ],
)
def test_whether_a_phone_is_on_a_wifi(changes: dict[str, Any], on_wifi: bool) -> None:
    assert read_wifi(said(WIFI, **changes)) is on_wifi


def test_a_wifi_without_a_state_is_refused() -> None:
    with pytest.raises(ValueError, match="its supplicant_state is None"):
        read_wifi(said(WIFI, supplicant_state=None))
