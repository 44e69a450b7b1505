"""Workers that answer wrongly on purpose, as processes of their own."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from swarm_hub.cli.receipts import judged
from tests.helpers.liar import CONFIG_SCHEMA, LiarConfig, told
from tests.helpers.lying import Job, Lie, run_with_liars, swarm_with_liars

N_ITEMS: Final = 40
SPEC: Final[dict[str, Any]] = {"shard_size": 10, "reduce": "sum"}


@pytest.fixture
def job(modules: dict[str, bytes]) -> Job:
    """Return a job that counts its items, so the right result is their number."""
    return Job(modules["count"], range(N_ITEMS), SPEC)


@pytest.mark.usefixtures("warm_hubs")
async def test_at_redundancy_1_the_wrong_result_of_a_liar_is_taken(
    tmp_path: Path, job: Job
) -> None:
    run = await run_with_liars(tmp_path, 0, 1, job)
    assert run.status["state"] == "completed"
    assert run.result != N_ITEMS
    taken = {each["node_id"] for shard in run.shards for each in shard["attempts"]}
    assert taken == run.liars


@pytest.mark.usefixtures("warm_hubs")
async def test_a_liar_that_never_lies_is_an_honest_worker(tmp_path: Path, job: Job) -> None:
    async with swarm_with_liars(tmp_path, 1, 1, Lie(share=0)) as lying:
        assert (await lying.run(job)).result == N_ITEMS


@pytest.mark.usefixtures("warm_hubs")
async def test_a_liar_can_win_trust_first(tmp_path: Path, job: Job) -> None:
    async with swarm_with_liars(tmp_path, 0, 1, Lie(honest_first=4)) as lying:
        assert (await lying.run(job)).result == N_ITEMS
        assert (await lying.run(job)).result != N_ITEMS


@pytest.mark.usefixtures("warm_hubs")
@pytest.mark.parametrize("colluding", [False, True])
async def test_with_redundancy_3_a_liar_is_outvoted_and_scored(
    tmp_path: Path, job: Job, colluding: bool
) -> None:
    checked = replace(job, spec={**SPEC, "redundancy": 3})
    async with swarm_with_liars(tmp_path, 3, 1, Lie(colluding=colluding)) as lying:
        run = await lying.run(checked)
        assert (run.status["state"], run.result) == ("completed", N_ITEMS)
        nodes = {each["node_id"]: each["trust"] for each in await lying.client.nodes()}
    assert all(nodes[liar]["agreements"] == 0 for liar in run.liars)
    assert all(
        trust["contradictions"] == 0 for name, trust in nodes.items() if name not in run.liars
    )
    voted = [each for shard in run.shards for each in shard["attempts"] if not each["reason"]]
    assert len({each["node_id"] for each in voted}) > 1


@pytest.mark.usefixtures("warm_hubs")
async def test_a_liars_receipts_show_what_it_signed_and_that_it_did_not_count(
    tmp_path: Path, job: Job
) -> None:
    checked = replace(job, spec={**SPEC, "redundancy": 3})
    async with swarm_with_liars(tmp_path, 3, 1, Lie()) as lying:
        run = await lying.run(checked)
        shown = []
        async for page in lying.client.receipts(run.status["job_id"]):
            shown += judged(run.status["job_id"], page, {r["sha"]: r for r in page["receipts"]})
    truth = {each["index"]: each["result_sha"] for each in shown if each["verdict"] == "counted"}
    assert set(truth) == {0, 1, 2, 3}
    for each in shown:
        assert each["verdict"] in ("counted", "not counted")
        lied = each["node_id"] in run.liars
        assert (each["result_sha"] != truth[each["index"]]) == lied
        assert not (lied and each["counted"])


@pytest.mark.usefixtures("warm_hubs")
async def test_two_that_never_agree_fail_the_job_and_say_so(tmp_path: Path, job: Job) -> None:
    checked = replace(job, spec={**SPEC, "redundancy": 2})
    run = await run_with_liars(tmp_path, 0, 5, checked)
    assert run.status["state"] == "failed"
    assert "5 nodes gave 5 different results, no 2 of them equal" in run.status["failures"][-1]


@pytest.mark.usefixtures("warm_hubs")
async def test_a_liar_among_untrusted_nodes_changes_no_adaptive_job(
    tmp_path: Path, job: Job
) -> None:
    checked = replace(job, spec={**SPEC, "redundancy": "adaptive"})
    async with swarm_with_liars(tmp_path, 4, 1, Lie()) as lying:
        for _ in range(3):
            assert (await lying.run(checked)).result == N_ITEMS


@pytest.mark.usefixtures("warm_hubs")
async def test_who_lies_about_what_the_owner_knows_gets_no_more_of_the_module(
    tmp_path: Path, job: Job
) -> None:
    known = [{"first_item": at, "result": "1"} for at in range(N_ITEMS)]
    checked = replace(job, spec={"shard_size": 1, "reduce": "sum", "known_answers": known})
    async with swarm_with_liars(tmp_path, 2, 1, Lie()) as lying:
        run = await lying.run(checked)
        assert run.result == N_ITEMS
        assert {e["node_id"] for s in run.shards for e in s["attempts"]} & run.liars
        again = await lying.run(job)
    assert again.result == N_ITEMS
    assert not {e["node_id"] for s in again.shards for e in s["attempts"]} & run.liars


@pytest.mark.usefixtures("warm_hubs")
async def test_a_lone_worker_that_needs_to_be_confirmed_waits_and_the_job_says_why(
    tmp_path: Path, job: Job
) -> None:
    checked = replace(job, spec={**SPEC, "redundancy": 2, "deadline_s": 3})
    async with swarm_with_liars(tmp_path, 1, 0, Lie()) as lying:
        job_id = await lying.client.submit(checked.module, checked.items, **checked.spec)
        waits = ""
        async with asyncio.timeout(30):
            while "different owners" not in waits:
                status = await lying.client.status(job_id)
                waits = status["waits"] or ""
        assert "its results need 2 nodes of different owners, there is 1" in waits
        status = await lying.client.wait(job_id)
    assert status["state"] == "failed"
    assert "its deadline passed with 0 of 40 items done" in status["failures"][-1]


def test_liars_lie_about_their_share_of_the_inputs_and_always_about_the_same() -> None:
    liar = CONFIG_SCHEMA({"share": 0.25})
    inputs = [b"%d" % number for number in range(2000)]
    lied = [body for body in inputs if told(liar, "a", body, b"7") != b"7"]
    assert 400 < len(lied) < 600
    assert lied == [body for body in inputs if told(liar, "a", body, b"7") != b"7"]
    assert lied != [body for body in inputs if told(liar, "b", body, b"7") != b"7"]


def test_only_those_that_collude_tell_the_same_lie() -> None:
    together, alone = LiarConfig(1.0, True, 3, 0), LiarConfig(1.0, False, 3, 0)
    assert told(together, "a", b"0 9", b"7") == told(together, "b", b"0 9", b"7") != b"7"
    assert told(alone, "a", b"0 9", b"7") != told(alone, "b", b"0 9", b"7")


@pytest.mark.parametrize("truth", [b"", b"7", b"-7\n", b'{"a": 1, "b": [2]}\n', b"\xff\x00", b"no"])
def test_a_lie_is_never_the_truth(truth: bytes) -> None:
    liar = CONFIG_SCHEMA(None)
    assert all(told(liar, name, b"0 9", truth) != truth for name in "abcdefgh")
