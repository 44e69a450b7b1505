"""Which job's shards go to which nodes now; pure.

The most urgent jobs first; among equally urgent ones the nodes' room is shared between owners.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from swarm_hub.components.scheduler import speculation
from swarm_hub.components.scheduler.eligibility import unfit
from swarm_hub.components.scheduler.entries import JobEntry
from swarm_hub.components.scheduler.fairness import share
from swarm_hub.components.scheduler.nodes import NodeEntry
from swarm_hub.components.scheduler.outcome import Outcome
from swarm_hub.components.scheduler.retry import retry_node
from swarm_hub.components.scheduler.state import SchedulerState
from swarm_hub.components.scheduler.strategies.base import Cut, JobView, NodeView, Strategy

_NO_LIMIT: Final = 2**62


class Planner:
    """Gives out as much work as the nodes have room for."""

    def __init__(self, book: SchedulerState, strategy: Strategy, fallback: Strategy) -> None:
        self._book = book
        self._strategy = strategy
        self._fallback = fallback

    def plan(self, now: float, outcome: Outcome) -> None:
        """Add what is given out now."""
        if not self._book.nodes.with_room(now):
            return
        waiting = [
            job for job in self._book.in_order() if (job.pool_items or job.wanting)
            and not job.ended
        ]  # fmt: skip
        for _, group in groupby(waiting, key=lambda job: job.plan.priority):
            self._give_out(list(group), now, outcome)
        for job in self._book.in_order():
            if not job.ended and job.n_open and not job.pool_items and not job.wanting:
                try:
                    self._copy_stragglers(job, now, outcome)
                except Exception as error:
                    outcome.faults.append((job.plan.job_id, error))

    def _give_out(self, jobs: Sequence[JobEntry], now: float, outcome: Outcome) -> None:
        if len(jobs) > 1:
            room = sum(node.room(now) for node in self._book.nodes.with_room(now))
            for job, limit in share(room, jobs, self._book.in_order()):
                self._give(job, now, limit, outcome)
        # What one job could not take, because it needs other nodes, is offered to all.
        for job in jobs:
            self._give(job, now, _NO_LIMIT, outcome)

    def _give(self, job: JobEntry, now: float, limit: int, outcome: Outcome) -> None:
        """Give a job at most so much; one for which this fails gets nothing more this time."""
        if any(job_id == job.plan.job_id for job_id, _ in outcome.faults):
            return
        try:
            self._give_until_full(job, now, limit, outcome)
        except Exception as error:
            outcome.faults.append((job.plan.job_id, error))

    def _give_until_full(self, job: JobEntry, now: float, limit: int, outcome: Outcome) -> None:
        while limit > 0:
            given = self._give_wanting(job, now, limit, outcome)
            given += self._give_pool(job, now, limit - given, outcome)
            limit -= given
            # Shards cut just now may need second attempts.
            if not given or not job.wanting:
                return

    def _give_wanting(self, job: JobEntry, now: float, limit: int, outcome: Outcome) -> int:
        given = 0
        with_room = self._book.nodes.with_room(now) if job.wanting else []
        for index in tuple(job.wanting):
            if given >= limit or not with_room:
                break
            shard = job.shards[index]
            if now < shard.not_before:
                continue
            everyone = self._book.nodes.by_id.values()
            node = retry_node(shard, job.plan, with_room, everyone, now, self._book.nodes.trusts)
            if node is not None:
                self._book.offer(job, shard, node, now, outcome)
                given += 1
                if not node.room(now):
                    with_room.remove(node)
        return given

    def _give_pool(self, job: JobEntry, now: float, limit: int, outcome: Outcome) -> int:
        given = 0
        while job.pool_items and given < limit:
            views = self._views(job, now)
            if not views:
                break
            cuts = self._cuts(self._job_view(job), views, outcome)
            before = given
            for cut in cuts:
                node = self._book.nodes.by_id[cut.node_id]
                if given < limit and job.pool_items and node.room(now) > 0:
                    self._book.offer(job, job.cut(cut.n_items), node, now, outcome)
                    given += 1
            if given == before:
                break
        return given

    def _copy_stragglers(self, job: JobEntry, now: float, outcome: Outcome) -> None:
        if now < job.look_at:
            return
        idle = [
            node
            for node in self._book.nodes.with_room(now)
            if len(node.load) < node.change.slots and unfit(node, job.plan, now) is None
        ]
        if not idle:
            return
        late = speculation.stragglers(job, self._book.nodes.by_id, now)
        copies = speculation.copies(job, late, idle)
        for shard, node in copies:
            self._book.offer(job, shard, node, now, outcome)
        job.look_at = now + speculation.look_again_s(late)
        due = speculation.next_look(job, late, idle[len(copies) :], now)
        if due is not None:
            self._book.wake(max(due, job.look_at))

    def _views(self, job: JobEntry, now: float) -> list[NodeView]:
        return [
            _view(node, job, now, trusted=self._book.nodes.trusts(node))
            for node in self._book.nodes.with_room(now)
            if unfit(node, job.plan, now) is None
        ]

    def _job_view(self, job: JobEntry) -> JobView:
        plan, nodes = job.plan, self._book.nodes
        speed = nodes.speed(plan.program)
        return JobView(
            plan.job_id, plan.n_items, job.pool_items, plan.shard_size, plan.max_items,
            speed.rate, speed.slots, max(nodes.slots, 1), plan.redundancy.adaptive,
        )  # fmt: skip

    def _cuts(self, job: JobView, nodes: list[NodeView], outcome: Outcome) -> list[Cut]:
        """Ask the strategy; one that fails is replaced, so that a faulty strategy stops no job."""
        try:
            return _checked(self._strategy.cut(job, nodes), job, nodes)
        except Exception as error:
            outcome.strategy_fault = f"{type(error).__name__}: {error}"
            self._strategy = self._fallback
        return _checked(self._strategy.cut(job, nodes), job, nodes)


def _view(node: NodeEntry, job: JobEntry, now: float, *, trusted: bool) -> NodeView:
    change = node.change
    return NodeView(
        change.node_id, change.slots, len(node.load), node.room(now), change.telemetry,
        node.rates.get(job.plan.program), change.rtt_s, node.agreements,
        trusted,
    )  # fmt: skip


def _checked(cuts: Any, job: JobView, nodes: list[NodeView]) -> list[Cut]:
    """Return the cuts that may be carried out; raises ValueError for anything that isn't a cut."""
    known = {node.node_id for node in nodes}
    found = []
    for cut in cuts:
        if not isinstance(cut, Cut) or not isinstance(cut.n_items, int) or cut.n_items < 1:
            raise ValueError(f"it answered {cut!r}, which is no cut of at least one item")
        if cut.node_id not in known:
            raise ValueError(f"it answered a cut for {cut.node_id!r}, a node that was not offered")
        n_items = job.shard_size or min(cut.n_items, job.max_items)
        found.append(cut if n_items == cut.n_items else Cut(cut.node_id, n_items))
    return found
