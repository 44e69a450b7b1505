"""The views of the API's own description: `openapi.json`, and a page that shows it."""

import json
from importlib import resources
from typing import Any, Final

from swarm_hub.core import Hub
from swarm_hub.endpoints import Blob, Request, Scope, View

OPENAPI_TYPE: Final = "application/json"
# The page asks nobody but this hub, runs nothing but its own script, and is nobody's frame.
_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_FILES: Final = (
    ("/docs", "index.html", "text/html"),
    ("/docs/page.css", "page.css", "text/css"),
    ("/docs/page.js", "page.js", "text/javascript"),
)


def views(hub: Hub) -> list[View]:
    """Return the views.

    The description needs a token: it tells which components run here. The page is the same on every
    hub; it asks for a token and fetches the description with it.
    """
    described: list[bytes] = []

    async def openapi(_request: Request) -> Blob:
        """Return this description, in OpenAPI 3.1."""
        if not described:
            # The library takes a while to import, and what is described no longer changes.
            described.append(dump(description(hub)))
        return Blob(described[0], OPENAPI_TYPE)

    return [
        View("GET", "/openapi.json", openapi, Scope.READ, bytes, media_types=(OPENAPI_TYPE,)),
        *(_page(path, name, media_type) for path, name, media_type in _FILES),
    ]


def description(hub: Hub) -> dict[str, Any]:
    """Return the description of what a hub serves."""
    from swarm_hub.components.api.openapi.document import document

    return document(hub.endpoints.views, hub.endpoints.commands)


def dump(document: dict[str, Any]) -> bytes:
    """Return a description as it is served and kept, one line for each value."""
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def _page(path: str, name: str, media_type: str) -> View:
    body: list[bytes] = []

    async def page(_request: Request) -> Blob:
        """Return a file of the page that shows this description."""
        if not body:
            body.append(resources.files(__package__).joinpath("docs_page", name).read_bytes())
        return Blob(body[0], media_type, told=_HEADERS)

    return View("GET", path, page, Scope.PUBLIC, bytes, outside=True, media_types=(media_type,))
