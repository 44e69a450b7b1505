"""Over what kind of network a device reaches the others, and whether that costs by volume."""

from collections.abc import Iterator
from dataclasses import dataclass
from os.path import exists, isdir
from pathlib import Path
from typing import Final

WIFI: Final = "wifi"
MOBILE: Final = "mobile"
ETHERNET: Final = "ethernet"

NMCLI: Final = (
    *("nmcli", "-t", "-f"),
    "GENERAL.DEVICE,GENERAL.IP-IFACE,GENERAL.TYPE,GENERAL.METERED",
    *("device", "show"),
)
_KINDS: Final = {"wifi": WIFI, "gsm": MOBILE, "cdma": MOBILE, "ethernet": ETHERNET}
_ROUTES: Final = Path("/proc/net/route")
_INTERFACES: Final = Path("/sys/class/net")
# Interfaces of modems; traffic over them is usually paid for by volume.
_MODEMS: Final = ("wwan", "rmnet", "ccmni")
_ETHERNET_TYPE: Final = "1"


@dataclass(frozen=True, slots=True)
class Network:
    """A kind of network (`wifi`, `mobile`, `ethernet`), and whether it is metered; None: unknown.

    Only the owner knows whether a Wi-Fi is that of a phone which pays by volume.
    """

    kind: str | None = None
    metered: bool | None = None


@dataclass(frozen=True, slots=True)
class Managed:
    """What NetworkManager says of one of its devices."""

    interfaces: frozenset[str]
    network: Network


def default_interface() -> str | None:
    """Return the interface of the default route; None if there is none, or none can be read."""
    try:
        routes = [line.split() for line in _ROUTES.read_text().splitlines()[1:]]
        # Interface, destination, gateway, flags, references, uses, metric, mask.
        found = [
            (int(route[6]), route[0]) for route in routes if route[1] == route[7] == "00000000"
        ]
    except (OSError, LookupError, ValueError):
        return None
    return min(found)[1] if found else None


def of_interface(interface: str | None) -> Network:
    """Return what the kernel tells of an interface."""
    if interface is None:
        return Network()
    if interface.startswith(_MODEMS):
        return Network(MOBILE, True)
    place = _INTERFACES / interface
    # Of what may not be looked at, these say that it is not there; a Path of Python 3.11 raises.
    if isdir(place / "wireless") or exists(place / "phy80211"):
        return Network(WIFI)
    # Tunnels and bridges have no device of their own.
    if exists(place / "device") and _line(place / "type") == _ETHERNET_TYPE:
        return Network(ETHERNET)
    return Network()


def read_nmcli(raw: bytes) -> tuple[Managed, ...]:
    """Read what `NMCLI` says; raises ValueError if that is of no device."""
    found = tuple(_managed(raw.decode(errors="replace")))
    if not found:
        raise ValueError("it says nothing of any device")
    return found


def _managed(text: str) -> Iterator[Managed]:
    for block in text.split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        said = {name: value.strip() for name, _, value in pairs}
        names = {said.get("GENERAL.DEVICE", ""), said.get("GENERAL.IP-IFACE", "")} - {"", "--"}
        if not names:
            continue
        # Guesses are marked: "yes (guessed)".
        word = said.get("GENERAL.METERED", "").partition(" ")[0]
        kind = _KINDS.get(said.get("GENERAL.TYPE", ""))
        metered = {"yes": True, "no": False}.get(word)
        yield Managed(frozenset(names), Network(kind, metered))


def _line(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return None
