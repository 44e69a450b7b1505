"""The view of bytes by their hash."""

from swarm_hub.components.content.service import ContentService
from swarm_hub.endpoints import Blob, Request, Scope, Unchanged, View
from swarm_hub.exceptions import MalformedRequest
from swarm_hub.util.hashing import SHA256_HEX


def view(service: ContentService) -> View:
    """Return the view."""

    async def data(request: Request) -> Blob | Unchanged:
        """Return the bytes with a hash, from this hub's store or else from another hub."""
        sha = request.path["sha256"].lower()
        if not SHA256_HEX.match(sha):
            raise MalformedRequest("invalid_sha256", "expected a SHA-256 as 64 hex digits")
        if request.has_version(sha):
            return Unchanged(sha)
        return Blob(await request.enter(service.reading(sha)), etag=sha)

    hashes = {"sha256": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}}
    return View(
        "GET", "/data/{sha256}", data, Scope.READ, bytes, versioned=True, path_values=hashes
    )
