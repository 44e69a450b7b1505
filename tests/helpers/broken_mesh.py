"""Runs a hub whose mesh breaks: `python -m tests.helpers.broken_mesh HOW DIRECTORY`."""

import sys
import threading
import time

from swarm_hub.cli import run_command
from swarm_hub.cli.hub import run_hub


def no_library() -> None:
    """Leave out a library that only the mesh needs."""
    sys.modules["libp2p"] = None  # type: ignore[assignment]


def no_thread() -> None:
    """Have the system refuse the mesh's thread."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "mesh-trio":
            raise RuntimeError("can't start new thread")
        start(thread)

    threading.Thread.start = refuse  # type: ignore[method-assign]


def dies_later() -> None:
    """Have the mesh's thread die of a defect once it serves."""
    from swarm_hub.components.mesh.transports.libp2p.trio_thread import TrioThread

    ready = TrioThread.ready

    async def fail() -> None:
        raise LookupError("a defect of the mesh")

    def ready_to_die(bridge: TrioThread) -> None:
        ready(bridge)
        bridge.start_soon(fail)

    TrioThread.ready = ready_to_die  # type: ignore[method-assign]


def returns_early() -> None:
    """Have the mesh's thread end once it serves, as if it had been asked to."""
    from swarm_hub.components.mesh.transports.libp2p.trio_thread import TrioThread

    ready = TrioThread.ready

    def ready_to_leave(bridge: TrioThread) -> None:
        ready(bridge)
        assert bridge.stopping is not None
        bridge.stopping.set()

    TrioThread.ready = ready_to_leave  # type: ignore[method-assign]


HOW = {each.__name__: each for each in (no_library, no_thread, dies_later, returns_early)}

if __name__ == "__main__":
    how, folder = sys.argv[1:]
    HOW[how]()
    sys.argv = ["swarm-hub", "-c", folder]
    run_command(run_hub, time.monotonic())
