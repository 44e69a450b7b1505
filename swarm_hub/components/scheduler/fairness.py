"""How jobs of the same priority share the nodes: level by owner, then by job; pure."""

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence

from swarm_hub.components.scheduler.entries import JobEntry

# Places are dealt in so many steps at most, so that large rooms cost no more than small ones.
_STEPS_MAX = 64


def share(
    room: int, waiting: Sequence[JobEntry], everyone: Iterable[JobEntry]
) -> list[tuple[JobEntry, int]]:
    """Return how many of `room` places each waiting job gets, in the order in which to give.

    Each goes to the owner who holds the fewest places, and of that owner's jobs to the one that
    holds the fewest, then to the oldest. `everyone` are all jobs, as those that wait for nothing
    hold places too.
    """
    held: Counter[str] = Counter()
    for job in everyone:
        held[job.plan.owner] += job.n_open
    jobs: dict[str, list[tuple[int, int]]] = {}
    for number, job in enumerate(waiting):
        jobs.setdefault(job.plan.owner, []).append((job.n_open, number))
    for queue in jobs.values():
        heapq.heapify(queue)
    owners = [(held[owner], queue[0][1], owner) for owner, queue in jobs.items()]
    heapq.heapify(owners)
    step = max(1, room // _STEPS_MAX)
    limits: Counter[int] = Counter()
    while room > 0:
        n_held, _, owner = owners[0]
        places, number = jobs[owner][0]
        given = min(step, room)
        limits[number] += given
        room -= given
        heapq.heapreplace(jobs[owner], (places + given, number))
        heapq.heapreplace(owners, (n_held + given, jobs[owner][0][1], owner))
    by_held = sorted(limits, key=lambda number: (waiting[number].n_open, number))
    return [(waiting[number], limits[number]) for number in by_held]
