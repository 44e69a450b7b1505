"""Mutated modules through the sandbox, with wasmtime's validator as the judge of what is refused.

    python -m tests.fuzz [--minutes N | --modules N] [--seed N] [--keep DIRECTORY]
    (or script/fuzz, which sets up first)

Every module the validator refuses has to be refused as `bad_module` or for a limit; every other one
runs, or is refused for a stated reason; no child may die of anything but a limit, and this process,
which is the hub's here, of nothing. The same seed makes the same modules. Exit code 1 on a finding.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path

from swarm_hub.components.sandbox.pool import Sandbox
from swarm_hub.tasks import TaskSupervisor
from tests.fuzz.campaign import COMPILE_S, Tally, hunt

_MODULES = 20_000
_PROGRESS_EVERY_S = 5.0
_SLOTS = 2


def main() -> int:
    """Run the campaign of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.partition("\n")[0])
    much = parser.add_mutually_exclusive_group()
    much.add_argument("--minutes", type=float, help="how long, instead of how many")
    much.add_argument("--modules", type=int, default=_MODULES, help="how many mutants")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same mutants")
    parser.add_argument(
        "--keep", type=Path, default=Path("fuzz-findings"), help="where findings are put"
    )
    asked = parser.parse_args()
    tally = Tally(asked.seed)
    modules_max = asked.modules if asked.minutes is None else sys.maxsize
    time_s = float("inf") if asked.minutes is None else 60 * asked.minutes
    code = 0
    try:
        asyncio.run(_campaign(tally, modules_max, time_s, asked.keep))
    except KeyboardInterrupt:
        code = 130
    print(f"seed {tally.seed}: {tally}")
    for finding in tally.findings:
        print(f"finding: {finding}")
    return 1 if tally.findings else code


async def _campaign(tally: Tally, modules_max: int, time_s: float, keep: Path) -> None:
    tasks = TaskSupervisor()
    with tempfile.TemporaryDirectory(prefix="swarm-hub-fuzz-") as folder:
        sandbox = Sandbox(
            cache_dir=Path(folder), slots=_SLOTS, spawn=tasks.spawn, compile_time_s=COMPILE_S
        )
        await sandbox.start()
        telling = asyncio.ensure_future(_tell(tally))
        try:
            await hunt(sandbox, tally, modules_max=modules_max, time_s=time_s, keep=keep)
        finally:
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling
            await sandbox.stop()
            await tasks.stop(timeout_s=2)


async def _tell(tally: Tally) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_EVERY_S)
        print(tally, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
