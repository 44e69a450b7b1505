"""How answers are sent: encoded, in part, not at all if nothing changed, and when to ask again."""

import json
import time
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from backports import zstd

from swarm_hub.cli.swarm import free_port
from swarm_hub.components.api import encoding
from swarm_hub.const import STORAGE_DIR, TOKENS_FILE, __version__
from swarm_hub.helpers.tokens import TokenFile
from swarm_hub.storage.queries import jobs
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]
RESULT = b"ab\ncd\n"


async def ask(
    hub: RunningHub, path: str, *, method: str = "GET", token: str = "", **headers: str
) -> tuple[int, Any, bytes]:
    """Return (status, headers, the bytes as they came) of one request."""
    told = {"Authorization": f"Bearer {token or hub.token}", "Accept-Encoding": "", **headers}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(method, f"{hub.url}/api/v1{path}", headers=told) as response,
    ):
        return response.status, response.headers, await response.read()


async def ended(swarm: Swarm, modules: Modules) -> tuple[RunningHub, str]:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    spec = {"split": "lines", "reduce": "concat", "shard_size": 1}
    _, body = await submit(gateway, modules["cat"], RESULT, spec)
    await finished(gateway, body["job_id"])
    return gateway, f"/jobs/{body['job_id']}"


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", None), ("gzip", "gzip"), ("zstd", "zstd"), ("gzip, zstd", "zstd"), ("*", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"), ("br, deflate", None), ("GZIP", "gzip"),
        ("zstd;q=0, *;q=0.1", "gzip"), ("gzip;q=0", None), ("gzip;q=2", None), (";;,,", None),
    ],
)  # fmt: skip
def test_a_client_gets_the_encoding_it_wants_most(accepted: str, chosen: str | None) -> None:
    assert encoding.chosen(accepted) == chosen


async def test_a_long_answer_is_encoded_and_a_short_one_is_not(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway()
    for number in range(20):
        spec = {"labels": {"number": f"{number} {'x' * 200}"}}
        await submit(gateway, modules["primes"], b"0:10", spec)
    for here in (encoding._HERE_MAX_BYTES, 0):
        monkeypatch.setattr(encoding, "_HERE_MAX_BYTES", here)
        _, told, plain = await ask(gateway, "/jobs")
        assert ("Content-Encoding" in told, told["Vary"]) == (False, "Accept-Encoding")
        for name, unpack in (
            ("gzip", lambda body: zlib.decompress(body, 31)), ("zstd", zstd.decompress),
        ):  # fmt: skip
            _, told, body = await ask(gateway, "/jobs", **{"Accept-Encoding": name})
            assert (told["Content-Encoding"], told["Vary"]) == (name, "Accept-Encoding")
            assert int(told["Content-Length"]) == len(body) < len(plain) / 3
            assert unpack(body) == plain
    _, told, _ = await ask(gateway, "/health", **{"Accept-Encoding": "gzip, zstd"})
    assert "Content-Encoding" not in told
    assert "Vary" not in told


async def test_what_has_ended_is_not_sent_twice(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, job = await ended(swarm, modules)
    tokens = TokenFile(gateway.folder / STORAGE_DIR / TOKENS_FILE)
    _, other = tokens.create("other", "read", time.time())
    tags = {}
    for part in ("", "/shards", "/story", "/result"):
        code, told, _ = await ask(gateway, job + part)
        tags[part] = told["ETag"]
        assert (code, tags[part].startswith("W/")) == (200, part != "/result")
    for part in ("/failures", "/receipts"):
        # These name nodes as they are called now.
        assert "ETag" not in (await ask(gateway, job + part))[1]
    # Another token may see more or less.
    assert (await ask(gateway, job, token=other))[1]["ETag"] != tags[""]
    monkeypatch.setattr(jobs, "get", None)
    monkeypatch.setattr(gateway.hub.store.blobs, "reading", None)
    for part, tag in tags.items():
        code, told, body = await ask(gateway, job + part, **{"If-None-Match": f'"x", {tag}'})
        assert (code, told["ETag"], body) == (304, tag, b"")
    monkeypatch.undo()
    code, _, _ = await ask(gateway, job, **{"If-None-Match": '"x"'})
    assert code == 200


async def test_a_job_that_runs_has_no_version(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    _, body = await submit(gateway, modules["primes"], b"0:10")
    for part in ("", "/shards", "/story"):
        code, told, _ = await ask(
            gateway, f"/jobs/{body['job_id']}{part}", **{"If-None-Match": "*"}
        )
        assert (code, "ETag" in told) == (202 if part == "" else 200, False)


# What is asked for, and the status, the bytes and their place that come.
RANGES: list[tuple[str, int, bytes, str | None]] = [
    ("bytes=0-1", 206, b"ab", "bytes 0-1/6"),
    ("bytes=3-", 206, b"cd\n", "bytes 3-5/6"),
    ("Bytes=-2", 206, b"d\n", "bytes 4-5/6"),
    ("bytes=-99", 206, RESULT, "bytes 0-5/6"),
    ("bytes=4-999999999999999999", 206, b"d\n", "bytes 4-5/6"),
    ("bytes=6-", 416, b"", "bytes */6"),
    ("bytes=-0", 416, b"", "bytes */6"),
    # What is not understood, and several ranges at once, are ignored.
    ("bytes=3-1", 200, RESULT, None),
    ("bytes=0-0,2-3", 200, RESULT, None),
    ("bytes=-", 200, RESULT, None),
    ("lines=0-1", 200, RESULT, None),
    ("bytes=0-99999999999999999999", 200, RESULT, None),
]


async def test_a_part_of_a_result_is_sent(swarm: Swarm, modules: Modules) -> None:
    gateway, job = await ended(swarm, modules)
    result = f"{job}/result"
    for asked, code, expected, place in RANGES:
        answer = await ask(gateway, result, Range=asked, **{"Accept-Encoding": "gzip"})
        assert (answer[0], answer[1].get("Content-Range")) == (code, place), asked
        if code == 416:
            assert json.loads(answer[2])["code"] == "invalid_range"
        else:
            assert (answer[2], answer[1]["Accept-Ranges"]) == (expected, "bytes"), asked
    # A range means nothing in a HEAD, and counts with If-Range only if the bytes are the same.
    code, told, body = await ask(gateway, result, method="HEAD", Range="bytes=0-1")
    assert (code, told["Content-Length"], body) == (200, "6", b"")
    for condition, code in (
        (told["ETag"], 206), ('"other"', 200), ("Mon, 01 Jan 2024 00:00:00 GMT", 200),
    ):  # fmt: skip
        answer = await ask(gateway, result, Range="bytes=0-1", **{"If-Range": condition})
        assert answer[0] == code


async def test_who_is_refused_for_now_is_told_until_when(
    swarm: Swarm, modules: Modules, tmp_path: Path
) -> None:
    port = free_port()
    yaml = (
        f"gateway: {{jobs: 1}}\napi: {{port: {port}, requests_per_owner: 2, login_attempts: 1,"
        " ip_ban: 90s, trusted_proxies: [127.0.0.1]}\n"
    )
    gateway = await swarm.start("gateway", yaml, port)
    tokens = TokenFile(gateway.folder / STORAGE_DIR / TOKENS_FILE)
    _, ada = tokens.create("ada", "submit", time.time())
    answers = [await ask(gateway, "/jobs", token=ada) for _ in range(4)]
    assert {told["Retry-After"] for code, told, _ in answers if code == 429} <= {"29", "30"}
    assert answers[-1][0] == 429
    stranger = {"X-Forwarded-For": "192.0.2.7"}
    assert (await ask(gateway, "/jobs", token="wrong", **stranger))[0] == 401
    code, told, _ = await ask(gateway, "/jobs", **stranger)
    assert code == 403
    assert 0 < int(told["Retry-After"]) <= 90
    _, told, _ = await ask(gateway, "/jobs", token=tokens.create("bob", "read", time.time())[1])
    assert "Retry-After" not in told


async def test_a_hub_tells_what_it_is_made_of(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    code, system = await call(gateway, "GET", "/system")
    assert (code, system["version"], system["roles"]) == (200, __version__, ["gateway"])
    assert {"python", "sqlite", "wasmtime", "libp2p"} <= system["versions"].keys()
    assert all(system["versions"].values())
    assert {"api", "gateway", "mesh"} <= set(system["components"])
    assert (system["store"], system["limits"]["request"]) == ("sqlite", 384 * 1024**2)
    assert (system["limits"]["dataset"], system["limits"]["jobs_per_owner"]) == (
        256 * 1024**2,
        None,
    )
    assert (await call(gateway, "GET", "/system", token=None))[0] == 401
