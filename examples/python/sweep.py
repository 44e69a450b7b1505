"""Tries every pair of two parameters of a model of an epidemic, and prints a CSV table."""

import itertools
import sys

from swarm_hub.client import Swarm


def peak(parameters):
    """Return the largest share of people who are ill on one day."""
    contagion, recovery = parameters
    healthy, ill, most = 0.999, 0.001, 0.001
    for _ in range(365):
        caught, cured = contagion * healthy * ill, recovery * ill
        healthy, ill = healthy - caught, ill + caught - cured
        most = max(most, ill)
    return most


if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    shares = [(step + 1) / steps for step in range(steps)]
    print("contagion,recovery,peak")
    with Swarm() as swarm:
        for (contagion, recovery), most in swarm.imap(peak, itertools.product(shares, shares)):
            print(f"{contagion:.3f},{recovery:.3f},{most:.4f}")
