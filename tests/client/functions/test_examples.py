"""The programs of `examples/python` print what plain Python does, and the notebook runs."""

import collections
import json
import linecache
import os
import random
import runpy
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.cli.swarm import LocalHub
from tests.conftest import EXAMPLES

pytestmark = pytest.mark.nightly

PROGRAMS = EXAMPLES / "python"


def printed(program: str, gateway: LocalHub, *arguments: object) -> str:
    env = {**os.environ, "SWARM_HUB_URL": gateway.url, "SWARM_HUB_TOKEN": gateway.token}
    done = subprocess.run(
        [sys.executable, PROGRAMS / program, *map(str, arguments)],
        env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def names_of(program: str) -> dict[str, Any]:
    return runpy.run_path(str(PROGRAMS / program))


def test_the_programs_print_what_plain_python_does(gateway: LocalHub, tmp_path: Path) -> None:
    names = names_of("pi.py")
    share = sum(map(names["within"], range(2))) / (2 * names["DARTS"])
    assert float(printed("pi.py", gateway, 2)) == 4 * share

    text = tmp_path / "text.txt"
    text.write_text("to be or not\nTo be é\n" * 80)
    counts = collections.Counter(text.read_text().lower().split())
    lines = [line.split(" ") for line in printed("wordcount.py", gateway, text).splitlines()]
    assert {word: int(times) for times, word in lines} == counts
    assert lines[0] == ["160", "be"]

    table = tmp_path / "table.csv"
    table.write_text('who,much\n"a, b",1\nc,2\n"a, b",40\nc,\n')
    assert printed("groupby.py", gateway, table, "who", "much") == "a, b,41\nc,2\n"

    picture = tmp_path / "small.pgm"
    assert printed("mandelbrot.py", gateway, picture, 16) == f"{picture}\n"
    row = names_of("mandelbrot.py")["row"]
    rows = b"".join(row((y, 16)) for y in range(12))
    assert picture.read_bytes() == b"P5 16 12 255\n" + rows
    assert len(set(rows)) > 5

    peak = names_of("sweep.py")["peak"]
    assert printed("sweep.py", gateway, 2) == "contagion,recovery,peak\n" + "".join(
        f"{a:.3f},{b:.3f},{peak((a, b)):.4f}\n" for a in (0.5, 1.0) for b in (0.5, 1.0)
    )


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(rows: list[bytes], channels: int) -> bytes:
    """Return a picture whose rows have each of the five filters in turn."""
    filtered, above = b"", bytes(len(rows[0]))
    for number, row in enumerate(rows):
        kind = number % 5
        line = bytearray()
        for at, value in enumerate(row):
            left, corner = (each[at - channels] if at >= channels else 0 for each in (row, above))
            up, slope = above[at], left + above[at] - corner
            paeth = min((left, up, corner), key=lambda each: abs(slope - each))
            line.append((value - (0, left, up, (left + up) // 2, paeth)[kind]) & 0xFF)
        filtered, above = filtered + bytes((kind,)) + line, row
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", len(rows[0]) // channels, len(rows), 8, kind, 0, 0, 0)
    packed = zlib.compress(filtered)
    parts = [chunk(b"IDAT", packed[:50]), chunk(b"tEXt", b"x"), chunk(b"IDAT", packed[50:])]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(parts) + chunk(b"IEND", b"")


def test_a_thumbnail_has_the_means_of_squares(gateway: LocalHub, tmp_path: Path) -> None:
    names = names_of("thumbnails.py")
    random.seed(5)
    for channels in (1, 2, 3, 4):
        # Squares of 2 by 2, in the last row and column what is left of them.
        rows = [random.randbytes(191 * channels) for _ in range(11)]
        picture = png(rows, channels)
        assert names["opened"](picture)[1] == rows
        head, small = names["opened"](names["thumbnail"](picture))
        assert head[:2] == (96, 6)
        for y, x, c in ((0, 0, 0), (2, 50, channels - 1), (5, 95, 0)):
            square = [
                row[column * channels + c]
                for row in rows[2 * y : 2 * y + 2]
                for column in range(2 * x, min(2 * x + 2, 191))
            ]
            assert small[y][x * channels + c] == sum(square) // len(square)
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(picture)
    bad.write_bytes(b"GIF89a")
    folder = tmp_path / "small"
    said = printed("thumbnails.py", gateway, folder, bad, good).splitlines()
    assert said[0].startswith(f"{bad}: it is no PNG file of 8 bits")
    assert said[1:] == [str(folder / "good.png")]
    assert (folder / "good.png").read_bytes() == names["thumbnail"](picture)


def test_the_programs_are_short() -> None:
    programs = sorted(PROGRAMS.glob("*.py"))
    assert len(programs) == 6
    long = [each.name for each in programs if len(each.read_text().splitlines()) > 40]
    # It reads and writes a format of files.
    assert long == ["thumbnails.py"]


def test_the_notebook_runs_from_its_first_cell_to_its_last(
    gateway: LocalHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWARM_HUB_URL", gateway.url)
    monkeypatch.setenv("SWARM_HUB_TOKEN", gateway.token)
    notebook = json.loads((PROGRAMS / "tour.ipynb").read_text())
    cells = [each for each in notebook["cells"] if each["cell_type"] == "code"]
    assert [each["outputs"] for each in cells] == [[]] * len(cells)
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        source = "".join(cell["source"])
        # As IPython does, so that the source of a function of a cell can be found.
        name = f"<cell {number}>"
        monkeypatch.setitem(
            linecache.cache, name, (len(source), None, source.splitlines(keepends=True), name)
        )
        exec(compile(source, name, "exec"), names)
    assert names["squares"] == names["later"] + [19, 26] == [10, 11, 14, 19, 26]
    assert names["pairs"] == [(9, 3), (16, 4), (25, 5)]
    assert (names["answers"][0], names["answers"][2]) == (1.0, 0.25)
    assert names["power"] == 2**100
    assert "worker-0" in capsys.readouterr().out
