"""A job that completed with nothing in its result says so."""

import pytest

from swarm_hub.client import SwarmClient
from swarm_hub.components.gateway.results.notes import note
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]

NO_FILES = "0 files were written to /out: a module of abi wasi-files writes there"
NO_OUTPUT = "the result is empty: no shard wrote any output"


@pytest.fixture
async def gateway(swarm: Swarm) -> RunningHub:
    hub = await swarm.gateway()
    await swarm.worker("one")
    return hub


async def noted(gateway: RunningHub, module: bytes, dataset: object, **spec: object) -> object:
    """Return what is said of a job that completes."""
    _, body = await submit(gateway, module, dataset, spec)
    status = await finished(gateway, body["job_id"])
    assert status["state"] == "completed", status
    return status["note"]


async def test_no_file_in_out(gateway: RunningHub, modules: Modules) -> None:
    spec = {"abi": "wasi-files"}
    assert await noted(gateway, modules["talks"], [b"first", b"second"], **spec) == NO_FILES
    assert await noted(gateway, modules["copy_files"], [b"first", b""], **spec) is None


async def test_no_output_of_a_command(gateway: RunningHub, modules: Modules) -> None:
    lines = {"split": "lines", "shard_size": 1}
    assert await noted(gateway, modules["talks"], b"1\n2\n", **lines) == NO_OUTPUT
    assert await noted(gateway, modules["talks"], b"1\n2\n", reduce="list", **lines) == NO_OUTPUT
    assert await noted(gateway, modules["cat"], b"1\n2\n", **lines) is None
    assert await noted(gateway, modules["cat"], b"1\n2\n", reduce="list", **lines) is None


async def test_numbers_are_never_empty(gateway: RunningHub, modules: Modules) -> None:
    assert await noted(gateway, modules["count"], b"0:10") is None


async def test_a_job_that_did_not_complete_has_none(gateway: RunningHub, modules: Modules) -> None:
    async with SwarmClient(gateway.url, gateway.token) as client:
        job_id = await client.submit(modules["spin"], range(100_000))
        assert (await client.status(job_id))["note"] is None
        assert (await client.cancel(job_id))["note"] is None
    _, body = await submit(gateway, modules["trap"], b"0:5")
    assert (await finished(gateway, body["job_id"]))["note"] is None
    _, status = await call(gateway, "GET", f"/jobs/{body['job_id']}")
    assert status["note"] is None


@pytest.mark.parametrize(
    ("reducer", "size_bytes", "value", "expected"),
    [
        ("files", 1024, None, NO_FILES),
        ("files", 2048, None, None),
        ("concat", 0, None, NO_OUTPUT),
        ("concat", 1, None, None),
        ("module", 0, None, NO_OUTPUT),
        ("list", 7, ["", ""], NO_OUTPUT),
        ("list", 9, ["", 0], None),
        ("list", 2, [], None),
        ("list", 2**21, None, None),
        ("json", 2, {}, None),
        ("count", 1, 0, None),
    ],
)
def test_what_is_said(reducer: str, size_bytes: int, value: object, expected: object) -> None:
    assert note(reducer, size_bytes, value) == expected
