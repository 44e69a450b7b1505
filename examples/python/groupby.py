"""Adds up a column of a CSV file for each value of another: python groupby.py FILE KEY VALUE."""

import csv
import pathlib
import sys

from swarm_hub.client import Swarm

ROWS = 1000
SALES = pathlib.Path(__file__).parent.parent / "groupby" / "sales.csv"


def sums(piece):
    """Return the sum of each key of one piece of the file, which begins with the heading."""
    lines, key, value = piece
    found = {}
    for row in csv.DictReader(lines):
        if row[value]:
            found[row[key]] = found.get(row[key], 0) + int(row[value])
    return found


if __name__ == "__main__":
    path, key, value = sys.argv[1:] if len(sys.argv) > 1 else (SALES, "city", "cents")
    heading, *rows = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    pieces = [
        ([heading, *rows[start : start + ROWS]], key, value) for start in range(0, len(rows), ROWS)
    ]
    total = {}
    with Swarm() as swarm:
        for found in swarm.map(sums, pieces):
            for name, amount in found.items():
                total[name] = total.get(name, 0) + amount
    for name, amount in sorted(total.items()):
        print(f"{name},{amount}")
