"""A job goes to the gateway whose workers can run it, whichever was asked for it."""

from swarm_hub.storage.queries import leases
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call, finished, submit

SPEC = {"abi": "range", "split": "range", "reduce": "sum"}


async def owner(hub: RunningHub, job_id: str) -> str | None:
    return await hub.hub.store.read(leases.owner, job_id)


async def test_a_job_is_run_where_the_workers_are_and_seen_where_it_was_submitted(
    swarm: Swarm, modules: dict[str, bytes], postgres_url: str
) -> None:
    extra = f"storage: {{url: '{postgres_url}'}}\n"
    first = await swarm.gateway("first", extra=extra)
    await swarm.gateway("second", extra=extra)
    await swarm.worker(
        "worker",
        "second",
        extra="worker: {charging_only: false, min_battery: 0, node_labels: {zone: attic}}\n",
    )
    for_nobody = {**SPEC, "constraints": {"node_labels": {"zone": "cellar"}}}
    _, stays = await submit(first, modules["primes"], b"0 100\n", for_nobody)
    _, goes = await submit(first, modules["primes"], b"0 100\n", SPEC)
    # A call that waits at the first gateway is answered there.
    status = await finished(first, goes["job_id"])
    assert (status["state"], status["result"]) == ("completed", 25)
    _, story = await call(first, "GET", f"/jobs/{goes['job_id']}/story")
    told = [event["event_type"] for event in story["events"]]
    assert (told.count("job_queued"), told.count("job_completed")) == (1, 1)
    # What nobody can run stays, and says why it waits.
    assert await owner(first, stays["job_id"]) == swarm.keys("first")[0]
    _, status = await call(first, "GET", f"/jobs/{stays['job_id']}")
    assert status["waits"] == "no worker is connected"
