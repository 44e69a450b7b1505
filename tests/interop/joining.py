"""A peer in JavaScript as a worker: joining a gateway, and waiting for what becomes of it there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from swarm_hub.cli.swarm import LocalHub
from swarm_hub.client import SwarmClient, UnreachableError
from tests.conftest import until
from tests.interop.javascript import JsPeer


@asynccontextmanager
async def a_client_of(gateway: LocalHub) -> AsyncIterator[SwarmClient]:
    """A client, once the gateway answers."""
    async with SwarmClient(gateway.url, gateway.token) as client:
        await until(lambda: answers(client), bool, 60)
        yield client


async def answers(client: SwarmClient) -> bool:
    try:
        return (await client.health())["state"] == "running"
    except UnreachableError:
        return False


async def joined(js: JsPeer, gateway: LocalHub, client: SwarmClient) -> dict[str, Any]:
    """Dial the gateway; returns the node that it becomes there."""
    await until(lambda: dialled(js, gateway), bool, 60)
    return await node(client, js, "up")


async def dialled(js: JsPeer, gateway: LocalHub) -> bool:
    """The mesh of a hub is up a little after its API."""
    try:
        return bool((await js.do("dial", address=gateway.address))["live"])
    except RuntimeError:
        return False


async def node(client: SwarmClient, js: JsPeer, state: str) -> dict[str, Any]:
    """Return the node once it has that state."""

    async def look() -> dict[str, Any]:
        return next((each for each in await client.nodes() if each["node_id"] == js.id), {})

    found: dict[str, Any] = await until(look, lambda each: each.get("state") == state)
    return found


async def ban_of(js: JsPeer, client: SwarmClient) -> str:
    """Return why it is banned, once it is; the reason comes with the store's commit."""
    found = await until(lambda: node(client, js, "banned"), lambda each: each["ban_reason"])
    return str(found["ban_reason"])


async def nothing_held(js: JsPeer, gateway: LocalHub) -> None:
    """Wait until the gateway has told it that every result is on disk."""
    await until(lambda: js.state(gateway.peer_id), lambda state: state["held"] == [])


async def beats(js: JsPeer, gateway: LocalHub) -> int:
    return int((await js.state(gateway.peer_id))["beats"])
