"""A node that is kept from a module stays so when it, or the gateway, comes back."""

import dataclasses
from typing import Any

from swarm_hub.components.gateway.dispatch.trust import Trust
from swarm_hub.components.sandbox import SANDBOX
from swarm_hub.storage.queries import meta
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]
# Several, so that each of two workers is asked.
KNOWN = [
    {"first_item": 10 * ten, "n_items": 10, "result": str(primes)}
    for ten, primes in enumerate((4, 4, 2, 2, 3, 2, 2, 3, 2, 1))
]


def lie(worker: RunningHub) -> None:
    sandbox = worker.hub.services[SANDBOX].sandbox
    honest = sandbox.run

    async def run(*args: Any, **keys: Any) -> Any:
        return dataclasses.replace(await honest(*args, **keys), output=b"7")

    sandbox.run = run  # type: ignore[method-assign]


async def node_of(gateway: RunningHub, worker: str, swarm: Swarm) -> dict[str, Any]:
    _, body = await call(gateway, "GET", "/nodes")
    found = [each for each in body["nodes"] if each["node_id"] == swarm.keys(worker)[0]]
    return found[0] if found else {"state": "unknown"}


async def test_a_quarantine_survives_a_restart_of_the_gateway_and_a_new_connection(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    lie(await swarm.worker("liar"))
    await swarm.worker("honest")

    async def quarantines() -> list[dict[str, Any]]:
        _, body = await submit(gateway, modules["primes"], b"0:100", {"known_answers": KNOWN})
        assert (await finished(gateway, body["job_id"]))["state"] == "completed"
        found: list[dict[str, Any]] = (await node_of(gateway, "liar", swarm))["quarantines"]
        return found

    (kept,) = await until(quarantines, bool)
    assert kept["reason"] == "it contradicted a known answer"

    for whose in ("liar", "gateway"):
        if whose == "gateway":
            await swarm.stop(gateway)
            gateway = await swarm.gateway()
        else:
            await swarm.stop(next(each for each in swarm._running if each.hub.name == "liar"))
            lie(await swarm.worker("liar"))

        async def liar() -> dict[str, Any]:
            return await node_of(gateway, "liar", swarm)  # noqa: B023

        node = await until(liar, lambda node: node["state"] == "up")
        (again,) = node["quarantines"]
        assert (again["module"], again["reason"]) == (kept["module"], kept["reason"])
        assert kept["for_s"] - 60 < again["for_s"] <= kept["for_s"]


async def test_a_quarantine_that_is_over_is_forgotten(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    now = gateway.clock.steady()
    rows = [("a", now - 1), ("b", now + 10**9)]
    await gateway.hub.store.commit(
        [
            meta.put_quarantines(
                name, [{"program": "m", "until": until_s, "count": 1, "reason": "trap"}]
            )
            for name, until_s in rows
        ]
    )
    await swarm.stop(gateway)
    gateway = await swarm.gateway()

    async def kept() -> set[str]:
        return set(await gateway.hub.store.read(meta.quarantines))

    await until(kept, lambda names: names == {"b"})
    trust = await Trust.load(gateway.hub)
    (one,) = trust.quarantines("b")
    # However far the clock was set back.
    assert one.until <= gateway.clock.monotonic() + 3600
