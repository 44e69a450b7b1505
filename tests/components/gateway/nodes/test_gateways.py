"""Gateways that share a store tell each other, and clients, where they are."""

from typing import Any

from swarm_hub.cli.swarm import free_port
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call


async def listed(hub: RunningHub) -> dict[str, dict[str, Any]]:
    _, body = await call(hub, "GET", "/gateways")
    return {each["name"]: each for each in body["gateways"]}


async def test_a_gateway_alone_lists_itself(swarm: Swarm) -> None:
    hub = await swarm.gateway("alone")
    found = await listed(hub)
    assert list(found) == ["alone"]
    assert (found["alone"]["answers"], found["alone"]["urls"]) == (True, [hub.url])


async def test_an_address_that_was_configured_is_told_instead_of_the_devices_own(
    swarm: Swarm,
) -> None:
    port = free_port()
    api = f"api: {{port: {port}, public_url: 'https://swarm.example.org'}}\n"
    hub = await swarm.start("behind", f"gateway: {{}}\n{api}", port)
    assert (await listed(hub))["behind"]["urls"] == ["https://swarm.example.org"]


async def test_gateways_of_a_store_list_each_other_while_they_live(
    swarm: Swarm, postgres_url: str
) -> None:
    extra = f"storage: {{url: '{postgres_url}'}}\n"
    first = await swarm.gateway("first", extra=extra)
    second = await swarm.gateway("second", extra=extra)
    await swarm.worker("worker", "first")

    def is_told(found: dict[str, dict[str, Any]]) -> bool:
        return found.keys() == {"first", "second"} and found["first"]["nodes"] == 1

    found = await until(lambda: listed(second), is_told, 15)
    slots = found["first"]["slots"]
    assert (found["first"]["urls"], found["first"]["answers"]) == ([first.url], False)
    assert found["first"]["idle_slots"] == slots > 0
    assert (found["second"]["nodes"], found["second"]["answers"]) == (0, True)
    await swarm.stop(first)
    assert list(await listed(second)) == ["second"]
