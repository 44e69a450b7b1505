"""A signal for a hub and all that it started, as a phone's system sends it."""

import contextlib
import signal

import psutil


def signal_all(pid: int, number: signal.Signals) -> None:
    """Send it to a hub and to its children."""
    hub = psutil.Process(pid)
    # A hub that is stopped starts no other child, and one that is not dead yet keeps its children.
    hub.send_signal(signal.SIGSTOP)
    for process in (*hub.children(recursive=True), hub):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
