"""A hub whose configuration a test writes anew and has it reload."""

import json
from typing import Any, Final

from swarm_hub.const import CONFIG_FILE
from swarm_hub.models.reload import Reload
from tests.conftest import RunningHub
from tests.helpers.rest import call

# YAML takes JSON, so nothing has to be quoted by hand.
Sections = dict[str, Any]
OFF: Final = {"runtimes": {"python": False, "javascript": False}}


class Reloading:
    """The configuration of a running hub: what it began with, and what a test changes."""

    def __init__(self, running: RunningHub, base: Sections) -> None:
        self.running = running
        self.hub = running.hub
        self._base = {"hub": {"name": running.hub.name}, **OFF, **base}

    def write(self, **sections: Sections | None) -> None:
        """Write what it began with, but for these keys of these sections; None leaves one out."""
        content = dict(self._base)
        for name, keys in sections.items():
            content[name] = keys if keys is None else {**(content.get(name) or {}), **keys}
        path = self.running.folder / CONFIG_FILE
        path.write_text(json.dumps(content, indent=1))

    async def reload(self, **sections: Sections | None) -> Reload:
        """Write it with these keys and have the hub take it."""
        self.write(**sections)
        assert self.hub.live_configuration is not None
        return await self.hub.live_configuration().reload("a test")

    async def takes(self, section: str, **keys: Any) -> None:
        """Reload with these keys, all of which must be applied."""
        done = await self.reload(**{section: keys})
        applied = {each["path"].split(" → ")[1] for each in done["applied"]}
        assert applied >= keys.keys(), (section, keys, done)
        assert not done["needs_restart"], done

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Return status and body of a request."""
        return await call(self.running, method, path, **options)


def port_of(running: RunningHub) -> int:
    """Return the port of its API."""
    return int(running.url.rpartition(":")[2])


def applied(done: Reload) -> dict[str, tuple[Any, Any]]:
    """Return old and new value of each key that a reload applied."""
    return {each["path"]: (each["old"], each["new"]) for each in done["applied"]}


def waiting(done: Reload) -> dict[str, tuple[Any, Any]]:
    """Return old and new value of each key that a reload left for a restart."""
    return {each["path"]: (each["old"], each["new"]) for each in done["needs_restart"]}
