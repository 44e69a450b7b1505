"""The view of the runtimes that a gateway has."""

from typing import TypedDict

from swarm_hub.components.runtimes.catalog import Catalog, how_to_get
from swarm_hub.components.runtimes.languages import LANGUAGES
from swarm_hub.endpoints import Json, Request, Scope, View


class RuntimeShape(TypedDict):
    """A language, and the runtime that this hub has for it; null where it has none.

    `get` says how a hub that has none gets it.
    """

    name: str
    endings: list[str]
    sha256: str | None
    size_bytes: int | None
    origin: str | None
    get: str


class RuntimesShape(TypedDict):
    """The languages of programs that jobs can be."""

    runtimes: list[RuntimeShape]


def view(catalog: Catalog) -> View:
    """Return the view."""

    async def runtimes(_request: Request) -> Json:
        """List the languages that programs may be in, and the runtime of each."""
        return Json({"runtimes": [_shape(catalog, name) for name in LANGUAGES]})

    return View("GET", "/runtimes", runtimes, Scope.READ, RuntimesShape)


def _shape(catalog: Catalog, name: str) -> RuntimeShape:
    found = next((each for each in catalog.all() if each.name == name), None)
    return {
        "name": name,
        "endings": list(LANGUAGES[name].endings),
        "sha256": found.sha if found else None,
        "size_bytes": found.size_bytes if found else None,
        "origin": found.origin if found else None,
        "get": how_to_get(LANGUAGES[name]),
    }
