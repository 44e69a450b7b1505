"""Workers that answer wrongly on purpose, as processes of their own."""

from pathlib import Path
from typing import Any, Final

import pytest

from tests.liar import CONFIG_SCHEMA, LiarConfig, told
from tests.lying import Job, Lie, run_with_liars, swarm_with_liars

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
