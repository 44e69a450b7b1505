"""A phone from its invitation to the result of a job."""

import json

from swarm_hub.cli.swarm import LocalHub
from swarm_hub.client import SwarmClient
from tests.conftest import until
from tests.helpers.invariants import broken_worker
from tests.phone.phone import Phone, is_up

TEXT = b"a b a\na c d\n" * 2000
RUNS = "battery_unknown: run"


async def test_a_phone_joins_by_a_link_and_does_a_job(
    phone: Phone, gateway: LocalHub, client: SwarmClient, modules: dict[str, bytes]
) -> None:
    await phone.join(gateway, client, worker=RUNS)
    doctor = await phone.run("swarm-hub", "doctor", "--json")
    found = json.loads(doctor.stdout)
    assert [each for each in found if each["level"] == "bad"] == [], doctor.stdout
    phone.start()
    await until(lambda: is_up(client), bool, 60)
    jobs = [
        await client.submit(modules["primes"], range(200_000), reduce="sum"),
        await client.submit(modules["wordcount"], TEXT, split="lines", reduce="json"),
    ]
    results = [(await client.wait(job_id))["result"] for job_id in jobs]
    assert results == [17_984, {"a": 6000, "b": 2000, "c": 2000, "d": 2000}]
    assert broken_worker(phone.database) == []
    assert "Traceback" not in phone.log()
