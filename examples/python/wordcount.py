"""Counts the words of a text: each item is some lines of it."""

import collections
import pathlib
import sys

from swarm_hub.client import Swarm

LINES = 100


def counted(lines):
    """Return how often each word is in these lines; a Counter is no plain data, a dict is."""
    return dict(collections.Counter(word for line in lines for word in line.lower().split()))


if __name__ == "__main__":
    path = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__)
    lines = path.read_text(encoding="utf-8").splitlines()
    pieces = [lines[start : start + LINES] for start in range(0, len(lines), LINES)]
    total = collections.Counter()
    with Swarm() as swarm:
        # The order does not matter to a sum, so each is added as it comes.
        for _, counts in swarm.imap_unordered(counted, pieces):
            total.update(counts)
    for word, times in sorted(total.items(), key=lambda each: (-each[1], each[0]))[:10]:
        print(times, word)
