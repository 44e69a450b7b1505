"""The client sends large files before the job, once, and goes on where a connection broke."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.client import ApiError, ClientError, SwarmClient, datasets, submission, uploads
from swarm_hub.util.hashing import sha256_hex
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call

Modules = dict[str, bytes]
LINES = b"".join(b"line %d\n" % number for number in range(40_000))


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (submission, datasets):
        monkeypatch.setattr(each, "LARGE_BYTES", 100_000)
    monkeypatch.setattr(uploads, "_PIECE_BYTES", 150_000)


class Noting(SwarmClient):
    """A client that notes what it asked for."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: list[str] = []
        request = self._hub.request

        def noted(method: str, path: str, **options: Any) -> Any:
            self.asked.append(f"{method} {path.split('/')[1]}")
            return request(method, path, **options)

        self._hub.request = noted  # type: ignore[method-assign]


async def test_a_large_file_is_sent_in_pieces_and_never_again(
    swarm: Swarm, modules: Modules, tmp_path: Path
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    path = tmp_path / "lines.txt"
    path.write_bytes(LINES)
    small = tmp_path / "small.txt"
    small.write_bytes(b"first\n")
    async with Noting(gateway.url, gateway.token) as client:
        assert await client.map(modules["echo"], path) == LINES
        assert client.asked.count("PUT blobs") == -(-len(LINES) // 150_000)
        client.asked.clear()
        assert await client.map(modules["echo"], [small, path]) == b"first\n" + LINES
        assert await client.map(modules["echo"], LINES) == LINES
        assert "PUT blobs" not in client.asked
        # Names of files go along.
        job_id = await client.submit(modules["cat_but_x"], [small, path], on_error="skip")
        assert (await client.wait(job_id))["failed_items"] == 0


@asynccontextmanager
async def breaking(hub: RunningHub, after_bytes: int) -> AsyncIterator[tuple[str, list[int]]]:
    """Give the address of a proxy that breaks three connections after so many bytes, and these."""
    port = int(hub.url.rpartition(":")[2])
    broken: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_connection("127.0.0.1", port)
        back = asyncio.create_task(copy(there, writer))
        n_bytes = 0
        try:
            while chunk := await reader.read(10_000):
                out.write(chunk)
                await out.drain()
                n_bytes += len(chunk)
                if len(broken) < 3 and n_bytes > after_bytes:
                    broken.append(n_bytes)
                    break
        finally:
            out.close()
            writer.close()
            await asyncio.wait([back])

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(10_000):
                writer.write(chunk)
        except ConnectionError:
            return

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", broken
    finally:
        server.close()
        await server.wait_closed()


async def test_it_goes_on_where_a_connection_broke(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_RETRY_S", 0.01)
    monkeypatch.setattr(uploads, "_PIECE_BYTES", 10**6)
    gateway = await swarm.gateway()
    async with (
        breaking(gateway, 100_000) as (url, broken),
        SwarmClient(url, gateway.token) as client,
    ):
        job_id = await client.submit(modules["echo"], LINES)
        assert len(broken) == 3
    code, _ = await call(gateway, "GET", f"/blobs/{sha256_hex(LINES)}")
    assert code == 200
    assert (await call(gateway, "GET", f"/jobs/{job_id}"))[1]["dataset_sha"] == sha256_hex(LINES)


@pytest.mark.parametrize("code", ["not_found", "method_not_allowed", "blob_too_large"])
async def test_a_hub_that_takes_no_blobs_gets_a_form(
    swarm: Swarm, modules: Modules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    async def refuse(*_: Any) -> None:
        raise ApiError(404, code, "there is nothing at /api/v1/blobs")

    monkeypatch.setattr(uploads, "ensure", refuse)
    monkeypatch.setattr(submission, "_SMALL_BYTES", 0)
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    path = tmp_path / "lines.txt"
    path.write_bytes(LINES)
    async with SwarmClient(gateway.url, gateway.token) as client:
        assert await client.map(modules["echo"], path) == LINES


async def test_a_blob_that_went_meanwhile_is_sent_with_the_job(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pretend(*_: Any) -> None:
        return None

    monkeypatch.setattr(uploads, "ensure", pretend)
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    async with SwarmClient(gateway.url, gateway.token) as client:
        assert await client.map(modules["echo"], LINES) == LINES


async def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    async with SwarmClient("http://127.0.0.1:9", "x") as client:
        with pytest.raises(ClientError, match=r"nowhere\.txt: can't be read"):
            await client.submit(b"", tmp_path / "nowhere.txt")
