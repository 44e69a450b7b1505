"""Shards whose answer the owner of the job knows."""

import pytest

from swarm_hub.components.scheduler import (
    Finished,
    JobAdded,
    JobEnded,
    JobPlan,
    NodeChange,
    Outcome,
    Redundancy,
    Send,
    StateMachine,
    adaptive_redundancy,
)
from swarm_hub.components.scheduler.strategies import adaptive
from swarm_hub.components.sla import expected
from swarm_hub.models.job import JobState, KnownAnswer
from swarm_hub.models.node import Telemetry

RIGHT, WRONG = "r" * 64, "w" * 64


def started(names: str, plan: JobPlan) -> tuple[StateMachine, Outcome]:
    scheduler = StateMachine(adaptive.create(), expected.create(factor=2.0, initial_s=15))
    for name in names:
        scheduler.handle(NodeChange(name, 1, Telemetry()), 0.0)
    scheduler.handle(JobAdded(plan), 0.0)
    return scheduler, scheduler.plan(0.0)


def plan(n_items: int, *known: KnownAnswer, **more: Redundancy) -> JobPlan:
    return JobPlan("J", "m" * 64, n_items, 2, 10**9, known=known, **more)


def sent(outcome: Outcome) -> dict[str, str]:
    """Return the assignments given out, each with its node."""
    return {
        each.assignment.id: each.node_id for each in outcome.instructions if isinstance(each, Send)
    }


def failures(outcome: Outcome) -> list[str]:
    return [
        text
        for each in outcome.transitions
        if isinstance(each, JobEnded) and each.state is JobState.FAILED
        for text in each.failures
    ]


def test_known_items_are_a_shard_by_themselves() -> None:
    known = (KnownAnswer(3, 4, RIGHT), KnownAnswer(7, 1, RIGHT), KnownAnswer(9, 1, RIGHT))
    _, outcome = started("abcdefgh", plan(10, *known))
    cut = [(e.first_item, e.n_items) for e in outcome.instructions if isinstance(e, Send)]
    assert cut == [(0, 2), (2, 1), (3, 4), (7, 1), (8, 1), (9, 1)]


@pytest.mark.parametrize(
    "redundancy", [Redundancy(1), Redundancy(3), adaptive_redundancy(b"secret")]
)
def test_one_result_equal_to_the_known_answer_counts_at_once(redundancy: Redundancy) -> None:
    scheduler, outcome = started("abc", plan(1, KnownAnswer(0, 1, RIGHT), redundancy=redundancy))
    (assignment_id,) = sent(outcome)
    done = scheduler.handle(Finished(assignment_id, 0.1, RIGHT), 1.0)
    assert done.counted is not None
    # What an owner knows of its own job is no reason for others to trust a node.
    assert done.judged == []


def test_who_contradicts_it_is_kept_from_the_module_once_another_confirms_it() -> None:
    scheduler, outcome = started("ab", plan(10, KnownAnswer(0, 2, RIGHT)))
    assignment_id = next(each for each in sent(outcome) if each.startswith("J.0."))
    liar = sent(outcome)[assignment_id]
    lied = scheduler.handle(Finished(assignment_id, 0.1, WRONG), 1.0)
    assert lied.counted is None
    assert lied.quarantined == []
    ((_, reason),) = lied.returned
    assert reason == f"the result of {liar} for items 0 to 1 is not the known answer"
    for other in sent(outcome):
        scheduler.handle(Finished(other, 0.1, RIGHT), 1.0)
    again = sent(scheduler.plan(1.0))
    (assignment_id,) = (each for each in again if each.startswith("J.0."))
    assert again[assignment_id] != liar
    done = scheduler.handle(Finished(assignment_id, 0.1, RIGHT), 2.0)
    assert done.counted is not None
    assert done.judged == []
    assert done.quarantined == [(liar, "m" * 64)]
    assert liar not in sent(scheduler.plan(2.0)).values()


def test_who_always_gives_the_same_is_kept_from_the_module_within_ten_shards() -> None:
    known = [KnownAnswer(at, 1, RIGHT) for at in range(0, 200, 5)]
    scheduler, outcome = started("abcd", plan(200, *known))
    wrong, now = 0, 0.0
    quarantined: list[tuple[str, str]] = []
    while not quarantined:
        now += 1.0
        for assignment_id, name in sent(outcome).items():
            wrong += name == "a"
            # Slow enough that nobody holds much ahead.
            done = scheduler.handle(
                Finished(assignment_id, 1.0, WRONG if name == "a" else RIGHT), now
            )
            quarantined += done.quarantined
        outcome = scheduler.plan(now)
    assert quarantined == [("a", "m" * 64)]
    assert wrong <= 10


def test_an_answer_that_three_owners_contradict_fails_the_job_and_harms_no_node() -> None:
    scheduler, outcome = started("abcd", plan(1, KnownAnswer(0, 1, RIGHT)))
    for _ in range(3):
        assert failures(outcome) == []
        (assignment_id,) = sent(outcome)
        ended = scheduler.handle(Finished(assignment_id, 0.1, WRONG), 1.0)
        assert ended.quarantined == []
        outcome = scheduler.plan(1.0)
    (text,) = failures(ended)
    assert "the known answer rrrrrrrrrrrr to items 0 to 0 is contradicted by all" in text
    assert "is it right, and is the module deterministic?" in text


def test_where_there_is_nobody_else_to_ask_the_job_fails_at_once() -> None:
    scheduler, outcome = started("a", plan(1, KnownAnswer(0, 1, RIGHT)))
    (assignment_id,) = sent(outcome)
    assert len(failures(scheduler.handle(Finished(assignment_id, 0.1, WRONG), 1.0))) == 1
