"""Uploads of many files and of large JSON: the same datasets, at less cost to the loop."""

import asyncio
import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from swarm_hub.client import SwarmClient, submission
from swarm_hub.components.gateway.submission import intake, json_process
from swarm_hub.components.gateway.submission.uploaded_archive import unpack
from swarm_hub.components.gateway.views import submissions
from swarm_hub.exceptions import RequestError
from swarm_hub.storage.blobs.store import SPOOL_DIR
from tests.conftest import Swarm
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]


def tar(**members: Any) -> bytes:
    """Return an archive of files, or of whatever a TarInfo stands for."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, body in members.items():
            if isinstance(body, tarfile.TarInfo):
                archive.addfile(body)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return packed.getvalue()


def test_an_archive_is_its_plain_files_in_order() -> None:
    folder = tarfile.TarInfo("folder")
    folder.type = tarfile.DIRTYPE
    parts = unpack(tar(b=b"1", folder=folder, **{"folder/a": b"", "ä" * 90: b"3"}))
    assert [(part.name, part.body[:]) for part in parts] == [
        ("b", b"1"),
        ("a", b""),
        ("ä" * 90, b"3"),
    ]


def special(kind: bytes, **fields: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo("x")
    member.type = kind
    for name, value in fields.items():
        setattr(member, name, value)
    return member


@pytest.mark.parametrize(
    "body",
    [
        tar(x=special(tarfile.SYMTYPE, linkname="/etc/passwd")),
        tar(x=special(tarfile.LNKTYPE, linkname="y")),
        tar(x=special(tarfile.CHRTYPE)),
        tar(x=special(tarfile.FIFOTYPE)),
        b"no archive at all, but longer than a header has to be" * 20,
        tar(x=b"y" * 5000)[:2000],
    ],
)
def test_what_is_no_archive_of_plain_files_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        unpack(body)
    assert caught.value.code == "bad_archive"


async def test_the_client_sends_many_files_as_one_archive(
    swarm: Swarm, modules: Modules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    paths = []
    for number in range(150):
        path = tmp_path / f"{number} ä.txt"
        path.write_bytes(b"%d\n" % number)
        paths.append(path)
    sent = []
    add_field = aiohttp.FormData.add_field

    def noted(self: aiohttp.FormData, name: str, *args: Any, **options: Any) -> None:
        sent.append(name)
        add_field(self, name, *args, **options)

    monkeypatch.setattr(aiohttp.FormData, "add_field", noted)
    # As if they were large.
    monkeypatch.setattr(submission, "_SMALL_BYTES", 0)
    async with SwarmClient(gateway.url, gateway.token) as client:
        result = await client.map(modules["echo"], paths, split="files", reduce="concat")
    assert result == b"".join(b"%d\n" % number for number in range(150))
    assert sent.count("files") == 1
    assert "dataset" not in sent


async def test_a_large_json_dataset_is_parsed_beside_the_hub(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    converted = []
    convert = json_process.convert

    async def noted(*args: Any) -> Any:
        part = await convert(*args)
        converted.append(len(part.body))
        return part

    monkeypatch.setattr(json_process, "convert", noted)
    monkeypatch.setattr(intake, "_PARSED_HERE_BYTES", 1000)
    values = [{"n": number, "text": "x" * 50} for number in range(1000)]
    dataset = json.dumps(values).encode()
    code, body = await submit(gateway, modules["echo"], dataset, {"split": "json"})
    assert code == 202, body
    status = await finished(gateway, body["job_id"])
    assert status["progress"]["items_done"] == 1000
    numbers = json.dumps([7] * 15_000).encode()
    code, body = await submit(gateway, modules["sum"], numbers, {"split": "i32"})
    assert code == 202, body
    status = await finished(gateway, body["job_id"])
    assert status["total_sum"] == 7 * 15_000
    assert converted == [
        sum(len(json.dumps(value, separators=(",", ":"))) + 1 for value in values), 60_000
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("dataset", "code"),
    [
        (b"[" + b"1," * 3000, "invalid_json"),
        (b"[" + b"[1]," * 2000 + b"nope]", "invalid_json"),
        (b" " * 5000 + b"{}", "invalid_dataset"),
    ],
)
async def test_a_large_json_dataset_that_is_none_is_refused(
    swarm: Swarm,
    modules: Modules,
    dataset: bytes,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake, "_PARSED_HERE_BYTES", 1000)
    gateway = await swarm.gateway()
    status, body = await submit(gateway, modules["echo"], dataset, {"split": "json"})
    assert 400 <= status < 500
    assert body["code"] == code
    assert not list((gateway.folder / "blobs" / SPOOL_DIR).iterdir())


async def test_the_hub_answers_while_a_large_json_dataset_is_parsed(
    swarm: Swarm, modules: Modules
) -> None:
    """The longest wait of the loop is compared with how long the parsing takes as a whole."""
    gateway = await swarm.gateway()
    dataset = b"[" + b"[1,2,3],{}," * 400_000 + b"1]"
    longest = 0.0

    async def look() -> None:
        nonlocal longest
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - started)

    async with asyncio.TaskGroup() as group:
        looking = group.create_task(look())
        started = time.perf_counter()
        code, _ = await submit(gateway, modules["echo"], dataset, {"split": "json"})
        took = time.perf_counter() - started
        looking.cancel()
    assert code == 202
    assert longest < took / 3


@pytest.mark.parametrize("split", ["files", "lines"])
async def test_many_small_files_do_not_stay_in_memory(
    swarm: Swarm, modules: Modules, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submissions, "_HELD_BYTES", 5000)
    monkeypatch.setattr(intake, "_JOINED_HERE_BYTES", 5000)
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    files = [b"%d\n" % number * 400 for number in range(30)]
    spec = {"split": split, "reduce": "concat"}
    code, body = await submit(gateway, modules["echo"], files, spec)
    assert code == 202, body
    await finished(gateway, body["job_id"])
    assert (await call(gateway, "GET", f"/jobs/{body['job_id']}/result"))[1] == b"".join(files)
    assert not list((gateway.folder / "blobs" / SPOOL_DIR).iterdir())


async def test_more_parts_than_fit_are_refused_with_the_way_out(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    head = b'--b\r\nContent-Disposition: form-data; name="dataset"; filename="f"\r\n\r\nx\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    code, body = await call(
        gateway, "POST", "/jobs", data=head * 10_001 + b"--b--\r\n", headers=headers
    )
    assert (code, body["code"]) == (413, "too_many_files")
    assert "tar archive" in body["message"]
