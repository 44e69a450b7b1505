"""The owner's pause: nothing runs at once, nothing is lost, and a restart does not end it."""

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from swarm_hub.components.sandbox import SANDBOX
from swarm_hub.const import PAUSE_FILE, STORAGE_DIR
from swarm_hub.control import client
from swarm_hub.exceptions import HubError
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit

pytestmark = pytest.mark.slow

Modules = dict[str, bytes]
WORKER = "worker: {charging_only: false, min_battery: 0, slots: 1, finish_within: 0}\n"
# A deadline that no test waits for: what comes back comes by a NACK.
PATIENT = "sla: {platform: fixed, deadline: 120}\n"
SPIN = {"abi": "range", "split": "range", "reduce": "sum"}


async def ask(hub: RunningHub, command: str, **arguments: Any) -> dict[str, Any]:
    return await asyncio.to_thread(client.ask, hub.folder, command, **arguments)


async def spin(gateway: RunningHub, modules: Modules, shards: int, ms_each: int) -> str:
    """Submit a job of shards that take so long; returns its id."""
    spec = {**SPIN, "shard_size": ms_each}
    _, body = await submit(gateway, modules["spin"], b"0:%d" % (shards * ms_each), spec)
    return str(body["job_id"])


async def attempts(gateway: RunningHub, job_id: str) -> list[dict[str, Any]]:
    _, body = await call(gateway, "GET", f"/jobs/{job_id}/shards?limit=5000")
    return [attempt for shard in body["shards"] for attempt in shard["attempts"]]


async def refuses(gateway: RunningHub) -> Any:
    _, body = await call(gateway, "GET", "/nodes")
    return body["nodes"][0]["refuses"] if body["nodes"] else "not here"


async def begins(worker: RunningHub) -> None:
    """Wait until a child of a worker runs a shard."""
    sandbox = worker.hub.services[SANDBOX].sandbox

    async def begun() -> set[str]:
        return sandbox.begun()

    await until(begun, bool)


async def rests(worker: RunningHub) -> None:
    """Wait until no child of a worker runs a shard."""
    sandbox = worker.hub.services[SANDBOX].sandbox

    async def begun() -> set[str]:
        return sandbox.begun()

    await until(begun, lambda tags: not tags)


def inbox(worker: RunningHub) -> int:
    with closing(sqlite3.connect(worker.folder / "swarm_hub.db")) as database:
        return int(database.execute("SELECT count(*) FROM inbox").fetchone()[0])


async def test_a_paused_worker_gives_all_back_even_what_runs_and_works_after_resume(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway(extra=PATIENT)
    phone = await swarm.worker("phone", extra=WORKER)
    job_id = await spin(gateway, modules, shards=3, ms_each=1500)
    await begins(phone)
    answer = await ask(phone, "pause")
    assert answer == {"until": None, "reason": "paused by the owner"}
    await rests(phone)

    async def held() -> list[dict[str, Any]]:
        found = await attempts(gateway, job_id)
        return [each for each in found if each["state"] not in ("rejected", "finished")]

    await until(held, lambda left: left == [])
    returned = [each for each in await attempts(gateway, job_id) if each["state"] == "rejected"]
    assert {each["reason"] for each in returned} == {"paused by the owner"}
    assert await refuses(gateway) == "paused by the owner"
    _, status = await call(gateway, "GET", f"/jobs/{job_id}")
    assert status["waits"] == "1 node: 1 paused by the owner"
    answer = await ask(phone, "resume")
    assert answer == {"was_paused": True, "refuses": None}
    done = await finished(gateway, job_id)
    assert (done["state"], done["result"]) == ("completed", 4500)


async def test_what_a_paused_worker_gave_back_others_do(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway(extra=PATIENT)
    phone = await swarm.worker("phone", extra=WORKER)
    job_id = await spin(gateway, modules, shards=200, ms_each=10)
    await begins(phone)
    await ask(phone, "pause")
    await swarm.worker("other", extra=WORKER)
    done = await finished(gateway, job_id)
    assert (done["state"], done["result"]) == ("completed", 2000)


async def test_a_pause_survives_a_restart(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway(extra=PATIENT)
    phone = await swarm.worker("phone", extra=WORKER)
    reason = (await ask(phone, "pause", for_s=3600))["reason"]
    assert reason.startswith("paused by the owner until ")
    await swarm.stop(phone)
    phone = await swarm.worker("phone", extra=WORKER)
    await until(lambda: refuses(gateway), lambda told: told == reason)
    assert (await ask(phone, "status"))["worker"]["refuses"] == reason
    await ask(phone, "resume")
    await swarm.stop(phone)
    phone = await swarm.worker("phone", extra=WORKER)
    job_id = await spin(gateway, modules, shards=1, ms_each=5)
    assert (await finished(gateway, job_id))["state"] == "completed"


async def test_a_pause_ends_by_itself_also_while_the_hub_is_away(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    phone = await swarm.worker("phone", extra=WORKER)
    await ask(phone, "pause", for_s=3600)
    await until(lambda: refuses(gateway), lambda told: told not in (None, "not here"))
    for hub in (gateway, phone):
        hub.clock.offset_s += 3601
    await until(lambda: refuses(gateway), lambda told: told is None)
    assert not (phone.folder / STORAGE_DIR / PAUSE_FILE).exists()
    (phone.folder / STORAGE_DIR / PAUSE_FILE).write_text('{"until": 5}')
    await swarm.stop(phone)
    phone = await swarm.worker("phone", extra=WORKER)
    assert (await ask(phone, "status"))["worker"]["paused"] is None


async def test_the_last_pause_counts(swarm: Swarm) -> None:
    phone = await swarm.worker("phone", extra=WORKER)
    await ask(phone, "pause", for_s=0.001)
    await ask(phone, "pause")
    phone.clock.offset_s += 3600
    for _ in range(3):
        assert (await ask(phone, "status"))["worker"]["paused"] == {"until": None}
    await ask(phone, "pause", for_s=0.001)

    async def paused() -> Any:
        return (await ask(phone, "status"))["worker"]["paused"]

    await until(paused, lambda told: told is None)


async def test_without_its_gateway_a_pause_stops_what_runs_and_resume_runs_it_again(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway(extra=PATIENT)
    phone = await swarm.worker("phone", extra=WORKER)
    job_id = await spin(gateway, modules, shards=1, ms_each=1500)
    await begins(phone)
    await swarm.stop(gateway)
    await ask(phone, "pause")
    await rests(phone)

    async def kept() -> int:
        return inbox(phone)

    await until(kept, lambda count: count == 1)
    await ask(phone, "resume")
    await begins(phone)
    gateway = await swarm.gateway(extra=PATIENT)
    done = await finished(gateway, job_id)
    assert (done["state"], done["result"]) == ("completed", 1500)
    assert [each["attempt"] for each in await attempts(gateway, job_id)] == [1]


async def test_a_gateway_that_comes_back_gets_what_a_paused_worker_holds(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway(extra=PATIENT)
    phone = await swarm.worker("phone", extra=WORKER)
    job_id = await spin(gateway, modules, shards=1, ms_each=20_000)
    await begins(phone)
    await swarm.stop(gateway)
    await ask(phone, "pause")
    # It still holds it in its next life.
    await swarm.stop(phone)
    await swarm.worker("phone", extra=WORKER)
    gateway = await swarm.gateway(extra=PATIENT)

    async def states() -> list[str]:
        return [each["state"] for each in await attempts(gateway, job_id)]

    await until(states, lambda found: found == ["rejected"])


async def test_a_pause_that_can_not_be_read_lasts_until_resume(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    phone = await swarm.worker("phone", extra=WORKER)
    await swarm.stop(phone)
    for text in ("", "[]", '{"until": "soon"}', '{"until": 1e300}', "{}x"):
        (phone.folder / STORAGE_DIR / PAUSE_FILE).write_text(text)
        phone = await swarm.worker("phone", extra=WORKER)
        assert (await ask(phone, "status"))["worker"]["paused"] == {"until": None}, text
        await swarm.stop(phone)
    assert "paused until `swarm-hub resume`" in caplog.text
    phone = await swarm.worker("phone", extra=WORKER)
    assert (await ask(phone, "resume"))["was_paused"] is True
    assert (await ask(phone, "resume"))["was_paused"] is False


async def test_a_pause_holds_even_if_it_can_not_be_written_down(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = await swarm.worker("phone", extra=WORKER)

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("swarm_hub.components.worker.owners_pause.write_atomic", full)
    with pytest.raises(HubError, match=r"not beyond a restart: .* \(No space left"):
        await ask(phone, "pause")
    assert (await ask(phone, "status"))["worker"]["paused"] == {"until": None}


@pytest.mark.parametrize("for_s", [0, -1, 366 * 86_400, 1e300, "2h", True, [5]])
async def test_a_time_that_is_none_is_refused(swarm: Swarm, for_s: object) -> None:
    phone = await swarm.worker("phone", extra=WORKER)
    with pytest.raises(HubError, match="for_s: expected seconds above 0 and at most 365 d"):
        await ask(phone, "pause", for_s=for_s)
    assert (await ask(phone, "status"))["worker"]["paused"] is None


async def test_a_hub_that_is_its_own_worker_pauses_that_and_goes_on_taking_jobs(
    swarm: Swarm, modules: Modules
) -> None:
    both = await swarm.gateway("both", extra=f"{WORKER}{PATIENT}")
    job_id = await spin(both, modules, shards=100, ms_each=10)
    await begins(both)
    await ask(both, "pause")
    await rests(both)
    later_id = await spin(both, modules, shards=1, ms_each=5)

    async def waits() -> Any:
        return (await call(both, "GET", f"/jobs/{later_id}"))[1]["waits"]

    await until(waits, lambda told: told == "1 node: 1 paused by the owner")
    assert inbox(both) == 0
    await ask(both, "resume")
    assert (await finished(both, job_id))["result"] == 1000
    assert (await finished(both, later_id))["result"] == 5
