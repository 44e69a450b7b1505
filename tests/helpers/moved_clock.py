"""A component that sets a hub's clock anew as a file says; for swarms of processes.

`give_moved_clock(folder)` puts it into a hub's directory before the hub starts, and
`move_clock(folder, by_s)` sets the clock of the running hub. Only the hub's own clock moves, which
is all that the hub reads the time of day from; without `faketime` the system's can't.
"""

import json
import logging
import time
from pathlib import Path
from typing import Final

from swarm_hub.core import Hub
from swarm_hub.helpers import config_validation as cv

_LOGGER: Final = logging.getLogger(__name__)
_DOMAIN: Final = "moved_clock"
_FILE: Final = "clock_offset"
_LOOK_EVERY_S: Final = 0.2
_MANIFEST: Final = {
    "domain": _DOMAIN, "name": "Moved clock", "documentation": "none", "version": "1.0.0",
    "dependencies": [],
}  # fmt: skip


CONFIG_SCHEMA = cv.section({}, dict)


async def async_setup(hub: Hub, _config: object) -> bool:
    """Move the clock now, and whenever the file changes."""
    offset_s = _offset(hub.config_dir)

    def wall() -> float:
        return time.time() + offset_s

    async def look() -> None:
        nonlocal offset_s
        offset_s = _offset(hub.config_dir)

    hub.clock.wall = wall  # type: ignore[method-assign]
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
    unfinished = folder / f"{_FILE}.new"
    unfinished.write_text(str(by_s))
    unfinished.replace(folder / _FILE)


def _offset(folder: Path) -> float:
    try:
        return float((folder / _FILE).read_text())
    except FileNotFoundError:
        return 0.0
