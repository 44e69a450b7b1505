"""Swarms of processes, with the express plane or, by SWARM_HUB_TESTS_EXPRESS=off, without it."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from tests.helpers import warm

_SWITCH: Final = "SWARM_HUB_TESTS_EXPRESS"
_CHOICES: Final = {"on": True, "off": False}

# Whether the hubs of the tests use the express plane.
EXPRESS: Final = _CHOICES[os.environ.get(_SWITCH, "on")]
# What stands for that in `mesh:` of each of them.
MESH: Final[Mapping[str, str]] = MappingProxyType({} if EXPRESS else {"express": "false"})


def start_warm(hub: LocalHub) -> None:
    """Start a hub as `LocalHub.start` does, forked from a process that has imported everything."""
    with (hub.folder / "hub.log").open("ab") as log:
        hub.process = warm.start(  # type: ignore[assignment]
            "swarm_hub", ["run", "-c", hub.folder], stdout=log, stderr=log, env=os.environ
        )


def local_swarm(folder: Path) -> LocalSwarm:
    """Return an empty swarm of processes."""
    return LocalSwarm(folder, MESH)
