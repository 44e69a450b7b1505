"""`/metrics`: what it counts is what happened, and the dashboard asks for nothing else."""

import json
import re
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from swarm_hub.client import SwarmClient
from swarm_hub.const import __version__
from tests.conftest import RunningHub, Swarm, until, up_nodes

DASHBOARD = Path(__file__).parents[3] / "docs" / "grafana-dashboard.json"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(hub: RunningHub) -> Samples:
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"{hub.url}/metrics", headers={"Authorization": f"Bearer {hub.token}"}
        ) as response,
    ):
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await response.text()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, /, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


async def test_it_needs_a_token(swarm: Swarm) -> None:
    hub = await swarm.gateway()
    async with aiohttp.ClientSession() as session, session.get(f"{hub.url}/metrics") as response:
        assert response.status == 401


async def test_jobs_and_shards_are_counted_with_how_long_they_took(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    async with SwarmClient(gateway.url, gateway.token) as client:
        await until(lambda: up_nodes(client), lambda nodes: nodes == 1)
        before = await scrape(gateway)
        await client.run(modules["count"], range(30), shard_size=10)
        failed = await client.run(modules["trap"], range(10), shard_size=10)
        assert failed["state"] == "failed"
        after = await scrape(gateway)

    def more(name: str, /, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert more("swarm_hub_events_total", type="job_queued") == 2
    assert more("swarm_hub_events_total", type="job_completed") == 1
    assert more("swarm_hub_events_total", type="job_failed") == 1
    assert more("swarm_hub_events_total", type="shard_done") == 3
    for stage in ("queued", "running", "total"):
        assert more("swarm_hub_job_seconds_count", stage=stage) == 2
        assert more("swarm_hub_job_seconds_bucket", stage=stage, le="+Inf") == 2
    assert more("swarm_hub_shard_wall_seconds_count") == 3
    assert more("swarm_hub_store_commit_seconds_count") >= 2
    assert value(after, "swarm_hub_nodes") == value(after, "swarm_hub_peers") == 1
    assert value(after, "swarm_hub_jobs", state="running") == 0
    assert value(after, "swarm_hub_store_bytes") > 0
    assert value(after, "swarm_hub_info", name="gateway", version=__version__) == 1
    submitted = {"method": "POST", "path": "/api/v1/jobs"}
    assert value(after, "swarm_hub_http_request_seconds_count", **submitted) == 2
    assert value(after, "process_resident_memory_bytes") > 0


async def test_a_job_that_waits_is_a_gauge(swarm: Swarm, modules: dict[str, bytes]) -> None:
    gateway = await swarm.gateway()
    async with SwarmClient(gateway.url, gateway.token) as client:
        await client.submit(modules["count"], range(10))
        found = await scrape(gateway)
    assert value(found, "swarm_hub_jobs", state="queued") == 1
    assert value(found, "swarm_hub_jobs", state="running") == 0


async def test_paths_that_strangers_think_of_are_one_label(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    async with aiohttp.ClientSession() as session:
        for number in range(5):
            async with session.get(f"{gateway.url}/nothing/{number}") as response:
                assert response.status == 401
    found = await scrape(gateway)
    labels = {"method": "none", "path": "none", "status": "401"}
    assert value(found, "swarm_hub_http_requests_total", **labels) == 5


async def test_the_lag_of_the_loop_is_measured_while_somebody_looks(
    swarm: Swarm,
) -> None:
    gateway = await swarm.gateway()
    assert value(await scrape(gateway), "swarm_hub_loop_lag_seconds_count") == 0

    async def measured() -> float:
        return value(await scrape(gateway), "swarm_hub_loop_lag_seconds_count")

    await until(measured, lambda count: count > 0)


async def test_the_dashboard_asks_for_metrics_that_there_are(
    swarm: Swarm,
) -> None:
    hub = await swarm.gateway(extra="worker: {charging_only: false, min_battery: 0}\n")
    async with SwarmClient(hub.url, hub.token) as client:
        await client.jobs()
    await scrape(hub)
    there = {name for name, _ in await scrape(hub)}
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
        for name in re.findall(r"\b(?:swarm_hub|process)_[a-z_]+", target["expr"])
    }
    assert len(asked) > 15
    assert asked - there == set()
    # And shows every metric of the hub's own but those that say what it is.
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in there}
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked}
    own = {name for name in families if name.startswith("swarm_hub_")}
    assert own - shown <= {"swarm_hub_info", "swarm_hub_store_last_seq"}
