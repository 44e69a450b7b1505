"""What would keep a hub from starting, or cripple it, found before the start and in its words.

A component that may refuse to be set up has `preflight(site, config)` beside `async_setup`: it
calls the same checks, changes nothing, and yields every obstacle it finds. A hub that runs needs
none of this: components import it for their types only.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from swarm_hub.const import STORAGE_DIR
from swarm_hub.exceptions import HubError


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One of them: `path` are the keys of the section that it is about.

    One that does not stop the component is a warning.
    """

    message: str
    path: tuple[str, ...] = ()
    stops: bool = True


@dataclass(frozen=True, slots=True)
class Site:
    """Where a hub would start: its directory, what it has besides, and ports that are taken.

    `listens` is where the hub that runs there already listens; None if it does not say.
    """

    config_dir: Path
    shared_store: bool
    # Whether other hubs send it large blobs.
    listens_for_bulk: bool
    listens: frozenset[str] | None
    # Sockets stay bound until all components were asked, so that two of them can't have one port.
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def storage_path(self, *parts: str) -> Path:
        """Return a path inside the hub's private `.storage` directory."""
        return self.config_dir.joinpath(STORAGE_DIR, *parts)

    def hold(self, address: str, listen: Callable[[], socket.socket | None]) -> None:
        """Bind an address unless the hub that runs there has it; raises what `listen` raises."""
        if self.listens is None or address in self.listens:
            return
        if (bound := listen()) is not None:
            self.held.enter_context(bound)

    def refusal(self, check: Callable[[], object], *path: str) -> Iterator[Obstacle]:
        """Yield the obstacle that a check raises as a HubError."""
        try:
            check()
        except HubError as error:
            yield Obstacle(str(error), path)

    def warning(self, message: str | None, *path: str) -> Iterator[Obstacle]:
        """Yield what does not stop the component, if there is anything to say."""
        if message is not None:
            yield Obstacle(message, path, stops=False)
