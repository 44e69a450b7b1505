"""Items that fail are found by halves, and left out where the job says so; the rest is kept."""

import pytest

from swarm_hub.components.scheduler import (
    Failed,
    Finished,
    ItemsFailed,
    JobAdded,
    JobPlan,
)
from swarm_hub.models.job import JobState
from swarm_hub.models.shard import Assignment, AssignmentState, Cutting, Shard, ShardState
from tests.helpers.driven import TIMED_OUT, Driven, node

ALL = 10**9


def plan(n_items: int, **more: object) -> JobPlan:
    """Return a job that isolates its failing items, cut by a strategy into one shard."""
    return JobPlan("J", "program", n_items, n_items, ALL, **{"isolates": True, **more})  # type: ignore[arg-type]


class Swarm(Driven):
    """Nodes that run a module which fails on some items."""

    def __init__(self, bad: set[int], names: str = "abc", owners: str = "") -> None:
        nodes = [
            node(name, owner=owner) for name, owner in zip(names, owners or names, strict=True)
        ]
        super().__init__(*nodes)
        self.bad = bad
        self.answered: set[str] = set()
        self.n_failed = 0
        self.done: list[int] = []
        self.skipped: list[int] = []

    def run(self, most_s: float = 300.0) -> None:
        """Have the nodes answer until the job has ended."""
        while not self.ended and self.now < most_s:
            for each in [each for each in self.sent if each not in self.answered]:
                self.answered.add(each)
                self._answer(each)
            self.until(self.now + 0.05)

    def _answer(self, assignment_id: str) -> None:
        assignment = self.machine.assignment(assignment_id)
        if assignment is None:
            return
        shard = assignment.shard
        items = range(shard.first_item, shard.first_item + shard.n_items)
        if self.bad.isdisjoint(items):
            if self.handle(Finished(assignment_id, 0.01)).counted is not None:
                self.done += items
        else:
            self.n_failed += 1
            first = min(self.bad.intersection(items))
            outcome = self.handle(Failed(assignment_id, f"exit: bad row {first}"))
            for change in outcome.shards.values():
                if change.shard.state is ShardState.SKIPPED:
                    end = change.shard.first_item + change.shard.n_items
                    self.skipped += range(change.shard.first_item, end)


def test_a_job_fails_with_the_item_that_fails_and_the_nodes_once() -> None:
    swarm = Swarm({13})
    swarm.add(plan(20))
    swarm.run()
    (end,) = swarm.ended
    assert end.state is JobState.FAILED
    (told,) = end.failures
    assert isinstance(told, ItemsFailed)
    assert (told.first_item, told.n_items, told.text) == (13, 1, "exit: bad row 13")
    assert sorted(told.node_ids) == ["a", "b", "c"]


def test_halves_that_both_succeed_count() -> None:
    swarm = Driven(*(node(name) for name in "abc"))
    swarm.add(plan(20))
    for number in (1, 2, 3):
        swarm.until(swarm.now + 1.0)
        swarm.handle(Failed(f"J.0.{number}", "trap: too much at once"))
    assert {each.partition(".")[2] for each in swarm.given("J")} >= {"1.1", "2.1"}
    swarm.handle(Finished("J.1.1", 0.1))
    swarm.handle(Finished("J.2.1", 0.1))
    assert [end.state for end in swarm.ended] == [JobState.COMPLETED]


@pytest.mark.parametrize("bad", [{0}, {19}, {3, 4}, {0, 7, 13, 19}])
def test_with_skip_all_but_the_failing_items_are_done(bad: set[int]) -> None:
    swarm = Swarm(bad)
    swarm.add(plan(20, skips=True))
    swarm.run()
    (end,) = swarm.ended
    assert end.state is JobState.COMPLETED
    assert sorted(swarm.skipped) == sorted(bad)
    assert sorted(swarm.done) == sorted(set(range(20)) - bad)
    entry = swarm.machine.job("J")
    assert entry is not None
    assert (entry.n_failed_items, entry.n_done_items) == (len(bad), 20 - len(bad))


def test_more_failing_items_than_allowed_fail_the_job() -> None:
    swarm = Swarm({1, 5, 9})
    swarm.add(plan(20, skips=True, failed_items_max=2))
    swarm.run()
    (end,) = swarm.ended
    assert end.state is JobState.FAILED
    assert end.failures[0] == "3 items failed, more than max_failures: 2"


def test_a_job_of_which_every_item_failed_has_failed() -> None:
    swarm = Swarm(set(range(4)))
    swarm.add(plan(4, skips=True))
    swarm.run()
    (end,) = swarm.ended
    assert (end.state, end.failures[0]) == (JobState.FAILED, "all 4 items failed")


def test_one_owners_word_does_not_leave_items_out_where_there_are_two() -> None:
    """Three nodes of one liar fail on an item; a fourth one of somebody else does it."""
    swarm = Driven(*(node(name, owner="liar") for name in "abc"), node("d", owner="honest"))
    swarm.add(plan(1, skips=True))
    tried = set()
    while not swarm.ended and swarm.now < 60:
        swarm.until(swarm.now + 0.5)
        for each, where in swarm.given("J").items():
            if each in tried:
                continue
            tried.add(each)
            swarm.handle(Finished(each, 0.1) if where == "d" else Failed(each, "exit: lie"))
    assert [end.state for end in swarm.ended] == [JobState.COMPLETED]
    entry = swarm.machine.job("J")
    assert entry is not None
    assert (entry.n_failed_items, entry.n_done_items) == (0, 1)


def test_the_search_for_failing_items_is_limited() -> None:
    """Every second of 4,096 items fails: after some of them whole shards are left out."""
    swarm = Swarm(set(range(0, 4096, 2)))
    swarm.add(plan(4096, skips=True))
    swarm.run(most_s=3600.0)
    (end,) = swarm.ended
    assert end.state is JobState.COMPLETED
    entry = swarm.machine.job("J")
    assert entry is not None
    # To find all of them would take three failures for each.
    assert 64 <= entry.n_isolating <= 1024
    assert 0 < entry.n_done_items < 2048
    assert sorted(swarm.done + swarm.skipped) == list(range(4096))


def run_to_wall_times(swarm: Driven, endless: set[int], wall_s: float) -> None:
    """Have items take no time, but those that never end all of their wall time."""
    answered: set[str] = set()
    while not swarm.ended and swarm.now < 1000 * wall_s:
        for each, (_, at) in tuple(swarm.sent.items()):
            assignment = swarm.machine.assignment(each)
            if each in answered or assignment is None:
                continue
            first, n_items = assignment.shard.first_item, assignment.shard.n_items
            if endless.isdisjoint(range(first, first + n_items)):
                answered.add(each)
                swarm.handle(Finished(each, 0.1))
            elif swarm.now >= at + wall_s:
                answered.add(each)
                swarm.handle(Failed(each, TIMED_OUT, wall_s))
        swarm.until(swarm.now + wall_s / 20)


@pytest.mark.parametrize("names", ["a", "abc"])
@pytest.mark.parametrize(
    ("n_items", "shard_size", "endless"),
    [
        (24, 8, {13}), (3, 3, {1}), (2, 2, {0}), (10_000, 10_000, {9_999}),
        (5000, 2500, {0, 7, 4000}),
    ],
)  # fmt: skip
def test_with_skip_all_but_the_items_that_never_end_are_done(
    names: str, n_items: int, shard_size: int, endless: set[int]
) -> None:
    """Also where no shard had a result before."""
    swarm = Driven(*(node(name) for name in names))
    swarm.add(
        JobPlan("J", "program", n_items, shard_size, ALL, isolates=True, skips=True, wall_s=10.0)
    )
    run_to_wall_times(swarm, endless, 10.0)
    assert [end.state for end in swarm.ended] == [JobState.COMPLETED]
    entry = swarm.machine.job("J")
    assert entry is not None
    assert entry.n_failed_items == len(endless)
    # Three attempts at each shard, what halving takes, three at each item.
    most = len(endless) * (n_items.bit_length() + 6) * 10.0
    assert swarm.now <= 1.5 * most


@pytest.mark.parametrize("n_items", [1, 2, 1000])
def test_with_skip_a_job_of_which_no_item_ends_fails_when_the_first_was_found(n_items: int) -> None:
    swarm = Driven(*(node(name) for name in "abc"))
    swarm.add(plan(n_items, skips=True, wall_s=10.0))
    run_to_wall_times(swarm, set(range(n_items)), 10.0)
    (end,) = swarm.ended
    assert end.state is JobState.FAILED
    assert swarm.now <= 10.0 * (n_items.bit_length() + 12)


def test_an_endless_item_of_a_job_that_fails_of_it_is_searched_for_four_wall_times() -> None:
    swarm = Driven(*(node(name) for name in "abc"))
    swarm.add(JobPlan("J", "program", 5000, 2500, ALL, isolates=True, wall_s=10.0))
    run_to_wall_times(swarm, {4000}, 10.0)
    (end,) = swarm.ended
    (told,) = end.failures
    assert isinstance(told, ItemsFailed)
    assert told.first_item <= 4000 < told.first_item + told.n_items
    assert told.n_items <= 2500 // 2**3


@pytest.mark.parametrize("standstill_s", [0.0, 100.0])
def test_time_in_which_all_stood_still_is_no_time_of_the_search(standstill_s: float) -> None:
    """As when a gateway is frozen or killed: nodes tell late what failed at once."""
    swarm = Driven(*(node(name) for name in "abc"))
    swarm.add(plan(20, skips=True, wall_s=10.0))
    skipped: list[int] = []
    answered: set[str] = set()
    while not swarm.ended and swarm.now < 10_000:
        swarm.until(swarm.now + 0.5)
        waiting = [each for each in swarm.sent if each not in answered]
        # No time passes for the hub, and none is due.
        swarm.now += standstill_s
        for each in waiting:
            answered.add(each)
            assignment = swarm.machine.assignment(each)
            if assignment is None:
                continue
            first, n_items = assignment.shard.first_item, assignment.shard.n_items
            if not first <= 13 < first + n_items:
                swarm.handle(Finished(each, 0.01))
                continue
            outcome = swarm.handle(Failed(each, "exit: bad", 0.01))
            skipped += [
                change.shard.first_item
                for change in outcome.shards.values()
                if change.shard.state is ShardState.SKIPPED
            ]
    assert [end.state for end in swarm.ended] == [JobState.COMPLETED]
    assert skipped == [13]


def test_an_attempt_that_was_under_way_at_a_restart_has_not_run_since_the_device_started() -> None:
    cut = Cutting(3, 20, splits=((0, 20),))
    shards = tuple(
        Shard("J", index, ShardState.ASSIGNED, 10 * (index - 1), 10, 1) for index in (1, 2)
    )
    attempts = tuple(
        (Assignment(f"J.{index}.1", "J", index, 1, "a", AssignmentState.ACCEPTED), None)
        for index in (1, 2)
    )
    swarm = Driven()
    swarm.now = 50_000.0
    swarm.add(plan(20, skips=True, cut=cut, shards=shards, assignments=attempts))
    swarm.handle(node("a"))
    # The second of them waits for its turn, as far as the gateway knows.
    swarm.handle(Failed("J.2.1", "exit: bad"))
    entry = swarm.machine.job("J")
    assert entry is not None
    assert entry.isolating_s < 1.0
    # It is searched further.
    assert {(each.first_item, each.n_items) for each in entry.shards.values()} == {
        (0, 10), (10, 5), (15, 5)
    }  # fmt: skip


def test_without_isolation_a_shard_fails_whole() -> None:
    swarm = Swarm({13})
    swarm.add(plan(20, isolates=False))
    swarm.run()
    (end,) = swarm.ended
    (told,) = end.failures
    assert isinstance(told, ItemsFailed)
    assert (told.first_item, told.n_items) == (0, 20)


def test_a_late_result_of_a_shard_that_was_split_does_not_count() -> None:
    swarm = Driven(*(node(name) for name in "abcd"))
    swarm.add(plan(20))
    swarm.until(15.1)  # a copy is out beside the first attempt
    for each in ("J.0.2",):
        swarm.handle(Failed(each, "exit: bad"))
    swarm.until(17.0)
    swarm.handle(Failed("J.0.3", "exit: bad"))
    swarm.until(19.0)
    swarm.handle(Failed("J.0.4", "exit: bad"))
    assert "J.0.1" in swarm.withdrawn
    assert swarm.handle(Finished("J.0.1", 19.0)).counted is None
    entry = swarm.machine.job("J")
    assert entry is not None
    assert sorted(entry.shards) == [1, 2]
    assert not entry.pool_items


def test_a_restart_goes_on_with_the_halves_and_what_was_spent_on_them() -> None:
    swarm = Swarm({13})
    swarm.add(plan(20, skips=True))
    while not (entry := swarm.machine.job("J")) or len(entry.shards) != 1 or entry.n_cut < 5:
        swarm.run(most_s=swarm.now + 0.05)
    shards = tuple(entry.shards.values())
    cut = Cutting(
        entry.n_cut, 20, entry.n_done_shards, entry.n_done_items, splits=((0, 20),),
        n_isolating=entry.n_isolating, isolating_s=entry.isolating_s,
    )  # fmt: skip
    again = Swarm({13})
    again.done = list(swarm.done)
    again.handle(
        JobAdded(
            plan(
                20,
                skips=True,
                cut=cut,
                shards=tuple(each.snapshot() for each in shards),
                assignments=tuple(
                    (attempt.snapshot(), None)
                    for each in shards
                    for attempt in each.live
                    if attempt.state is not AssignmentState.EXPIRED
                ),
            )
        )
    )
    for each in shards:
        for attempt in each.live:
            again.sent[attempt.id] = (attempt.node_id, 0.0)
    again.run()
    assert [end.state for end in again.ended] == [JobState.COMPLETED]
    assert sorted(again.done + again.skipped) == list(range(20))
    assert again.skipped == [13]
    after = again.machine.job("J")
    assert after is not None
    assert after.n_isolating >= entry.n_isolating > 0
