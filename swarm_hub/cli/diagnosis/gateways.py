"""Whether the gateways of a configuration can be reached, and how far the clock here is off."""

import http.client
import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

from swarm_hub.cli.diagnosis import Finding
from swarm_hub.cli.diagnosis.android import is_android
from swarm_hub.const import DEFAULT_API_PORT

_CONNECT_S: Final = 3.0
# More are not worth the wait.
_GATEWAYS_MAX: Final = 8
# A Date has whole seconds, and the answer took its time.
_OFF_WARN_S: Final = 10.0
_SET_CLOCK: Final = {
    False: "timedatectl set-ntp true",
    True: "am start -a android.settings.DATE_SETTINGS",
}


def gateways(config_dir: Path) -> list[Finding]:
    """Connect to the mesh's port of each gateway, and read the clock of one."""
    mesh, is_gateway = _configured(config_dir)
    addresses = list(dict.fromkeys(_host_and_port(mesh.get("bootnodes"))))[:_GATEWAYS_MAX]
    if not addresses:
        return [*_none_known(mesh, is_gateway), _clock([])]
    with ThreadPoolExecutor(len(addresses)) as pool:
        reached = list(pool.map(_reach, addresses))
    findings = []
    for (host, port), answer in zip(addresses, reached, strict=True):
        subject = f"gateway {host}:{port}"
        if isinstance(answer, float):
            findings.append(Finding("ok", subject, f"reachable, in {answer * 1000:.0f} ms"))
        else:
            # One that answers is enough to work for.
            level = "warn" if any(isinstance(each, float) for each in reached) else "bad"
            findings.append(
                Finding(
                    level,
                    subject,
                    f"can't be reached: {answer}; does its hub run, is its port open, is this "
                    "device on a network that leads there? On the gateway",
                    "swarm-hub run",
                )
            )
    answered = [
        host
        for (host, _), answer in zip(addresses, reached, strict=True)
        if isinstance(answer, float)
    ]
    return [*findings, _clock(dict.fromkeys(answered))]


def _configured(config_dir: Path) -> tuple[dict[str, Any], bool]:
    """Return the section of the mesh, and whether this hub is a gateway itself."""
    from swarm_hub.config import read_configuration
    from swarm_hub.exceptions import HubError

    try:
        sections = read_configuration(config_dir, "hub").sections
    except HubError:
        return {}, True
    mesh = sections.get("mesh")
    return (dict(mesh) if isinstance(mesh, dict) else {}), "gateway" in sections


def _none_known(mesh: dict[str, Any], is_gateway: bool) -> list[Finding]:
    if is_gateway:
        return []
    if mesh.get("mdns", True):
        return [Finding("ok", "gateways", "none configured; those of the local network are found")]
    return [
        Finding(
            "bad", "gateways", "none configured, and mesh: mdns is off: it would find none",
            "swarm-hub join LINK",
        )
    ]  # fmt: skip


def _host_and_port(bootnodes: object) -> Iterable[tuple[str, int]]:
    from swarm_hub.components.mesh import parse_dial_address
    from swarm_hub.exceptions import MeshError

    for each in bootnodes if isinstance(bootnodes, list | tuple) else ():
        try:
            address = parse_dial_address(str(each))
        except MeshError:
            continue  # Another check says what is wrong with it, or it is no address over IP.
        yield address.host, address.port


def _reach(address: tuple[str, int]) -> float | str:
    """Return how long it took to connect, or why that failed."""
    began = time.monotonic()
    try:
        socket.create_connection(address, timeout=_CONNECT_S).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return time.monotonic() - began


def _clock(hosts: Iterable[str]) -> Finding:
    """Compare the clock here with that of the first gateway whose API answers."""
    for host in hosts:
        if (off_s := _offset_s(host, DEFAULT_API_PORT)) is None:
            continue
        # What a whole second of the Date hides is not claimed.
        if abs(off_s) < _OFF_WARN_S:
            return Finding("ok", "clock", f"within {max(1, round(abs(off_s)))} s of {host}'s")
        way = "ahead of" if off_s > 0 else "behind"
        text = (
            f"{abs(off_s):.0f} s {way} the clock of {host}; set it, or have it set by the network"
        )
        return Finding("warn", "clock", text, _SET_CLOCK[is_android()])
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Finding("ok", "clock", f"{now}; not compared, as no gateway's API answers from here")


def _offset_s(host: str, port: int) -> float | None:
    """Return by how much the clock here is ahead of a server's, None if that is not known."""
    connection = http.client.HTTPConnection(host, port, timeout=_CONNECT_S)
    try:
        before = time.time()
        connection.request("GET", "/health")
        told = connection.getresponse().getheader("Date")
        after = time.time()
        # The Date is cut to a whole second.
        return (before + after) / 2 - (parsedate_to_datetime(told or "").timestamp() + 0.5)
    except (OSError, http.client.HTTPException, ValueError, TypeError):
        return None
    finally:
        connection.close()
