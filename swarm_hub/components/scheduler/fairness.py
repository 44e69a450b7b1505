"""How jobs of the same priority share the nodes: level by owner, then by job; pure."""

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence

from swarm_hub.components.scheduler.entries import JobEntry

# Places are dealt out in at most this many steps, so that many places cost no more than a few.
_STEPS_MAX = 64


def share(
    room: int, waiting: Sequence[JobEntry], everyone: Iterable[JobEntry]
) -> list[tuple[JobEntry, int]]:
    """Return how many of `room` places each waiting job gets, in the order in which to give.

    Each place goes to the owner who holds the fewest, and in a tie to the one whose last turn was
    longest ago; among that owner's jobs the same rule applies. `everyone` contains all jobs, since
    jobs that wait for nothing hold places too.
    """
    n_open: Counter[str] = Counter()
    last_turn: dict[str, int] = {}
    for job in everyone:
        owner = job.plan.owner
        n_open[owner] += job.n_open
        last_turn[owner] = max(job.last_turn, last_turn.get(owner, 0))
    jobs: dict[str, list[tuple[int, int, int]]] = {}
    for number, job in enumerate(waiting):
        jobs.setdefault(job.plan.owner, []).append((job.n_open, job.last_turn, number))
    for queue in jobs.values():
        heapq.heapify(queue)
    owners = [
        (n_open[owner], last_turn[owner], queue[0][2], owner) for owner, queue in jobs.items()
    ]
    heapq.heapify(owners)
    step = max(1, room // _STEPS_MAX)
    limits: Counter[int] = Counter()
    while room > 0:
        n_held, turn, _, owner = owners[0]
        places, job_turn, number = jobs[owner][0]
        given = min(step, room)
        limits[number] += given
        room -= given
        heapq.heapreplace(jobs[owner], (places + given, job_turn, number))
        heapq.heapreplace(owners, (n_held + given, turn, jobs[owner][0][2], owner))
    by_held = sorted(limits, key=lambda n: (waiting[n].n_open, waiting[n].last_turn, n))
    return [(waiting[number], limits[number]) for number in by_held]
