"""What a worker hears of a job's owner: whose jobs are together, and nothing else."""

from dataclasses import replace

import pytest

from swarm_hub.components.gateway.submission.module_call import module_call, owner_key
from swarm_hub.models.call import ModuleCall
from swarm_hub.models.job import Job, JobSpec, JobState, Split

KEY = owner_key(b"1" * 32)


def job(owner: str, job_id: str = "01J") -> Job:
    spec = JobSpec("bytes", "run", Split.LINES, 0, "list")
    return Job(job_id, JobState.RUNNING, spec, "0" * 64, 1, "0" * 64, 1, 1, 0, 0.0, owner)


def owner(name: str, key: bytes = KEY) -> str:
    return module_call(job(name), key).owner


def test_jobs_of_one_owner_are_together_and_those_of_others_are_not() -> None:
    assert (
        module_call(job("alice", "01J"), KEY).owner == module_call(job("alice", "01K"), KEY).owner
    )
    assert owner("alice") != owner("bob")


def test_an_owner_of_another_gateway_is_another() -> None:
    assert owner("alice") != owner("alice", owner_key(b"2" * 32))


def test_the_owner_is_told_by_no_name_of_its_own() -> None:
    assert "alice" not in owner("alice")
    assert len(owner("alice")) == 32


def test_a_call_is_read_as_it_was_written_with_an_owner_and_without() -> None:
    call = module_call(job("alice"), KEY)
    assert ModuleCall.from_plain(_as_received(call)) == call
    without = replace(call, owner="")
    assert "owner" not in without.to_plain()
    assert ModuleCall.from_plain(_as_received(without)) == without


@pytest.mark.parametrize("wrong", [1, None, "x" * 65, "\0", ["alice"]])
def test_what_is_no_owner_is_refused(wrong: object) -> None:
    plain = {**_as_received(module_call(job("alice"), KEY)), "owner": wrong}
    with pytest.raises(ValueError, match="owner"):
        ModuleCall.from_plain(plain)


def _as_received(call: ModuleCall) -> dict[str, object]:
    return {**call.to_plain(), "args": list(call.args), "env": list(call.env), "needs": []}
