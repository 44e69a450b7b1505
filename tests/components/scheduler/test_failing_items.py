"""Items that fail are found and left out; the nodes that found them are not to blame."""

from swarm_hub.components.scheduler import (
    Failed,
    Finished,
    JobAdded,
    JobEnded,
    JobPlan,
    NodeChange,
    Outcome,
    Send,
    StateMachine,
    TimePassed,
)
from swarm_hub.components.scheduler.strategies import adaptive
from swarm_hub.components.sla import expected
from swarm_hub.models.job import JobState
from swarm_hub.models.node import Telemetry

PROGRAM = "m" * 64


class Swarm:
    """Nodes whose module fails on some items, each run in no time."""

    def __init__(self, bad: set[int], *, owners: dict[str, str]) -> None:
        self.scheduler = StateMachine(adaptive.create(), expected.create(factor=2.0, initial_s=15))
        self.bad = bad
        self.now = 0.0
        self.quarantined: list[str] = []
        self.failed_on: list[str] = []
        self.done: list[int] = []
        self.end: JobEnded | None = None
        self.names = tuple(owners)
        # How many nodes were not kept from the module, at the worst moment.
        self.least_left = len(owners)
        for name, owner in owners.items():
            self.scheduler.handle(NodeChange(name, 1, Telemetry(), None, owner), 0.0)

    def run(self, plan: JobPlan, until_s: float) -> None:
        """Run a job to its end, or until a time."""
        self.scheduler.handle(JobAdded(plan), self.now)
        while self.end is None and self.now < until_s:
            sent = [
                each
                for each in self.scheduler.plan(self.now).instructions
                if isinstance(each, Send)
            ]
            for send in sent:
                self._answer(send)
            if not sent:
                self.now = self.scheduler.next_deadline() or until_s
                self._note(self.scheduler.handle(TimePassed(), self.now))

    def _answer(self, send: Send) -> None:
        items = range(send.first_item, send.first_item + send.n_items)
        if self.bad.isdisjoint(items):
            self.done += items
            self._note(self.scheduler.handle(Finished(send.assignment.id, 0.001), self.now))
            return
        self.failed_on.append(send.node_id)
        self._note(self.scheduler.handle(Failed(send.assignment.id, "exit: 3: no"), self.now))

    def _note(self, outcome: Outcome) -> None:
        self.quarantined += [name for name, _ in outcome.quarantined]
        nodes = [self.scheduler.node(name) for name in self.names]
        left = [each for each in nodes if each and each.quarantined(PROGRAM, self.now) is None]
        self.least_left = min(self.least_left, len(left))
        for each in outcome.transitions:
            if isinstance(each, JobEnded):
                self.end = each


def skipping(n_items: int, shard_size: int | None = None) -> JobPlan:
    return JobPlan("J", PROGRAM, n_items, shard_size, 10**9, isolates=True, skips=True)


def test_bad_items_do_not_keep_the_nodes_that_find_them_from_the_module() -> None:
    bad = {3, *range(8, 16)}
    swarm = Swarm(bad, owners={"a": "a", "b": "b", "c": "c"})
    swarm.run(skipping(20), 50.0)
    assert swarm.end == JobEnded("J", JobState.COMPLETED, ())
    assert sorted(swarm.done) == [item for item in range(20) if item not in bad]
    assert swarm.quarantined == []


def test_however_many_items_are_bad_the_last_node_that_works_is_not_kept_from_the_module() -> None:
    """Each node is the first to fail on many of them."""
    bad = set(range(10, 50))
    swarm = Swarm(bad, owners={"a": "a", "b": "b", "c": "c"})
    swarm.run(JobPlan("J", PROGRAM, 60, 1, 10**9, skips=True), 50.0)
    assert swarm.end == JobEnded("J", JobState.COMPLETED, ())
    assert sorted(swarm.done) == [item for item in range(60) if item not in bad]
    assert swarm.quarantined
    assert swarm.least_left > 0


def test_bad_items_all_over_a_large_job_are_all_found() -> None:
    bad = set(range(500, 20_000, 1150))
    swarm = Swarm(bad, owners={"a": "a", "b": "b", "c": "c"})
    swarm.run(skipping(20_000), 600.0)
    assert len(swarm.done) == 20_000 - len(bad)


def test_the_nodes_of_one_owner_can_not_leave_an_item_out_while_another_could_try_it() -> None:
    swarm = Swarm({1}, owners={"a": "ann", "b": "ann", "c": "ann", "d": "bob"})
    swarm.run(skipping(2, shard_size=1), 600.0)
    assert swarm.end == JobEnded("J", JobState.COMPLETED, ())
    assert "d" in swarm.failed_on


def test_where_there_is_one_owner_their_word_is_enough() -> None:
    swarm = Swarm({1}, owners={"a": "ann", "b": "ann", "c": "ann"})
    swarm.run(skipping(2, shard_size=1), 600.0)
    assert swarm.end == JobEnded("J", JobState.COMPLETED, ())


def test_an_item_that_one_owner_alone_fails_on_is_given_to_another_and_done() -> None:
    """Ann's nodes lie about the item; it is left out only if Bob's fails too."""
    swarm = Swarm({1}, owners={"a": "ann", "b": "ann", "c": "ann"})
    bob = NodeChange("d", 1, Telemetry(), None, "bob")
    swarm.scheduler.handle(bob, 0.0)
    answer = swarm._answer

    def honest(send: Send) -> None:
        swarm.bad = set() if send.node_id == "d" else {1}
        answer(send)

    swarm._answer = honest  # type: ignore[method-assign]
    swarm.run(skipping(2, shard_size=1), 600.0)
    assert swarm.end == JobEnded("J", JobState.COMPLETED, ())
    assert sorted(swarm.done) == [0, 1]
