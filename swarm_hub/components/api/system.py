"""The view of what a hub is made of: versions, roles, limits, components."""

import platform
import sqlite3
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, TypedDict

from swarm_hub.components.api.bodies import JSON_MAX_BYTES, PARTS_MAX
from swarm_hub.const import __version__
from swarm_hub.core import Hub
from swarm_hub.endpoints import Json, Request, Scope, View
from swarm_hub.storage.schema import HEAD

# What a fault may depend on; None of what is not installed here.
_LIBRARIES: Final = ("aiohttp", "libp2p", "sqlalchemy", "wasmtime")


class SystemShape(TypedDict):
    """What a hub is made of; `limits` are in bytes or numbers, null for none."""

    name: str
    version: str
    versions: dict[str, str | None]
    platform: str
    roles: list[str]
    components: list[str]
    store: str
    schema: str
    limits: dict[str, Any]


def system_view(hub: Hub, limits: Callable[[], Mapping[str, Any]]) -> View:
    """Return the view; `limits` gives those of the API by its keys."""

    async def system(_request: Request) -> Json:
        """Return the versions, roles, limits and components of the hub."""
        answer: SystemShape = {
            "name": hub.name,
            "version": __version__,
            "versions": {
                "python": platform.python_version(),
                "sqlite": sqlite3.sqlite_version,
                **_installed(),
            },
            "platform": f"{platform.system()} {platform.machine()}",
            "roles": sorted(hub.roles),
            "components": sorted(hub.components),
            "store": "postgresql" if hub.store.shared else "sqlite",
            "schema": HEAD,
            "limits": {
                **limits(),
                "json": JSON_MAX_BYTES,
                "parts": PARTS_MAX,
                **hub.endpoints.limits(),
            },
        }
        return Json(answer)

    return View("GET", "/system", system, Scope.READ, SystemShape)


@cache
def _installed() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
