"""Which job's shards go to which nodes now; pure.

The most urgent jobs first; among equally urgent ones the nodes' room is shared between owners. A
module that has not given a result yet gets little while others wait, and who waits for a slot with
a better right than the one that occupies it has that one give way (`claims`).
"""

import functools
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Final

from swarm_hub.components.scheduler import speculation
from swarm_hub.components.scheduler.claims import Claims, Victim
from swarm_hub.components.scheduler.eligibility import unfit
from swarm_hub.components.scheduler.entries import JobEntry, JobPlan
from swarm_hub.components.scheduler.fairness import share
from swarm_hub.components.scheduler.moves import OPEN
from swarm_hub.components.scheduler.nodes import NodeEntry
from swarm_hub.components.scheduler.outcome import Outcome
from swarm_hub.components.scheduler.retry import retry_node
from swarm_hub.components.scheduler.state import SchedulerState
from swarm_hub.components.scheduler.strategies.base import Cut, JobView, NodeView, Strategy
from swarm_hub.models.features import PREEMPT
from swarm_hub.models.messages import GAVE_WAY

_NO_LIMIT: Final = 2**62
# A shard should take no more than this share of its wall time, as some items take longer.
_WALL_SHARE: Final = 0.25
# How often to look whether who waits has a better right than who runs.
_CLAIM_EVERY_S: Final = 0.25
_CLAIMS_MAX: Final = 32
# Of how many jobs of a priority the room is looked up before it is shared.
_SAMPLE: Final = 32

_Room = Callable[[NodeEntry], int]


class Planner:
    """Gives out as much work as the nodes have room for."""

    def __init__(
        self,
        book: SchedulerState,
        strategy: Strategy,
        fallback: Strategy,
        unproven_share: float,
    ) -> None:
        self._book = book
        self._strategy = strategy
        self._fallback = fallback
        self._unproven_share = unproven_share
        # When to look next for slots that others have a better right to.
        self._claim_at = 0.0

    def decide_by(self, strategy: Strategy, unproven_share: float) -> None:
        """Cut by another strategy from now on."""
        self._strategy = strategy
        self._unproven_share = unproven_share

    def plan(self, now: float, outcome: Outcome) -> None:
        """Add what is given out now."""
        book = self._book
        has_room = bool(book.nodes.with_room(now))
        contended = len(book.jobs) > 1 or bool(book.overdue)
        claims = contended and now >= self._claim_at
        if not has_room and not claims:
            return
        waiting = [
            job for job in book.in_order() if (job.pool_items or job.wanting) and not job.ended
        ]
        for priority, jobs in groupby(waiting, key=lambda job: job.plan.priority):
            group = list(jobs)
            if has_room:
                self._give_out(group, now, outcome)
            if claims:
                self._claim(group, now, outcome)
            self._resume(priority)
        self._resume(None)
        if claims and any(self._waits(job, now) for job in waiting):
            self._claim_at = now + _CLAIM_EVERY_S
            book.wake(self._claim_at)
        if has_room:
            self._copy_all_stragglers(now, outcome)

    def _copy_all_stragglers(self, now: float, outcome: Outcome) -> None:
        for job in self._book.in_order():
            if not job.ended and job.n_open and not job.pool_items and not job.wanting:
                try:
                    self._copy_stragglers(job, now, outcome)
                except Exception as error:
                    outcome.faults.append((job.plan.job_id, error))

    def _give_out(self, jobs: Sequence[JobEntry], now: float, outcome: Outcome) -> None:
        """Share the room between jobs of the same priority."""
        contended = len(jobs) > 1
        unproven = [job for job in jobs if not self._book.is_proven(job)] if contended else []
        confined = {job.job_id for job in unproven}

        unproven_room = self._unproven_room() if confined else 0

        def give(job: JobEntry, limit: int) -> None:
            nonlocal unproven_room
            if job.job_id in confined:
                limit, before = min(limit, unproven_room), job.n_open
                self._give(
                    job, now, limit, outcome, lambda node: self._room_for_one(node, job, now)
                )
                unproven_room -= job.n_open - before
            else:
                self._give(job, now, limit, outcome)

        if contended:
            with_room = self._book.nodes.with_room(now)
            # The last ones may have more, which is offered to all below.
            room = max(
                sum(self._room(node, job, now) for node in with_room) for job in jobs[:_SAMPLE]
            )
            for job, limit in share(room, jobs, self._book.in_order()):
                give(job, limit)
        # What one job could not take, because it needs other nodes, is offered to all.
        for job in jobs:
            if not self._book.nodes.with_room(now):
                return
            give(job, _NO_LIMIT)
        # Slots that nobody else wants need not be idle.
        idle = sum(map(_idle_slots, self._book.nodes.with_room(now))) if unproven else 0
        if not idle:
            return
        for job, limit in share(idle, unproven, self._book.in_order()):
            self._give(job, now, limit, outcome, _idle_slots)
        for job in unproven:
            if not self._book.nodes.with_room(now):
                return
            self._give(job, now, _NO_LIMIT, outcome, _idle_slots)

    def _room(self, node: NodeEntry, job: JobEntry, now: float) -> int:
        return self._book.nodes.room(node, job.plan.program, now)

    def _room_for_one(self, node: NodeEntry, job: JobEntry, now: float) -> int:
        """Return whether a node has room for its only shard of a job."""
        if any(each.job_id == job.job_id for each in node.held()):
            return 0
        return min(1, self._room(node, job, now))

    def _unproven_room(self) -> int:
        """Return how many more slots modules without a result may have while others wait."""
        held = sum(job.n_open for job in self._book.jobs.values() if not self._book.is_proven(job))
        return max(1, int(self._unproven_share * self._book.nodes.slots)) - held

    def _claim(self, jobs: Sequence[JobEntry], now: float, outcome: Outcome) -> None:
        """Have running shards give way to those of these jobs that have a better right."""
        waiting = [job for job in jobs if self._waits(job, now)]
        if not waiting:
            return
        for job in waiting:
            if job.waits_since is None:
                job.waits_since = now
        claims = Claims(self._book, now, self._unproven_share)
        longest_first = sorted(waiting, key=lambda job: (job.waits_since or 0.0, job.job_id))
        for job in longest_first[:_CLAIMS_MAX]:
            try:
                self._claim_for(job, claims, now, outcome)
            except Exception as error:
                outcome.faults.append((job.job_id, error))

    def _claim_for(self, job: JobEntry, claims: Claims, now: float, outcome: Outcome) -> None:
        for victim in claims.victims(job):
            if not self._waits(job, now):
                break
            node = victim.node
            takes_work = not node.change.refuses and now >= node.paused_until
            if not takes_work or unfit(node, job.plan, now) is not None:
                continue
            if not self._may_place(job, node, now):
                continue
            for each in claims.behind(victim, job):
                self._book.give_way(each, outcome)
            self._make_way(victim, outcome)
            claims.taken(victim, job)
            self._give(job, now, 1, outcome, functools.partial(_one_on, victim.node))

    def _make_way(self, victim: Victim, outcome: Outcome) -> None:
        """Suspend a shard of a module that may never end; any other can be done again elsewhere."""
        node, assignment = victim.node, victim.assignment
        may_wait = PREEMPT in node.change.features and len(node.background) < node.change.slots
        if victim.can_wait and may_wait:
            self._book.suspend(node, assignment, outcome)
        elif assignment.state in OPEN:
            self._book.give_way(assignment, outcome)
        else:
            self._book.withdraw(assignment, GAVE_WAY, outcome)

    def _may_place(self, job: JobEntry, node: NodeEntry, now: float) -> bool:
        """Whether a node that fits a job could take any of what waits of it."""
        if job.pool_items:
            return True
        everyone = self._book.nodes.by_id.values()
        return any(
            retry_node(job.shards[index], job.plan, (node,), everyone, now, self._book.nodes.trusts)
            for index in job.wanting
            if now >= job.shards[index].not_before
        )

    def _waits(self, job: JobEntry, now: float) -> bool:
        if job.ended:
            return False
        return bool(job.pool_items) or any(
            now >= job.shards[index].not_before for index in job.wanting
        )

    def _resume(self, priority: int | None) -> None:
        """Let what gave way have free slots again, if it is at least of this priority."""
        book = self._book
        for node in tuple(book.nodes.suspending.values()):
            for assignment in node.background:
                wanted = book.jobs[assignment.job_id].plan.priority
                has_slot = len(node.load) < node.change.slots
                if has_slot and (priority is None or wanted >= priority):
                    book.resume(node, assignment)
            if not node.background:
                del book.nodes.suspending[node.node_id]

    def _give(
        self, job: JobEntry, now: float, limit: int, outcome: Outcome, room: _Room | None = None
    ) -> None:
        """Give a job at most so much; one for which this fails gets nothing more this time.

        `room` says how much a node may take, by default what it has room for.
        """
        if any(job_id == job.plan.job_id for job_id, _ in outcome.faults):
            return
        if room is None:

            def room(node: NodeEntry) -> int:
                return self._room(node, job, now)

        try:
            self._give_until_full(job, now, limit, outcome, room)
        except Exception as error:
            outcome.faults.append((job.plan.job_id, error))

    def _give_until_full(
        self, job: JobEntry, now: float, limit: int, outcome: Outcome, room: _Room
    ) -> None:
        while limit > 0:
            given = self._give_wanting(job, now, limit, outcome, room)
            given += self._give_pool(job, now, limit - given, outcome, room)
            limit -= given
            # Shards cut just now may need second attempts.
            if not given or not job.wanting:
                return

    def _give_wanting(
        self, job: JobEntry, now: float, limit: int, outcome: Outcome, room: _Room
    ) -> int:
        given = 0
        if not job.wanting:
            return given
        with_room = [node for node in self._book.nodes.with_room(now) if room(node)]
        # Of shards that were split the smallest parts first, which lead to an item soonest.
        for index in sorted(job.wanting, reverse=True) if job.n_split else tuple(job.wanting):
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
                if not room(node):
                    with_room.remove(node)
        return given

    def _give_pool(
        self, job: JobEntry, now: float, limit: int, outcome: Outcome, room: _Room
    ) -> int:
        given = 0
        while job.pool_items and given < limit:
            views = self._views(job, now, room)
            if not views:
                break
            cuts = self._cuts(self._job_view(job), views, outcome)
            before = given
            for cut in cuts:
                node = self._book.nodes.by_id[cut.node_id]
                if given < limit and job.pool_items and room(node) > 0:
                    n_items = min(cut.n_items, _items_in_time(node, job.plan))
                    self._book.offer(job, job.cut(n_items), node, now, outcome)
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

    def _views(self, job: JobEntry, now: float, room: _Room) -> list[NodeView]:
        return [
            _view(node, job, n_more, trusted=self._book.nodes.trusts(node))
            for node in self._book.nodes.with_room(now)
            if (n_more := room(node)) and unfit(node, job.plan, now) is None
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


def _items_in_time(node: NodeEntry, plan: JobPlan) -> int:
    """Return how many items surely end within their wall time; a fixed size is the job's own."""
    rate = node.rate(plan.program)
    if rate is None or plan.shard_size is not None:
        return _NO_LIMIT
    return max(1, int(rate * plan.wall_s * _WALL_SHARE))


def _one_on(wanted: NodeEntry, node: NodeEntry) -> int:
    return int(node is wanted)


def _idle_slots(node: NodeEntry) -> int:
    return max(0, node.change.slots - len(node.load))


def _view(node: NodeEntry, job: JobEntry, room: int, *, trusted: bool) -> NodeView:
    change = node.change
    return NodeView(
        change.node_id, change.slots, len(node.load), room, change.telemetry,
        node.rate(job.plan.program), change.rtt_s, node.agreements,
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
