"""What the calls of the API stand on: one request, and a list that comes in pages."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from swarm_hub.client.gateways import Gateways


class Calls:
    """Calls to the gateways of one swarm."""

    _hub: Gateways

    async def _json(
        self, method: str, path: str, query: Mapping[str, int | str] | None = None, **options: Any
    ) -> Any:
        return await self._hub.ask(method, path, params=query, **options)

    async def _pages(self, path: str, query: Mapping[str, int | str]) -> AsyncGenerator[Any, None]:
        """Yield page after page, each led to by the `cursor` of the one before."""
        cursor: str | None = ""
        while cursor is not None:
            page = await self._json(
                "GET", path, {**query, **({"cursor": cursor} if cursor else {})}
            )
            yield page
            # A hub of an earlier version sends all at once.
            cursor = page.get("cursor")


def id_of(job: str | Mapping[str, Any]) -> str:
    """Return the id of a job: of a handle or a status as well as the text itself."""
    return str(job["job_id"]) if isinstance(job, Mapping) else str(job)
