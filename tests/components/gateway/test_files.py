"""Jobs of abi `wasi-files`: files in, one tar archive of results out."""

import io
import tarfile
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from swarm_hub.client import SwarmClient
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]


def extracted(body: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:") as tar:
        return {
            member.name: file.read()
            for member in tar
            if (file := tar.extractfile(member)) is not None
        }


@pytest.mark.parametrize("workers", [1, 3])
async def test_files_come_back_under_their_names_in_one_archive(
    swarm: Swarm, modules: Modules, tmp_path: Path, workers: int
) -> None:
    gateway = await swarm.gateway()
    for number in range(workers):
        await swarm.worker(f"worker-{number}")
    files = {f'"ü" {number} 100%25.png': bytes([number]) * 700 * number for number in range(40)}
    paths = []
    for name, body in files.items():
        (tmp_path / name).write_bytes(body)
        paths.append(tmp_path / name)
    async with SwarmClient(gateway.url, gateway.token) as client:
        result = await client.map(modules["copy_files"], paths, abi="wasi-files", shard_size=7)
        assert extracted(result) == files


async def test_a_large_archive_is_a_blob_and_has_its_media_type(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    bodies = [bytes([number]) * 60_000 for number in range(20)]
    _, body = await submit(gateway, modules["copy_files"], bodies, {"abi": "wasi-files"})
    status = await finished(gateway, body["job_id"])
    assert (status["state"], status["reduce"]) == ("completed", "files"), status
    async with SwarmClient(gateway.url, gateway.token) as client:
        found = extracted(await client.result(body["job_id"]))
    assert list(found.values()) == [bodies[int(name.partition(".")[0])] for name in found]
    assert len(found) == 20


async def refused(gateway: RunningHub, *args: Any) -> Any:
    status, body = await submit(gateway, *args)
    assert status == 422
    _, listed = await call(gateway, "GET", "/jobs")
    assert listed["jobs"] == []
    return body


async def test_what_does_not_fit_is_refused_and_says_what_to_do(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    copy = modules["copy_files"]
    body = await refused(gateway, copy, b"x", {"abi": "wasi-files", "split": "lines"})
    assert body["code"] == "wrong_split"
    assert "takes split files, not lines" in body["message"]
    body = await refused(gateway, copy, b"x", {"abi": "wasi-files", "deterministic": True})
    assert body["code"] == "not_deterministic"


@pytest.mark.parametrize("name", ["", "..", "a/b", "n" * 101, "two"])
async def test_a_file_name_that_can_not_be_one_is_refused(
    swarm: Swarm, modules: Modules, name: str
) -> None:
    gateway = await swarm.gateway()
    form = aiohttp.FormData(quote_fields=False)
    form.add_field("module", modules["copy_files"], filename="module.wasm")
    for each in ("two", name):
        form.add_field("dataset", b"1", filename=each)
    form.add_field("spec", '{"abi": "wasi-files"}', content_type="application/json")
    status, body = await call(gateway, "POST", "/jobs", data=form)
    assert (status, body["code"]) == (422, "bad_file_name")


async def test_two_shards_that_write_one_name_fail_the_job_by_it(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    spec = {"abi": "wasi-files", "shard_size": 1}
    _, body = await submit(gateway, modules["writes_summary"], [b"1", b"2"], spec)
    status = await finished(gateway, body["job_id"])
    assert status["state"] == "failed"
    assert "shards 0 and 1 both wrote summary" in status["failures"][0]


@pytest.mark.parametrize(
    ("module", "spec", "said"),
    [
        ("cat", {"reduce": "files"}, "this job has abi wasi; choose another"),
        ("copy_files", {"abi": "wasi-files", "reduce": "sum"}, "abi wasi-files gives archives"),
        ("copy_files", {"abi": "wasi-files", "reduce": "json"}, "leave reduce out"),
        ("copy_files", {"abi": "wasi-files", "reduce": "module"}, "needs abi bytes"),
    ],
)
async def test_a_reduce_that_does_not_fit_what_shards_give_is_refused(
    swarm: Swarm, modules: Modules, module: str, spec: dict[str, Any], said: str
) -> None:
    gateway = await swarm.gateway()
    status, body = await submit(gateway, modules[module], [b"1", b"2"], spec)
    assert (status, body["code"]) == (422, "no_reduce")
    assert said in body["message"]
