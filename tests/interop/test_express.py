"""The peer in JavaScript on the express plane: what goes by record, the way back, and losses."""

import time
from typing import Any

import pytest

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient
from swarm_hub.const import STORAGE_DIR
from swarm_hub.control.client import ask
from swarm_hub.helpers.signing_keys import KeyFiles
from tests.conftest import until
from tests.helpers.swarms import EXPRESS
from tests.interop.javascript import JsPeer, StartJs
from tests.interop.joining import a_client_of, joined, nothing_held

# Hubs, node and a busy machine.
pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(not EXPRESS, reason="the hubs are to do without the express plane"),
]


async def on_express(js: JsPeer, gateway: LocalHub) -> dict[str, Any]:
    """Return the state of the peer once both directions go by record."""
    found: dict[str, Any] = await until(
        lambda: js.state(gateway.peer_id), lambda state: state["express"]
    )
    return found


async def primes(client: SwarmClient, modules: dict[str, bytes], count: int) -> None:
    """Have the first thousands counted, in as many shards."""
    items = range(1000 * count)
    assert await client.map(modules["primes"], items, shard_size=1000, reduce="sum") == len(
        [n for n in items if n > 1 and all(n % each for each in range(2, int(n**0.5) + 1))]
    )


async def test_work_and_results_need_no_envelope_there(
    local: LocalSwarm, start_js: StartJs, modules: dict[str, bytes]
) -> None:
    gateway = local.start_gateway()
    js = await start_js(trust=[gateway.public_key])
    async with a_client_of(gateway) as client:
        await joined(js, gateway, client)
        await on_express(js, gateway)
        await primes(client, modules, 3)
        await nothing_held(js, gateway)
        state = await js.state(gateway.peer_id)
        assert set(state["by_record"]["heard"]) == {"assign", "result_ack"}
        assert state["by_record"]["said"].count("result") == 3
        assert state["log"] == []


async def test_results_of_which_receipts_are_kept_are_signed(
    local: LocalSwarm, start_js: StartJs, modules: dict[str, bytes]
) -> None:
    gateway = local.start_gateway(gateway={"receipts": "all"})
    js = await start_js(trust=[gateway.public_key])
    async with a_client_of(gateway) as client:
        await joined(js, gateway, client)
        await on_express(js, gateway)
        job_id = await client.submit(modules["primes"], range(300), shard_size=100)
        assert (await client.wait(job_id))["state"] == "completed"
        kept = [each async for page in client.receipts(job_id) for each in page["results"]]
        assert len(kept) == 3
        state = await js.state(gateway.peer_id)
        assert "assign" in state["by_record"]["heard"]
        assert "result" not in state["by_record"]["said"]


async def test_it_comes_back_and_goes_over_anew_when_the_gateway_changes_its_key(
    local: LocalSwarm, start_js: StartJs, modules: dict[str, bytes]
) -> None:
    gateway = local.start_gateway()
    js = await start_js(trust=[gateway.public_key])
    async with a_client_of(gateway) as client:
        await joined(js, gateway, client)
        before = await on_express(js, gateway)
        files = KeyFiles(gateway.folder / STORAGE_DIR)
        files.rotate(gateway.peer_id, 3600, time.time())
        ask(gateway.folder, "reload_keys")
        await primes(client, modules, 3)
        await until(
            lambda: js.state(gateway.peer_id), lambda state: state["by_record"]["connections"] == 2
        )
        state = await on_express(js, gateway)
        await primes(client, modules, 3)
        await nothing_held(js, gateway)
        after = await js.state(gateway.peer_id)
        assert len(after["by_record"]["said"]) > len(state["by_record"]["said"])
        # It was one session all the time.
        assert (after["log"], after["seq"]) == ([], before["seq"])


async def test_a_loss_ends_its_session_and_the_next_one_goes_on_with_the_job(
    local: LocalSwarm, start_js: StartJs, modules: dict[str, bytes]
) -> None:
    gateway = local.start_gateway()
    js = await start_js(trust=[gateway.public_key], idle=True)
    async with a_client_of(gateway) as client:
        await joined(js, gateway, client)
        before = await on_express(js, gateway)
        job_id = await client.submit(modules["primes"], range(300), shard_size=100, reduce="sum")
        await until(lambda: js.state(gateway.peer_id), lambda state: state["held"])
        await js.do("lose", peer_id=gateway.peer_id)
        await until(lambda: js.state(gateway.peer_id), lambda state: not state["live"])
        await js.do("work_now")
        await joined(js, gateway, client)
        assert (await client.wait(job_id))["result"] == 62
        await on_express(js, gateway)
        assert (await js.state(gateway.peer_id))["seq"] != before["seq"]
