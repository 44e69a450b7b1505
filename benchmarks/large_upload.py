"""What a large dataset costs its gateway in memory, in each way it can be uploaded.

A real gateway process, and no worker: the job stays queued. The peak of the gateway's resident
memory (VmHWM of proc(5)), mapped files included, above what it took when it was idle.
"""

import argparse
import asyncio
import json
import shutil
import tarfile
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from figures import Figures, start
from large_result import peak_bytes, reset_peak

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient, UnreachableError

_MIB = 1024 * 1024
_TARGET_MIB = 64
_FILES = 16
_START_S = 60
_LINES = b"".join(b"%09d\n" % number for number in range(1024 * 1024 // 10)) + b"123456\n"
_MODULE = """(module (memory (export "memory") 1)
  (func (export "alloc") (param i32) (result i32) (i32.const 0))
  (func (export "map") (param i32 i32) (result i64) (i64.const 0)))"""


def _size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mib", type=int, default=2048, help="the size of the dataset (2048)")
    parser.add_argument("--ways", default="", help="only those, by commas")


async def main() -> None:
    """Upload a dataset in each way."""
    figures, arguments = start(__doc__ or "", _size)
    mib = 256 if arguments.quick else arguments.mib
    module = await with_sandbox(lambda sandbox: sandbox.assemble(_MODULE))
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as name:
        await _measure(figures, Path(name), module, mib, arguments.ways)


async def _measure(figures: Figures, folder: Path, module: bytes, mib: int, only: str) -> None:
    whole = folder / "whole.txt"
    parts = [folder / f"{number}.txt" for number in range(_FILES)]
    packed = folder / "files.tar"
    _fill(whole, mib)
    for part in parts:
        _fill(part, mib // _FILES)
    small = [folder / f"small-{number}.bin" for number in range(_FILES)]
    for path in small:
        _fill(path, 8)
    with tarfile.open(packed, "w") as archive:
        for part in parts:
            archive.add(part, part.name)

    def form(files: list[tuple[str, Path]], **spec: str) -> Callable[[LocalHub], Awaitable[None]]:
        return lambda hub: _submit_form(hub, module, files, spec)

    async def first(hub: LocalHub) -> None:
        async with SwarmClient(hub.url, hub.token) as client:
            await client.submit(module, whole, split="lines")

    one = [("dataset", whole)]
    ways: dict[str, Callable[[LocalHub], Awaitable[None]]] = {
        "form_lines": form(one, split="lines"),
        "form_records": form(one, split=f"records:{1024}"),
        "blob_lines": first,
        "form_many_lines": form([("dataset", part) for part in parts], split="lines"),
        "archive_lines": form([("files", packed)], split="lines"),
        "form_files": form(
            [("dataset", path) for path in small] * max(1, mib // 128), split="files"
        ),
    }
    little = folder / "little.txt"
    little.write_bytes(_LINES[: _MIB // 4])
    ways["form_small_lines"] = form([("dataset", little)] * min(9000, mib * 4), split="lines")
    swarm = LocalSwarm(folder)
    for way, upload in ways.items():
        if only and way not in only.split(","):
            continue
        hub = await _gateway(swarm, way)
        try:
            reset_peak(hub.pid)
            idle = peak_bytes(hub.pid)
            await upload(hub)
            peak = peak_bytes(hub.pid) - idle
        finally:
            hub.kill()
            shutil.rmtree(hub.folder)
        figures.add(
            f"upload_{way}_peak_mib", peak / _MIB, "MiB", target=_TARGET_MIB, dataset_mib=mib
        )


async def _gateway(swarm: LocalSwarm, name: str) -> LocalHub:
    hub = swarm.start_gateway(name, gateway={"dataset": "8GiB", "uploads": "8GiB"})
    hub.kill()
    config = hub.folder / "configuration.yaml"
    config.write_text(config.read_text().replace("host: ", "request: 8GiB, host: ", 1))
    hub.start()
    async with SwarmClient(hub.url, hub.token) as client, asyncio.timeout(_START_S):
        while True:
            try:
                await client.jobs()
            except UnreachableError:
                await asyncio.sleep(0.1)
            else:
                return hub


async def _submit_form(
    hub: LocalHub, module: bytes, files: list[tuple[str, Path]], spec: dict[str, Any]
) -> None:
    made = aiohttp.FormData()
    made.add_field("module", module, filename="module.wasm")
    for field, path in files:
        made.add_field(field, path.open("rb"), filename=path.name)
    made.add_field("spec", json.dumps(spec), content_type="application/json")
    headers = {"Authorization": f"Bearer {hub.token}"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
        session.post(f"{hub.url}/api/v1/jobs", data=made) as response,
    ):
        assert response.status == 202, await response.text()


def _fill(path: Path, mib: int) -> None:
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(_LINES[:_MIB])


if __name__ == "__main__":
    asyncio.run(main())
