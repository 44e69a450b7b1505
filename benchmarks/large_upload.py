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
from collections.abc import Callable
from pathlib import Path

import aiohttp
from figures import Figures, start
from large_result import peak_bytes, reset_peak

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient, UnreachableError

_MIB = 1024 * 1024
_TARGET_MIB = 64
_FILES = 16
_START_S = 60
_LINES = b"".join(b"%09d\n" % number for number in range(1024 * 1024 // 10)) + b"123456\n"
# (module (func (export "_start")))
_MODULE = bytes.fromhex(
    "0061736d01000000 010401600000 03020100 070a01065f73746172740000 0a040102000b"
)


def _size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mib", type=int, default=2048, help="the size of the dataset (2048)")
    parser.add_argument("--ways", default="", help="only those, by commas")


async def main() -> None:
    """Upload a dataset in each way."""
    figures, arguments = start(__doc__ or "", _size)
    mib = 256 if arguments.quick else arguments.mib
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as name:
        await _measure(figures, Path(name), mib, arguments.ways)


async def _measure(figures: Figures, folder: Path, mib: int, only: str) -> None:
    swarm = LocalSwarm(folder)
    for way, (make, split) in _WAYS.items():
        if only and way not in only.split(","):
            continue
        files = make(folder, mib)
        hub = await _gateway(swarm, way)
        try:
            reset_peak(hub.pid)
            idle = peak_bytes(hub.pid)
            if way.startswith("blob"):
                async with SwarmClient(hub.url, hub.token) as client:
                    await client.submit(_MODULE, files[0][1], split=split)
            else:
                await _submit_form(hub, files, split)
            peak = peak_bytes(hub.pid) - idle
        finally:
            hub.kill()
            shutil.rmtree(hub.folder)
            for path in {path for _, path in files}:
                path.unlink()
        figures.add(
            f"upload_{way}_peak_mib", peak / _MIB, "MiB", target=_TARGET_MIB, dataset_mib=mib
        )


def _one(folder: Path, mib: int) -> list[tuple[str, Path]]:
    return [("dataset", _filled(folder / "whole.txt", mib * _MIB))]


def _many(folder: Path, mib: int) -> list[tuple[str, Path]]:
    size_bytes = mib * _MIB // _FILES
    return [("dataset", _filled(folder / f"{n}.txt", size_bytes)) for n in range(_FILES)]


def _archived(folder: Path, mib: int) -> list[tuple[str, Path]]:
    packed = folder / "files.tar"
    with tarfile.open(packed, "w") as archive:
        for _, path in _many(folder, mib):
            archive.add(path, path.name)
            path.unlink()
    return [("files", packed)]


def _repeated(folder: Path, mib: int, size_bytes: int) -> list[tuple[str, Path]]:
    path = _filled(folder / "one.bin", size_bytes)
    return [("dataset", path)] * min(9000, mib * _MIB // size_bytes)


# How the files are made, and the split of the job on them.
_WAYS: dict[str, tuple[Callable[[Path, int], list[tuple[str, Path]]], str]] = {
    "form_lines": (_one, "lines"),
    "form_records": (_one, "records:1024"),
    "blob_lines": (_one, "lines"),
    "form_many_lines": (_many, "lines"),
    "archive_lines": (_archived, "lines"),
    "form_files": (lambda folder, mib: _repeated(folder, mib, 8 * _MIB), "files"),
    "form_small_lines": (lambda folder, mib: _repeated(folder, mib, _MIB // 4), "lines"),
}


async def _gateway(swarm: LocalSwarm, name: str) -> LocalHub:
    sizes = {"dataset": "8GiB", "uploads": "8GiB"}
    hub = swarm.start_gateway(name, gateway=sizes, api={"request": "8GiB"})
    async with SwarmClient(hub.url, hub.token) as client, asyncio.timeout(_START_S):
        while True:
            try:
                await client.jobs()
            except UnreachableError:
                await asyncio.sleep(0.1)
            else:
                return hub


async def _submit_form(hub: LocalHub, files: list[tuple[str, Path]], split: str) -> None:
    made = aiohttp.FormData()
    made.add_field("module", _MODULE, filename="module.wasm")
    for field, path in files:
        made.add_field(field, path.open("rb"), filename=path.name)
    made.add_field("spec", json.dumps({"split": split}), content_type="application/json")
    headers = {"Authorization": f"Bearer {hub.token}"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
        session.post(f"{hub.url}/api/v1/jobs", data=made) as response,
    ):
        assert response.status == 202, await response.text()


def _filled(path: Path, size_bytes: int) -> Path:
    with path.open("wb") as file:
        for at in range(0, size_bytes, _MIB):
            file.write(_LINES[: min(_MIB, size_bytes - at)])
    return path


if __name__ == "__main__":
    asyncio.run(main())
