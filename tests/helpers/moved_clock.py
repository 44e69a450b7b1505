"""A component that moves a hub's clock as files say; for swarms of processes.

`give_moved_clock(folder)` puts it into a hub's directory before the hub starts,
`move_clock(folder, by_s)` sets the clock of the running hub anew, and `pass_time(folder, total_s)`
has time pass for it alone, as its deadlines see it. Only the hub's own clock moves, which is all
that the hub reads the time of day from; without `faketime` the system's can't.
"""

import json
import logging
from pathlib import Path
from typing import Final

from swarm_hub.core import Hub
from swarm_hub.helpers import config_validation as cv
from swarm_hub.util.clock import Clock

_LOGGER: Final = logging.getLogger(__name__)
_DOMAIN: Final = "moved_clock"
_FILE: Final = "clock_offset"
_PASSED_FILE: Final = "clock_passed"
_LOOK_EVERY_S: Final = 0.2
_MANIFEST: Final = {
    "domain": _DOMAIN, "name": "Moved clock", "documentation": "none", "version": "1.0.0",
    "dependencies": [],
}  # fmt: skip


CONFIG_SCHEMA = cv.section({}, dict)


async def async_setup(hub: Hub, _config: object) -> bool:
    """Move the clock now, and whenever a file changes."""
    offset_s = passed_s = 0.0
    clock, real = hub.clock, Clock()

    def wall() -> float:
        return real.wall() + offset_s + passed_s

    def boottime() -> float:
        return real.boottime() + passed_s

    def monotonic() -> float:
        return real.monotonic() + passed_s

    async def look() -> None:
        nonlocal offset_s, passed_s
        offset_s = _read(hub.config_dir / _FILE)
        passed_s = _read(hub.config_dir / _PASSED_FILE)

    await look()
    clock.wall = wall  # type: ignore[method-assign]
    clock.boottime = boottime  # type: ignore[method-assign]
    clock.monotonic = monotonic  # type: ignore[method-assign]
    # What is signed keeps the time of the others, for whom none has passed.
    clock.steady = real.steady  # type: ignore[method-assign]
    hub.tasks.every(_LOOK_EVERY_S, look, "moved clock")
    return True


def give_moved_clock(folder: Path) -> str:
    """Put the component into a hub's directory; returns the section of its configuration."""
    home = folder / "custom_components" / _DOMAIN
    home.mkdir(parents=True)
    (home / "manifest.json").write_text(json.dumps(_MANIFEST))
    (home / "__init__.py").write_text(Path(__file__).read_text())
    return f"{_DOMAIN}:\n"


def move_clock(folder: Path, by_s: float) -> None:
    """Set the clock of a hub that has the component so far from the right time."""
    _write(folder / _FILE, by_s)


def pass_time(folder: Path, total_s: float) -> None:
    """Have so much time have passed in all for a hub that has the component."""
    _write(folder / _PASSED_FILE, total_s)


def _write(path: Path, seconds: float) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.write_text(str(seconds))
    unfinished.replace(path)


def _read(path: Path) -> float:
    try:
        return float(path.read_text())
    except FileNotFoundError:
        return 0.0
