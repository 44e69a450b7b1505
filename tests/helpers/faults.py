"""Faulty disks: run a scenario in a process of its own whose disk is tests/helpers/faultfs.c.

A scenario is a coroutine function `async def scenario(folder, ...)` of a test module. It runs in
a child, with everything below `folder` on the faulty disk, and returns something JSON can carry:

    async def fills_up(folder: Path) -> str:
        store = Store.on_file(folder / "swarm_hub.db", Clock())
        await store.open()
        space = Space.here()
        space.free_bytes = 0          # from now on growing files meet ENOSPC
        ...
        space.free_bytes = 1_000_000  # somebody made room

    def test_a_full_disk(faultfs: FaultFs, tmp_path: Path) -> None:
        assert faultfs.run(fills_up, tmp_path) == "..."

`FaultFs.environment` gives the variables for a process that a test starts itself (a whole hub);
`Space` then works on the control file from the test's side, while that process runs.
"""

import asyncio
import ctypes
import importlib
import json
import mmap
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
_SOURCE: Final = Path(__file__).with_name("faultfs.c")
_TIMEOUT_S: Final = 60

Scenario = Callable[..., Awaitable[Any]]


class Space:
    """The free space of a faulty disk, as its control file says it; may change at any time."""

    UNLIMITED: Final = -1
    _FIELDS: Final = struct.Struct("3q")

    def __init__(self, control: Path) -> None:
        with control.open("r+b") as file:
            self._fields = mmap.mmap(file.fileno(), self._FIELDS.size)

    @classmethod
    def make(cls, control: Path, total_bytes: int, free_bytes: int = UNLIMITED) -> "Space":
        """Make a control file; with unlimited free space `statvfs` tells the real disk's."""
        control.write_bytes(cls._FIELDS.pack(free_bytes, total_bytes, 0))
        return cls(control)

    @classmethod
    def here(cls) -> "Space":
        """Return the space of the disk this scenario runs on."""
        return cls(Path(os.environ["FAULTFS_CONTROL"]))

    @property
    def free_bytes(self) -> int:
        """How much files may still grow; `UNLIMITED` for as much as the real disk allows."""
        return self._read(0)

    @free_bytes.setter
    def free_bytes(self, value: int) -> None:
        struct.pack_into("q", self._fields, 0, value)

    @property
    def refused(self) -> int:
        """How often a write was answered with ENOSPC."""
        return self._read(2)

    def _read(self, number: int) -> int:
        return int(self._FIELDS.unpack_from(self._fields)[number])


class FaultFs:
    """The compiled library; the fixture `faultfs` gives it."""

    def __init__(self, library: Path) -> None:
        self.library = library

    @classmethod
    def build(cls, folder: Path) -> "FaultFs":
        """Compile the library into `folder`."""
        library = folder / "faultfs.so"
        command = ["cc", "-Wall", "-shared", "-fPIC", "-O2", "-o", library, _SOURCE, "-ldl"]
        if shutil.which("cc") is None:
            raise RuntimeError("these tests need a C compiler (cc), as the user guide says")
        subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)
        return cls(library)

    def environment(
        self, folder: Path, *, log: Path | None = None, control: Path | None = None
    ) -> dict[str, str]:
        """Return the environment of a process with everything below `folder` on this disk.

        `log` is where the operations go (see powerloss.py), `control` a file of `Space.make`;
        both are outside of `folder`, which exists.
        """
        given = {"FAULTFS_DIR": folder, "FAULTFS_LOG": log, "FAULTFS_CONTROL": control}
        named = {name: str(path) for name, path in given.items() if path is not None}
        return {**os.environ, "LD_PRELOAD": str(self.library), **named}

    def run(self, scenario: Scenario, folder: Path, *args: Any, log: Path | None = None) -> Any:
        """Run a scenario in a child and return what it returns.

        Without `log` its disk has a control file: `Space.here()`.
        """
        folder.mkdir(exist_ok=True)
        control = None
        if log is None:
            control = folder.with_name(f"{folder.name}.control")
            Space.make(control, total_bytes=1 << 30)
        return run(scenario, folder, *args, env=self.environment(folder, log=log, control=control))


def run(
    scenario: Scenario,
    folder: Path,
    *args: Any,
    env: dict[str, str] | None = None,
    launcher: Sequence[str] = (),
) -> Any:
    """Run a scenario in a child; `launcher` is a command that runs the command after it."""
    name = f"{scenario.__module__}:{scenario.__qualname__}"
    ended = subprocess.run(
        [*launcher, sys.executable, "-m", "tests.helpers.faults", name, folder, json.dumps(args)],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, f"{name} ended with {ended.returncode}:\n{ended.stderr[-6000:]}"
    return json.loads(ended.stdout.splitlines()[-1])


def mark(text: str) -> None:
    """Put a word of the scenario into the log, after all that happened and before all to come."""
    said = text.encode()
    ctypes.CDLL(None).faultfs_mark(said, ctypes.c_size_t(len(said)))


def main(name: str, folder: str, args: str) -> None:
    """Be the child: run `module:function`."""
    module, _, function = name.partition(":")
    scenario: Scenario = getattr(importlib.import_module(module), function)

    async def call() -> Any:
        return await scenario(Path(folder), *json.loads(args))

    print(json.dumps(asyncio.run(call())))
    sys.stdout.flush()
    # A scenario may leave its store open, as a crash would.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
