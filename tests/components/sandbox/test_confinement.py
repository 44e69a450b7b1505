"""A child has nothing of the hub: no environment, no descriptors, no importable hub."""

import asyncio
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import modules
from tests.helpers.sandboxes import MIB, Bench, is_alive, until

ROOT = Path(__file__).parents[3]


async def child_of(bench: Bench) -> Path:
    await bench.run(modules.SUM, "i32-array", bytes(4))
    return Path("/proc") / str(bench.sandbox.stats().pids[0])


async def test_the_environment_is_empty(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARM_HUB_TOKEN", "secret")
    assert (await child_of(bench)).joinpath("environ").read_bytes() == b""


async def test_the_working_directory_has_only_the_childs_own_empty_room(bench: Bench) -> None:
    child = await child_of(bench)
    (room,) = child.joinpath("cwd").readlink().iterdir()
    assert room.name == f"room.{child.name}"
    assert list(room.iterdir()) == []


async def test_no_descriptor_of_the_hub_is_inherited(bench: Bench, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        links = [os.readlink(path) for path in (await child_of(bench)).joinpath("fd").iterdir()]
    sockets = [link for link in links if link.startswith("socket:")]
    others = [link for link in links if not link.startswith(("socket:", "/memfd:", "pipe:"))]
    # libffi, which ctypes calls through, keeps its own file open, from which it maps code.
    others = [link for link in others if not Path(link).name.startswith("libffi")]
    assert len(sockets) == 2
    assert set(others) <= {"/dev/null", "anon_inode:[eventpoll]", "anon_inode:[eventfd]"}


async def test_the_kernel_limits_are_set(bench: Bench) -> None:
    pid = int((await child_of(bench)).name)
    assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (64, 64)
    assert resource.prlimit(pid, resource.RLIMIT_DATA)[0] < 64 * MIB + 256 * MIB
    # The run's limit is 20 s.
    assert resource.prlimit(pid, resource.RLIMIT_CPU)[0] < 25
    assert os.getpriority(os.PRIO_PROCESS, pid) >= 5


async def test_no_file_can_grow_before_a_shard_needs_one(bench: Bench) -> None:
    await bench.sandbox.warm()
    (pid,) = bench.sandbox.stats().pids
    assert resource.prlimit(pid, resource.RLIMIT_FSIZE)[0] == 0
    await bench.run(modules.SUM, "i32-array", bytes(4))
    assert resource.prlimit(pid, resource.RLIMIT_FSIZE)[0] == MIB + 1
    await bench.run(modules.CAT, "wasi", b"x", output_bytes=100_000)
    assert resource.prlimit(pid, resource.RLIMIT_FSIZE)[0] == 100_001


HUB = """
import asyncio, sys
from pathlib import Path
from swarm_hub.components.sandbox.pool import Sandbox

async def main():
    def spawn(work, name):
        return asyncio.get_running_loop().create_task(work, name=name)
    sandbox = Sandbox(cache_dir=Path(sys.argv[1]), slots=2, spawn=spawn)
    await sandbox.start()
    await sandbox.warm()
    print(*sandbox.stats().pids, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def start_and_kill_a_hub(directory: Path) -> list[int]:
    with subprocess.Popen(
        [sys.executable, "-c", HUB, str(directory)], stdout=subprocess.PIPE, cwd=ROOT
    ) as hub:
        assert hub.stdout is not None
        pids = [int(pid) for pid in hub.stdout.readline().split()]
        hub.kill()
    return pids


async def test_a_child_does_not_outlive_a_killed_hub(tmp_path: Path) -> None:
    pids = await asyncio.to_thread(start_and_kill_a_hub, tmp_path)
    assert len(pids) == 2
    await until(lambda: not any(is_alive(pid) for pid in pids))


def test_the_hub_never_imports_wasmtime() -> None:
    program = (
        "import sys, swarm_hub.components.sandbox.pool; "
        "sys.exit(any(name.startswith('wasmtime') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=90)


# As a user who may not raise limits, whoever runs the tests.
BOUNDED = """
import asyncio, ctypes, resource, struct, sys, tempfile
from pathlib import Path
from swarm_hub.components.sandbox.pool import Sandbox
from tests.helpers.sandboxes import Bench, Tasks
from tests.helpers.modules import CAT

libc = ctypes.CDLL(None)
header, sets = struct.pack("=II", 0x20080522, 0), ctypes.create_string_buffer(24)
libc.capget(header, sets)
low = [word & ~(1 << 24) for word in struct.unpack("=3I12x", sets.raw)]
libc.prctl(24, 24, 0, 0, 0)
assert libc.capset(header, struct.pack("=6I", *low, 0, 0, 0)) == 0
resource.setrlimit(resource.RLIMIT_FSIZE, (2**27, 2**27))

async def main():
    sandbox = Sandbox(cache_dir=Path(sys.argv[1]), slots=1, spawn=Tasks().spawn)
    await sandbox.start()
    outcome = await Bench(sandbox).run(CAT, "wasi", b"hello")
    print(outcome.code, outcome.output, outcome.text)
    await sandbox.stop()

asyncio.run(main())
"""


def test_a_command_runs_for_a_user_whose_files_are_bounded(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, tmp_path], cwd=ROOT, capture_output=True, timeout=60
    )
    assert done.stdout.decode() == "ok b'hello' \n", done.stderr.decode()
