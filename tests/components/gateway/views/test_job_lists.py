"""Finding jobs and shards by what a query says."""

import asyncio
import time
from typing import Any

from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.helpers.tokens import TokenFile
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]


async def found(hub: RunningHub, query: str, token: str = "") -> list[str]:
    """Return the ids of the jobs that a list is narrowed to, in any order."""
    code, page = await call(hub, "GET", f"/jobs?{query}", token=token)
    assert code == 200, page
    return sorted(job["job_id"] for job in page["jobs"])


async def test_jobs_are_found_by_what_a_query_says(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    tokens = TokenFile(gateway.folder / STORAGE_DIR / TOKENS_FILE)
    secrets = {who: tokens.create(who, "submit", time.time())[1] for who in ("ada", "bob")}

    async def put(who: str, **spec: Any) -> str:
        _, body = await submit(gateway, modules["primes"], b"0:10", spec, token=secrets[who])
        return str(body["job_id"])

    first = await put("ada", labels={"team": "a b", "n": "1"})
    # Times have milliseconds.
    await asyncio.sleep(0.002)
    second = await put("bob", labels={"team": "a b"}, name="nightly")
    await call(gateway, "DELETE", f"/jobs/{second}")
    _, status = await call(gateway, "GET", f"/jobs/{second}")
    both = [first, second]
    for query, ids in (
        ("state=queued", [first]),
        ("state=queued,cancelled", both),
        ("label.team=a+b", both),
        ("label.team=a%20b&label.n=1", [first]),
        ("label.team=a", []),
        ("owner=bob", [second]),
        ("text=NIGHT", [second]),
        (f"text={first.lower()}", [first]),
        (f"since={status['created_at'].replace('+', '%2B')}", [second]),
        ("since=9999-01-01", []),
        ("state=cancelled&label.team=a+b&owner=bob&since=0&text=nightly&limit=1", [second]),
    ):
        assert await found(gateway, query) == ids, query
    # Others' jobs are not found, whatever is asked for.
    assert await found(gateway, "label.team=a+b", secrets["ada"]) == [first]
    assert await found(gateway, "owner=bob", secrets["ada"]) == []
    for wrong in ("state=done", "state=", "since=soon", "text=" + "x" * 201, "limit=501"):
        code, told = await call(gateway, "GET", f"/jobs?{wrong}")
        assert (code, told["code"]) == (400, "invalid_query"), wrong
    many = "&".join(f"label.{number}=x" for number in range(17))
    assert (await call(gateway, "GET", f"/jobs?{many}"))[0] == 422


async def test_shards_are_paged_and_found(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    spec = {"shard_size": 10, "split": "range", "reduce": "sum"}
    _, body = await submit(gateway, modules["primes"], b"0:100", spec)
    await finished(gateway, body["job_id"])
    shards = f"/jobs/{body['job_id']}/shards"
    _, whole = await call(gateway, "GET", shards)
    assert (len(whole["shards"]), whole["cursor"]) == (10, None)
    (node,) = {each["attempts"][0]["node_id"] for each in whole["shards"]}
    assert all(each["result"]["node_id"] == node for each in whole["shards"])
    _, page = await call(gateway, "GET", f"{shards}?limit=4")
    assert (page["shards"], page["cursor"]) == (whole["shards"][:4], "3")
    _, page = await call(gateway, "GET", f"{shards}?limit=6&cursor=3")
    assert (page["shards"], page["cursor"]) == (whole["shards"][4:], None)
    for query, n_found in (
        (f"node={node}&state=done", 10),
        ("node=x", 0),
        ("state=queued,dead", 0),
    ):
        assert len((await call(gateway, "GET", f"{shards}?{query}"))[1]["shards"]) == n_found
    for wrong in ("state=lost", "cursor=-1", "limit=5001"):
        assert (await call(gateway, "GET", f"{shards}?{wrong}"))[0] == 400
