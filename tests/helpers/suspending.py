"""A process with a sandbox that has suspended a shard: prints the ids of its children and waits.

`python -m tests.helpers.suspending DIRECTORY`; somebody has to kill it.
"""

import asyncio
import sys
from pathlib import Path

from swarm_hub.components.sandbox.pool import Sandbox
from tests.helpers import modules
from tests.helpers.sandboxes import Bench, Tasks, make_call, until


async def main(folder: Path) -> None:
    """Suspend an endless shard for another one."""
    sandbox = Sandbox(cache_dir=folder / "cache", slots=1, spawn=Tasks().spawn)
    await sandbox.start()
    bench = Bench(sandbox)
    wasm = await bench.wasm(modules.MAYBE_ENDLESS)
    call = make_call(wasm, "range", wall_time_s=600.0)
    tasks = []
    pids = []
    for tag in ("long", "urgent"):
        tasks.append(asyncio.ensure_future(sandbox.run(call, b"1 0", bench.loader(wasm), tag=tag)))
        await until(lambda tag=tag: tag in sandbox.begun(), timeout_s=60)
        pids += [child.pid for child in sandbox._children if child.running == tag]
        sandbox.preempt("long")
    stopped = Path(f"/proc/{pids[0]}/stat")
    await until(lambda: stopped.read_text().rsplit(")", 1)[1].split()[0] == "T", timeout_s=60)
    print(*pids, flush=True)
    await asyncio.wait(tasks)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
