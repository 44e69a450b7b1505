"""Draws the Mandelbrot set as a grey picture: python mandelbrot.py FILE.pgm WIDTH."""

import pathlib
import sys

from swarm_hub.client import Swarm

DEPTH = 100


def row(item):
    """Return the grey values of a row: how soon each of its points runs away."""
    y, width = item
    greys = bytearray()
    for x in range(width):
        c = complex(3 * x / width - 2.25, 3 * y / width - 1.125)
        z, steps = 0j, 0
        while steps < DEPTH and abs(z) < 2:
            z = z * z + c
            steps += 1
        greys.append(255 - 255 * steps // DEPTH)
    return bytes(greys)


if __name__ == "__main__":
    path = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "mandelbrot.pgm")
    width = int(sys.argv[2]) if len(sys.argv) > 2 else 240
    height = width * 3 // 4
    with Swarm() as swarm:
        rows = swarm.map(row, [(y, width) for y in range(height)])
    path.write_bytes(b"P5 %d %d 255\n" % (width, height) + b"".join(rows))
    print(path)
