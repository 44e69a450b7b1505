"""Words to systemd (or whatever else gave NOTIFY_SOCKET), as sd_notify(3) describes them."""

import os
import socket


def notify(state: str) -> None:
    """Send a state such as `READY=1`; nothing happens if nobody asked for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode(), address)
    except OSError:
        # A service manager that does not listen must not stop the service.
        return


def watchdog_s() -> float | None:
    """Return within how many seconds systemd wants to hear that all is well, None if it doesn't."""
    try:
        period_s = int(os.environ["WATCHDOG_USEC"]) / 1e6
        pid = int(os.environ.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return period_s if period_s > 0 and pid == os.getpid() else None
