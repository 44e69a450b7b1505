"""Taking a job in: what is refused says what to do and leaves nothing behind."""

import asyncio
import base64
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.cli.swarm import free_port
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call, finished, form, submit

Modules = dict[str, bytes]


def rows(hub: RunningHub) -> dict[str, int]:
    """Count what is stored of jobs."""
    database = sqlite3.connect(f"file:{hub.folder / 'swarm_hub.db'}?mode=ro", uri=True)
    try:
        tables = ("jobs", "blobs", "shards", "events")
        found = {
            table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in tables
        }
    finally:
        database.close()
    files = sum(path.is_file() for path in Path(hub.folder / "blobs").rglob("*"))
    return {**found, "files": files}


def seed(module: bytes, **fields: Any) -> dict[str, Any]:
    """Return the seed's JSON request."""
    return {"wasm_base64": base64.b64encode(module).decode(), **fields}


# name -> (module, dataset, spec), status, code, a part of the message
REFUSALS: list[tuple[str, Callable[[Modules], tuple[Any, Any, Any]], int, str, str]] = [
    ("not wasm", lambda m: (b"\x7fELF" * 9, b"a\n", {}), 422, "bad_module", "does not start with"),
    ("wrong text", lambda m: (b"(module\n  (fun))", b"a\n", {}), 422, "bad_module",
     "error in line 2, column 4: expected valid module field: `(fun))`"),
    ("text that is no UTF-8", lambda m: (b"(module)\n;; \xff", b"a\n", {}), 422, "bad_module",
     "error in line 2: it is not UTF-8"),
    ("a long line", lambda m: (b"(module (data \"" + b"a" * 9000 + b"\") oops" + b" " * 9000 + b")",
     b"a\n", {}), 422, "bad_module", "aaa\") oops"),
    ("text of a component", lambda m: (b"(component)", b"a\n", {}), 422, "bad_module",
     "core module"),
    ("text too large", lambda m: (b"(module)" + b" " * 70_000, b"a\n", {}), 413,
     "module_too_large", "sandbox: module"),
    ("component", lambda m: (b"\0asm\x0d\0\1\0", b"a", {}), 422, "bad_module", "core module"),
    ("cut short", lambda m: (m["primes"][:-9], b"0:5", {}), 422, "bad_module", ""),
    ("no module", lambda m: (None, b"a\n", {}), 400, "no_module", "no module"),
    ("empty module", lambda m: (b"", b"a\n", {}), 400, "no_module", "no module"),
    ("module too large", lambda m: (m["echo"] + bytes(70_000), b"a\n", {}), 413,
     "module_too_large", "sandbox: module"),
    ("no exports", lambda m: (m["nothing"], b"a\n", {}), 422, "no_abi", "swarm-hub inspect"),
    ("missing export", lambda m: (m["primes"], b"0:5", {"entry": "mapp"}), 422,
     "missing_export", "did you mean map?"),
    ("wrong signature", lambda m: (m["echo"], b"a\n", {"entry": "alloc"}), 422,
     "wrong_signature", "does not fit abi bytes"),
    ("entry is memory", lambda m: (m["sum"], b"\0\0\0\0", {"entry": "memory"}), 422,
     "wrong_signature", "does not fit abi i32-array"),
    ("abi that does not fit", lambda m: (m["primes"], b"0:5", {"abi": "wasi"}), 422,
     "missing_export", "no export fits abi wasi; the module exports map:"),
    ("several entries", lambda m: (m["two_maps"], b"0:5", {"abi": "range"}), 422,
     "ambiguous_entry", "other, map"),
    ("unknown abi", lambda m: (m["primes"], b"0:5", {"abi": "rangee"}), 422,
     "unknown_abi", "did you mean range?"),
    ("unknown split", lambda m: (m["echo"], b"a\n", {"split": "words"}), 422,
     "invalid_spec", "split"),
    ("unknown reduce", lambda m: (m["echo"], b"a\n", {"reduce": "avg"}), 422,
     "invalid_spec", "reduce"),
    ("unknown key", lambda m: (m["echo"], b"a\n", {"shardsize": 1}), 422,
     "invalid_spec", "did you mean shard_size?"),
    ("too redundant", lambda m: (m["echo"], b"a\n", {"redundancy": 9}), 422,
     "invalid_spec", "redundancy"),
    ("split of another abi", lambda m: (m["primes"], b"a\n", {"abi": "range", "split": "lines"}),
     422, "wrong_split", "abi range takes split range, not lines"),
    ("split that no abi takes", lambda m: (m["primes"], b"a\n", {"split": "lines"}), 422,
     "no_abi", "which takes no split lines"),
    ("no dataset", lambda m: (m["echo"], None, {}), 422, "no_dataset", "upload a file"),
    ("empty dataset", lambda m: (m["echo"], b"", {}), 422, "empty_dataset", "no items"),
    ("empty range", lambda m: (m["primes"], b"7:7", {}), 422, "empty_dataset", "HI must be above"),
    ("bad range", lambda m: (m["primes"], b"0-7", {}), 422, "invalid_dataset", "LO:HI"),
    ("ragged i32", lambda m: (m["sum"], b"12345", {}), 422, "ragged_dataset", "multiple of the 4"),
    ("dataset too large", lambda m: (m["echo"], bytes(200_000), {}), 413,
     "dataset_too_large", "gateway: dataset"),
    ("too many shards", lambda m: (m["primes"], b"0:3000000", {"shard_size": 1}), 422,
     "too_many_shards", "choose a larger"),
    ("spec is not JSON", lambda m: (m["echo"], b"a\n", "{"), 400, "invalid_json", "spec"),
    ("NaN in the spec", lambda m: (m["echo"], b"a\n", '{"priority": NaN}'), 400,
     "invalid_json", "NaN is not a JSON number"),
    ("deep spec", lambda m: (m["echo"], b"a\n", "[" * 50_000), 400, "invalid_json", "nested"),
    ("spec is a list", lambda m: (m["echo"], b"a\n", "[]"), 422, "invalid_spec", ""),
    ("NaN in the dataset", lambda m: (m["cat"], b"[NaN]", {"split": "json"}), 400,
     "invalid_json", "NaN"),
    ("1e999 in the dataset", lambda m: (m["cat"], b"[1e999]", {"split": "json"}), 400,
     "invalid_json", "out of range"),
    ("deep dataset", lambda m: (m["cat"], b"[" * 50_000, {"split": "json"}), 400,
     "invalid_json", "nested"),
    ("lone surrogate", lambda m: (m["cat"], b'["\\ud800"]', {"split": "json"}), 400,
     "invalid_json", "not valid UTF-8"),
    ("surrogate bytes", lambda m: (m["cat"], b'["\xed\xa0\x80"]', {"split": "json"}), 400,
     "invalid_json", "not valid UTF-8"),
]  # fmt: skip


@pytest.fixture
async def gateway(swarm: Swarm) -> RunningHub:
    port = free_port()
    yaml = f"gateway: {{dataset: 100000}}\napi: {{port: {port}}}\nsandbox: {{module: 64KiB}}\n"
    return await swarm.start("gateway", yaml, port)


async def test_every_bad_submission_is_refused_and_nothing_is_stored(
    gateway: RunningHub, modules: Modules
) -> None:
    before = rows(gateway)
    wrong = []
    for name, make, status, code, said in REFUSALS:
        got, body = await submit(gateway, *make(modules))
        right = got == status and isinstance(body, dict) and body["code"] == code
        if not right or said not in body["message"] or rows(gateway) != before:
            wrong.append(f"{name}: {got} {body}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        ("{", 400, "invalid_json"),
        ("[]", 400, "invalid_json"),
        ('{"wasm_base64": NaN}', 400, "invalid_json"),
        ('{"wasm_base64": 1e999}', 400, "invalid_json"),
        ("[" * 100_000, 400, "invalid_json"),
        ('{"wasm_base64": "%%"}', 422, "no_module"),
        ('{"dataset": [1]}', 422, "no_module"),
        ('{"wasm_base64": "", "dataset": [1]}', 400, "no_module"),
        ('{"wasm_base64": "", "datset": [1]}', 422, "unknown_key"),
        ('{"wasm_base64": "KG1vZHVsZSk=", "dataset": [1]}', 422, "no_abi"),
        ('{"wasm_base64": "AA==", "spec": {"labels": {"a": "\\ud800"}}}', 400, "invalid_json"),
    ],
)
async def test_bad_json_requests_are_refused(
    gateway: RunningHub, content: str, status: int, code: str
) -> None:
    before = rows(gateway)
    headers = {"Content-Type": "application/json"}
    got, body = await call(gateway, "POST", "/jobs", data=content, headers=headers)
    assert (got, body["message"] != "") == (status, True), body
    assert code in ("", body["code"])
    assert rows(gateway) == before


@pytest.mark.parametrize(
    "dataset",
    [[], [1.5], ["1"], [True], [2**31], {"a": 1}, "1,2", None, [None]],
)
async def test_the_seeds_dataset_must_be_32_bit_integers(
    gateway: RunningHub, modules: Modules, dataset: Any
) -> None:
    got, body = await call(gateway, "POST", "/jobs", json=seed(modules["sum"], dataset=dataset))
    assert got == 422, body
    assert rows(gateway)["jobs"] == 0


async def test_a_text_that_utf_8_can_not_hold_is_refused(
    gateway: RunningHub, modules: Modules
) -> None:
    for split in ("json", "lines"):
        # The encoder writes \\ud800, as any client's would.
        request = seed(modules["cat"], dataset=["\ud800"], spec={"split": split})
        got, body = await call(gateway, "POST", "/jobs", json=request)
        assert (got, body["code"]) == (400, "invalid_json"), body


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "image/png"])
async def test_another_media_type_is_415(gateway: RunningHub, content_type: str) -> None:
    got, body = await call(
        gateway, "POST", "/jobs", data=b"x", headers={"Content-Type": content_type}
    )
    assert (got, body["code"]) == (415, "unsupported_media_type")


async def test_broken_multipart_is_400(gateway: RunningHub) -> None:
    before = rows(gateway)
    broken = [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b"no boundary here"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n"),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--\r\n",
        ),
    ]
    for content_type, content in broken:
        headers = {"Content-Type": content_type}
        got, body = await call(gateway, "POST", "/jobs", data=content, headers=headers)
        assert got == 400, f"{content!r}: {got} {body}"
    assert rows(gateway) == before


async def test_an_unknown_part_is_named(gateway: RunningHub, modules: Modules) -> None:
    parts = form(modules["echo"], b"a\n")
    parts.add_field("datset", b"x", filename="x")
    got, body = await call(gateway, "POST", "/jobs", data=parts)
    assert (got, body["code"]) == (400, "bad_multipart")
    assert "'datset'" in body["message"]


async def test_an_accepted_job_is_durable_and_says_where_it_is(
    gateway: RunningHub, modules: Modules
) -> None:
    before = rows(gateway)
    got, body = await submit(gateway, modules["echo"], b"a\nb\n")
    assert (got, body["status"]) == (202, "pending_scheduler")
    assert body["links"]["self"] == f"/api/v1/jobs/{body['job_id']}"
    after = rows(gateway)
    # The module, the dataset, and the names of its files.
    assert (after["jobs"], after["blobs"]) == (before["jobs"] + 1, before["blobs"] + 3)
    assert after["events"] == before["events"] + 1


async def test_the_same_idempotency_key_gives_the_same_job(
    gateway: RunningHub, modules: Modules
) -> None:
    headers = {"Idempotency-Key": "one"}
    answers = [await submit(gateway, modules["echo"], b"a\n", headers=headers) for _ in range(3)]
    assert {status for status, _ in answers} == {202}
    assert len({body["job_id"] for _, body in answers}) == 1
    assert rows(gateway)["jobs"] == 1


async def test_one_idempotency_key_many_times_at_once_makes_one_job(
    gateway: RunningHub, modules: Modules
) -> None:
    headers = {"Idempotency-Key": "one"}
    answers = await asyncio.gather(
        *(submit(gateway, modules["echo"], b"a\n", headers=headers) for _ in range(12))
    )
    assert {status for status, _ in answers} == {202}
    assert len({body["job_id"] for _, body in answers}) == 1
    assert rows(gateway)["jobs"] == 1


async def test_an_idempotency_key_is_known_after_a_restart(swarm: Swarm, modules: Modules) -> None:
    headers = {"Idempotency-Key": "one"}
    before = await swarm.gateway()
    _, first = await submit(before, modules["echo"], b"a\n", headers=headers)
    await swarm.stop(before)
    gateway = await swarm.gateway()
    # As if a module or a key of the spec that was right then were refused by a later version.
    got, other = await submit(gateway, b"no module", b"a\n", headers=headers)
    assert (got, other["code"]) == (409, "idempotency_conflict")
    for _ in range(2):
        got, again = await submit(gateway, modules["echo"], b"a\n", headers=headers)
        assert (got, again["job_id"]) == (202, first["job_id"])
    assert rows(gateway)["jobs"] == 1
    # What comes after it is taken as ever.
    got, _ = await submit(gateway, modules["echo"], b"a\n", headers={"Idempotency-Key": "two"})
    assert (got, rows(gateway)["jobs"]) == (202, 2)


async def test_an_idempotency_key_that_conflicts_fails_no_other_job(
    swarm: Swarm, modules: Modules
) -> None:
    headers = {"Idempotency-Key": "one"}
    before = await swarm.gateway()
    _, first = await submit(before, modules["echo"], b"a\n", headers=headers)
    await swarm.stop(before)
    gateway = await swarm.gateway()
    known, *others = await asyncio.gather(
        submit(gateway, modules["echo"], b"a\n", headers=headers),
        *(submit(gateway, modules["echo"], b"a\n") for _ in range(8)),
    )
    assert known[1]["job_id"] == first["job_id"]
    assert {status for status, _ in others} == {202}
    assert rows(gateway)["jobs"] == 9


@pytest.mark.parametrize("what", ["module", "dataset", "spec"])
async def test_an_idempotency_key_with_another_body_is_a_conflict(
    gateway: RunningHub, modules: Modules, what: str
) -> None:
    headers = {"Idempotency-Key": "one"}
    _, first = await submit(gateway, modules["echo"], b"a\n", {}, headers=headers)
    module = modules["bytesum" if what == "module" else "echo"]
    dataset = b"b\n" if what == "dataset" else b"a\n"
    spec = {"priority": 1} if what == "spec" else {}
    got, body = await submit(gateway, module, dataset, spec, headers=headers)
    assert (got, body["code"]) == (409, "idempotency_conflict")
    assert first["job_id"] in body["message"]


@pytest.mark.parametrize("key", ["", " ", "two words", "x" * 201, "ü"])
async def test_an_idempotency_key_is_visible_ascii(
    gateway: RunningHub, modules: Modules, key: str
) -> None:
    got, body = await submit(gateway, modules["echo"], b"a\n", headers={"Idempotency-Key": key})
    assert (got, body["code"]) == (400, "invalid_header")


async def test_the_seeds_request_works_as_it_is(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    request = seed(modules["sum"], dataset=[1, 2, 3, -10])
    got, body = await call(gateway, "POST", "/jobs", json=request)
    assert (got, set(body)) == (202, {"job_id", "status", "links"})
    status = await finished(gateway, body["job_id"])
    assert (status["status"], status["total_sum"]) == ("completed", -4)
    assert status["missing_shards"] == []
    assert sum(value for _, value in status["breakdown"]) == -4
