"""Receipts of results, as a job's submitter gets them and checks them alone."""

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from swarm_hub.components.gateway.dispatch.pending_commit import PendingCommit
from swarm_hub.components.signer import SIGNER
from swarm_hub.models.call import call_sha
from swarm_hub.models.envelope import key_id
from swarm_hub.models.receipt import Claim, Receipt, objection, shortcomings
from swarm_hub.models.shard import ShardResult
from swarm_hub.storage.queries import receipts
from swarm_hub.util.hashing import sha256_hex
from tests.conftest import RunningHub, Swarm, free_port
from tests.helpers.rest import call, finished, submit
from tests.helpers.stored import made_receipt, receipts_of

Modules = dict[str, bytes]
TWICE = {"shard_size": 25, "redundancy": 2}


async def gateway_that_keeps(swarm: Swarm, policy: str) -> RunningHub:
    port = free_port()
    yaml = f"gateway: {{admission: open, receipts: {policy}}}\napi: {{port: {port}}}\n"
    return await swarm.start("gateway", yaml, port)


async def ran(
    gateway: RunningHub, module: bytes, spec: dict[str, Any], dataset: bytes = b"0:100"
) -> str:
    """Run a job to its end; returns its id."""
    _, body = await submit(gateway, module, dataset, spec)
    assert (await finished(gateway, body["job_id"]))["state"] == "completed"
    return str(body["job_id"])


async def receipts_at(gateway: RunningHub, job_id: str, query: str = "") -> Any:
    code, found = await call(gateway, "GET", f"/jobs/{job_id}/receipts{query}")
    assert code == 200
    return found


def objections(job_id: str, found: Any) -> list[str | None]:
    """Check each result by its receipt, as anybody can who has nothing but the answer."""
    kept = {each["sha"]: Receipt.from_json(each) for each in found["receipts"]}
    call = call_sha(found["call"]["module_sha"], found["call"]["rest_sha"])
    claims = [
        Claim(
            job_id, each["index"], each["assignment_id"], each["node_id"], each["result_sha"],
            each["input_sha"], frozenset(found["gateways"]), call,
        )
        for each in found["results"]
    ]  # fmt: skip
    told: list[str | None] = []
    for result, made in zip(found["results"], claims, strict=True):
        receipt = kept[result["receipt"]]
        told.append(objection(receipt, made))
        # Every node of this version has its key certified, and signs the call.
        assert told[-1] is not None or shortcomings(receipt, made) == []
    return told


async def test_each_result_of_a_redundant_job_has_a_receipt_that_proves_it(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    workers = {swarm.keys(name)[0]: await swarm.worker(name) for name in ("kitchen", "cellar")}
    job_id = await ran(gateway, modules["count"], TWICE)
    found = await receipts_at(gateway, job_id)
    assert set(found) == {"receipts", "results", "cursor", "why_none", "gateways", "call"}
    assert (found["cursor"], found["why_none"]) == (None, None)
    assert objections(job_id, found) == [None] * 8
    by_shard = [[each for each in found["results"] if each["index"] == n] for n in range(4)]
    for index, pair in enumerate(by_shard):
        assert {each["node_id"] for each in pair} == set(workers)
        assert {each["node"] for each in pair} == {"kitchen", "cellar"}
        assert sorted(each["counted"] for each in pair) == [False, True]
        assert {each["result_sha"] for each in pair} == {sha256_hex(b"25")}
        given = b"%d %d\n" % (index * 25, index * 25 + 25)
        assert {each["input_sha"] for each in pair} == {sha256_hex(given)}
        assert {(each["first_item"], each["n_items"]) for each in pair} == {(index * 25, 25)}
    for each in found["receipts"]:
        public_key = workers[each["node_id"]].hub.services[SIGNER].public_key
        assert (each["public_key"], each["kid"]) == (public_key.hex(), key_id(public_key))
    # One envelope carries several results, and is given once.
    shas = [each["sha"] for each in found["receipts"]]
    assert sorted(set(shas)) == sorted(shas)
    assert set(shas) == {each["receipt"] for each in found["results"]}
    _, status = await call(gateway, "GET", f"/jobs/{job_id}")
    assert status["links"]["receipts"] == f"/api/v1/jobs/{job_id}/receipts"


async def test_pages_follow_each_other_to_the_last_result(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    for name in ("one", "two"):
        await swarm.worker(name)
    job_id = await ran(gateway, modules["count"], {"shard_size": 5, "redundancy": 2})
    whole = await receipts_at(gateway, job_id)
    assert len(whole["results"]) == 40
    cursor, results = "", []
    while cursor is not None:
        page = await receipts_at(gateway, job_id, f"?limit=7{cursor and f'&cursor={cursor}'}")
        assert objections(job_id, page) == [None] * len(page["results"])
        results += page["results"]
        cursor = page["cursor"]
    assert results == whole["results"]
    code, answer = await call(gateway, "GET", f"/jobs/{job_id}/receipts?cursor={job_id}.99.1")
    assert (code, answer["code"]) == (400, "invalid_query")


async def test_unless_told_otherwise_a_job_that_is_done_once_keeps_none_and_hashes_none(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hashed(_receipt: Receipt) -> str:
        raise AssertionError("an envelope was hashed that is not kept")

    monkeypatch.setattr(Receipt, "sha", property(hashed))
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    job_id = await ran(gateway, modules["count"], {"shard_size": 25})
    found = await receipts_at(gateway, job_id)
    assert (found["receipts"], found["results"], found["cursor"]) == ([], [], None)
    assert found["why_none"] == (
        "this job's gateway keeps receipts of redundant jobs only; set gateway: receipts: all"
    )
    assert await gateway.hub.store.read(receipts_of, job_id) == 0


async def test_a_job_with_known_answers_keeps_them_too(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    known = [{"first_item": 0, "n_items": 5, "result": "5"}]
    job_id = await ran(gateway, modules["count"], {"shard_size": 25, "known_answers": known})
    assert (await receipts_at(gateway, job_id))["results"]


@pytest.mark.parametrize("redundancy", [2, "adaptive"])
async def test_a_gateway_that_keeps_none_says_so(
    swarm: Swarm, modules: Modules, redundancy: int | str
) -> None:
    gateway = await gateway_that_keeps(swarm, "none")
    for name in ("one", "two"):
        await swarm.worker(name)
    job_id = await ran(gateway, modules["count"], {**TWICE, "redundancy": redundancy})
    found = await receipts_at(gateway, job_id)
    assert (found["receipts"], found["results"]) == ([], [])
    assert "keeps no receipts" in found["why_none"]


@pytest.mark.parametrize(("policy", "redundancy"), [("all", 1), ("redundant", "adaptive")])
async def test_what_else_is_kept(
    swarm: Swarm, modules: Modules, policy: str, redundancy: int | str
) -> None:
    gateway = await gateway_that_keeps(swarm, policy)
    for name in ("one", "two"):
        await swarm.worker(name)
    job_id = await ran(gateway, modules["count"], {**TWICE, "redundancy": redundancy})
    found = await receipts_at(gateway, job_id)
    assert sum(each["counted"] for each in found["results"]) == 4
    assert objections(job_id, found) == [None] * len(found["results"])


async def test_the_receipt_of_a_large_result_has_its_hash_and_not_its_bytes(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await gateway_that_keeps(swarm, "all")
    await swarm.worker("worker")
    dataset = bytes(range(256)) * 1200
    spec = {"abi": "bytes", "split": "records:1024", "reduce": "concat", "shard_size": 300}
    job_id = await ran(gateway, modules["echo"], spec, dataset)
    found = await receipts_at(gateway, job_id)
    assert objections(job_id, found) == [None]
    assert found["results"][0]["result_sha"] == sha256_hex(dataset)
    assert len(found["receipts"][0]["body"]) < 2000


async def test_any_gateway_of_a_shared_store_gives_the_receipts_of_a_job(
    swarm: Swarm, modules: Modules, postgres_url: str
) -> None:
    extra = f"storage: {{url: '{postgres_url}'}}\n"
    first = await swarm.gateway("first", extra=extra)
    second = await swarm.gateway("second", extra=extra)
    for name in ("one", "two"):
        await swarm.worker(name, "first")
    job_id = await ran(first, modules["count"], TWICE)
    found = await receipts_at(second, job_id)
    assert objections(job_id, found) == [None] * 8
    assert found == await receipts_at(first, job_id)


async def test_before_any_result_there_is_none_and_of_no_job_either(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    _, body = await submit(gateway, modules["count"], b"0:100", TWICE)
    found = await receipts_at(gateway, body["job_id"])
    assert found["why_none"] == "none of its results has come since receipts are kept"
    code, answer = await call(gateway, "GET", "/jobs/01NOSUCHJOB/receipts")
    assert (code, answer["code"]) == (404, "not_found")


async def test_an_envelope_that_was_damaged_in_the_store_is_shown_as_it_is_and_told_by_its_checker(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await gateway_that_keeps(swarm, "all")
    await swarm.worker("worker")
    job_id = await ran(gateway, modules["count"], {"shard_size": 100})
    page = await gateway.hub.store.read(receipts.page, job_id, None, None, 10)
    assert page is not None
    await swarm.stop(gateway)
    await asyncio.to_thread(damage, gateway, next(iter(page.receipts)))
    gateway = await gateway_that_keeps(swarm, "all")
    found = await receipts_at(gateway, job_id)
    assert found["results"][0]["input_sha"] is None
    assert objections(job_id, found) == ["the body is not the one that was signed"]


def damage(gateway: RunningHub, sha: str) -> None:
    with closing(sqlite3.connect(gateway.folder / "swarm_hub.db")) as database:
        database.execute("UPDATE receipts SET body = x'ff' WHERE sha = ?", (sha,))
        database.commit()


def test_what_is_taken_apart_by_jobs_keeps_each_receipt_with_its_results() -> None:
    shared, other = made_receipt(1, b"shared"), made_receipt(2, b"other")
    gathered = PendingCommit()
    for job_id, receipt in (("A", shared), ("A", shared), ("B", shared), ("B", other), ("C", None)):
        gathered.add_result(
            ShardResult(
                f"{job_id}.0.1", job_id, 0, 0, 1, "node", "sha", 1, b"1", 0.1, 0.1,
                receipt=None if receipt is None else receipt.sha,
            ),
            receipt,
        )  # fmt: skip
    assert list(gathered.receipts) == [("A", shared.sha), ("B", shared.sha), ("B", other.sha)]
    assert list(gathered.only("A".__eq__).receipts) == [("A", shared.sha)]
    rest = gathered.without(frozenset("A"))
    assert list(rest.receipts) == [("B", shared.sha), ("B", other.sha)]
    assert [each.job_id for each in rest.results] == ["B", "B", "C"]
