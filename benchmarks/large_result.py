"""What a large result costs its gateway in memory, while it is folded and while it is fetched.

Real processes over libp2p. The peak of the gateway's resident memory (VmHWM of proc(5)), mapped
files included, above what it took when it was idle.
"""

import argparse
import asyncio
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
from figures import Figures, start

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import running_swarm

_MIB = 1024 * 1024
_TARGET_MIB = 64


def _fills(shard_mib: int) -> str:
    """A module that gives so many MiB for each shard, beginning with the shard itself.

    Its own `reduce` gives as many for two results, beginning with the second.
    """
    return f"""(module (memory (export "memory") {shard_mib * 16 + 1})
  (func (export "alloc") (param i32) (result i32) (i32.const 0))
  (func (export "map") (param $at i32) (param $n i32) (result i64)
    (i64.const {shard_mib * _MIB}))
  (func (export "reduce") (param i32 i32 i32 i32) (result i64) (i64.const {shard_mib * _MIB})))"""


def _size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mib", type=int, default=1024, help="the size of the result (1024)")
    parser.add_argument("--shard-mib", type=int, default=1, help="the size of each part (1)")


async def main() -> None:
    """Fold a result and fetch it."""
    figures, arguments = start(__doc__ or "", _size)
    mib = 256 if arguments.quick else arguments.mib
    module = await with_sandbox(lambda sandbox: sandbox.assemble(_fills(arguments.shard_mib)))
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        await _measure(figures, Path(folder), module, mib, arguments.shard_mib)


async def _measure(figures: Figures, folder: Path, module: bytes, mib: int, shard_mib: int) -> None:
    n_shards = mib // shard_mib
    items = b"".join(b"%06d\n" % number for number in range(n_shards))
    async with running_swarm(folder, ["worker"]) as (swarm, client):
        gateway = swarm.hubs[0]
        reset_peak(gateway.pid)
        idle = peak_bytes(gateway.pid)
        spec: dict[str, Any] = {"split": "lines", "shard_size": 1}
        job = await client.submit(module, items, reduce="concat", **spec)
        status = await client.wait(job)
        assert status["result_bytes"] == mib * _MIB, status
        folded = peak_bytes(gateway.pid) - idle
        reset_peak(gateway.pid)
        fetched = hashlib.sha256()
        headers = {"Authorization": f"Bearer {gateway.token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(f"{gateway.url}/api/v1/jobs/{job}/result") as response,
        ):
            async for chunk in response.content.iter_chunked(_MIB):
                fetched.update(chunk)
        assert fetched.hexdigest() == status["result_sha"], "the result has other bytes"
        sent = peak_bytes(gateway.pid) - idle
        reset_peak(gateway.pid)
        by_module = await client.wait(await client.submit(module, items, reduce="module", **spec))
        assert by_module["result_bytes"] == shard_mib * _MIB, by_module
        by_module_peak = peak_bytes(gateway.pid) - idle
    for name, peak in (("fold", folded), ("fetch", sent), ("module_fold", by_module_peak)):
        figures.add(
            f"large_{name}_peak_mib", peak / _MIB, "MiB", target=_TARGET_MIB, result_mib=mib
        )


def reset_peak(pid: int) -> None:
    """Have the peak of a process's memory begin at what it takes now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """Return the peak of a process's resident memory since the last reset."""
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


if __name__ == "__main__":
    asyncio.run(main())
