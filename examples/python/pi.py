"""Estimates pi: each item is a seed, with which a device throws darts at a square."""

import random
import sys

from swarm_hub.client import Swarm

DARTS = 10_000


def within(seed):
    """Return how many of the darts of a seed lie in the quarter circle."""
    r = random.Random(seed)
    return sum(r.random() ** 2 + r.random() ** 2 < 1 for _ in range(DARTS))


if __name__ == "__main__":
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with Swarm() as swarm:
        print(4 * sum(swarm.map(within, range(seeds))) / (seeds * DARTS))
