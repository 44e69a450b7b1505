"""Values out of every range: refused at the edge with words, and the gateway goes on."""

import asyncio
import contextlib
import gzip
import json
import sqlite3
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.gateway.submission import spec as spec_module
from swarm_hub.components.gateway.submission.spec import check_spec
from swarm_hub.exceptions import RequestError
from swarm_hub.models.job import JobSpec
from swarm_hub.models.messages import read_assign, read_result
from swarm_hub.models.node import Telemetry, WorkerOffer
from tests.conftest import RunningHub, Swarm
from tests.helpers.hostile_specs import SPECS
from tests.helpers.hostile_values import HOSTILE, HUGE, VALUES
from tests.helpers.rest import call, finished, form, live, submit

Modules = dict[str, bytes]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: json.dumps(spec)[:40])
def test_a_value_beyond_its_range_is_refused_with_its_path(spec: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        check_spec(spec)
    error = caught.value
    assert error.code == "invalid_spec"
    assert error.errors[0]["path"].split(".")[0] in spec
    assert len(error.message) < 1000
    assert "\0" not in error.message


async def test_no_request_poisons_a_gateway(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    for spec in SPECS:
        code, body = await submit(gateway, modules["primes"], b"0:5", spec)
        assert (code, body["code"]) == (422, "invalid_spec"), spec
    ranges = {
        f"{-(2**63)}:{2**63 - 1}": "too_many_items",
        f"0:{2**53 + 1}": "too_many_items",
        f"0:{2**63}": "invalid_dataset",
        "1" * 5000 + ":2": "invalid_dataset",
    }
    for dataset, expected in ranges.items():
        code, body = await submit(gateway, modules["primes"], dataset.encode())
        assert (code, body["code"]) == (422, expected), dataset[:40]
    code, body = await submit(gateway, modules["primes"], b"0:100", {"reduce": "sum"})
    assert code == 202
    assert (await finished(gateway, body["job_id"]))["state"] == "completed"


async def test_texts_that_no_database_takes_are_refused(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    for path in ("/jobs/a%00b", "/jobs/a%ED%A0%80", f"/jobs/{'x' * 3000}", "/jobs/x%00/result"):
        code, body = await call(gateway, "GET", path)
        assert code == 404, (path, body)
    code, body = await call(gateway, "GET", "/jobs?cursor=a%00b")
    assert (code, body["code"]) == (400, "invalid_query")
    code, body = await call(gateway, "GET", "/jobs?limit=1%00")
    assert (code, body["code"]) == (400, "invalid_query")
    for content in (
        {"reason": "a\0b"},
        {"for_s": HUGE},
        {"for_s": -1},
        {"reason": ["x"]},
        {"for_s": True},
    ):
        code, body = await call(gateway, "POST", "/nodes/x/ban", json=content)
        assert (code, body["code"]) == (422, "invalid_request"), content
    for content in ({"expires_s": HUGE}, {"owner": "a\0"}, {"owner": HUGE}, {"addresses": ["\0"]}):
        code, body = await call(gateway, "POST", "/invites", json=content)
        assert code == 422, (content, body)


@pytest.mark.parametrize(
    "secret", ["Bearer \xff", "Bearer \ud800", "Bearer", "\xff\xfe", "Basic x"]
)
async def test_a_token_that_is_no_text_is_401(swarm: Swarm, secret: str) -> None:
    gateway = await swarm.gateway()
    raw = secret.encode("utf-8", "surrogatepass")
    reader, writer = await asyncio.open_connection(*gateway.url.removeprefix("http://").split(":"))
    writer.write(
        b"GET /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: " + raw + b"\r\n\r\n"
    )
    status = await reader.readline()
    writer.close()
    assert b" 401 " in status or b" 400 " in status, status


@pytest.mark.parametrize(
    ("part", "code"),
    [("module", "module_too_large"), ("spec", "spec_too_large"), ("script", "script_too_large")],
)
async def test_a_part_is_bounded_while_it_is_read(
    swarm: Swarm, part: str, code: str, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        head = f'--b\r\nContent-Disposition: form-data; name="{part}"; filename="f"\r\n\r\n'
        yield head.encode()
        while sent < 300 * 1024 * 1024:
            sent += 65536
            yield bytes(65536)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    try:
        status, body = await call(gateway, "POST", "/jobs", data=endless(), headers=headers)
    except aiohttp.ClientError:
        # It was refused while it was being sent, and the connection closed.
        status, body = 413, {"code": code}
    assert (status, body["code"]) == (413, code)
    # Far more than the limit never left this process: the gateway did not read it.
    assert sent < 200 * 1024 * 1024


async def test_compressed_bodies_are_bounded(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    packed = gzip.compress(bytes(64 * 1024 * 1024))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    code, body = await call(gateway, "POST", "/jobs", data=packed, headers=headers)
    assert code == 413
    multipart = (
        b'--b\r\nContent-Disposition: form-data; name="dataset"; filename="f"\r\n\r\n'
        + bytes(64 * 1024 * 1024)
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Encoding": "gzip"}
    code, body = await call(
        gateway, "POST", "/jobs", data=gzip.compress(multipart), headers=headers
    )
    assert (code, body["code"]) == (413, "body_expands")
    broken = gzip.compress(b'{"reason": "x"}')[:-4] + b"\0\0\0\0"
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    code, body = await call(gateway, "POST", "/nodes/x/ban", data=b"\x1f\x8bxxx", headers=headers)
    assert 400 <= code < 500
    code, body = await call(gateway, "POST", "/nodes/x/ban", data=broken, headers=headers)
    assert 400 <= code < 500
    fine = gzip.compress(form_bytes(modules["primes"], b"0:5"))
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Encoding": "gzip"}
    code, body = await call(gateway, "POST", "/jobs", data=fine, headers=headers)
    assert code == 202, body


def form_bytes(module: bytes, dataset: bytes) -> bytes:
    """Return a multipart body with boundary b."""
    head = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n'
    return head % b"module" + module + b"\r\n" + head % b"dataset" + dataset + b"\r\n--b--\r\n"


BROKEN_FORMS = {
    "no boundary": ("multipart/form-data", b""),
    "empty boundary": ("multipart/form-data; boundary=", b""),
    "long boundary": ("multipart/form-data; boundary=" + "b" * 200, b""),
    "no parts": ("multipart/form-data; boundary=b", b""),
    "no end": ("multipart/form-data; boundary=b", b"--b\r\n"),
    "cut": ("multipart/form-data; boundary=b", form_bytes(b"m", b"d")[:-20]),
    "bad header": ("multipart/form-data; boundary=b", b"--b\r\n\xff\xfe\r\n\r\nx\r\n--b--\r\n"),
    "header without colon": ("multipart/form-data; boundary=b", b"--b\r\nx\r\n\r\nx\r\n--b--\r\n"),
    "no name": ("multipart/form-data; boundary=b", b"--b\r\nA: b\r\n\r\nx\r\n--b--\r\n"),
    "long header": (
        "multipart/form-data; boundary=b",
        b"--b\r\nA: " + b"x" * 100_000 + b"\r\n\r\nx\r\n--b--\r\n",
    ),
    "bad charset": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n--b--\r\n',
    ),
    "_charset_": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\n'
        + b"x" * 99
        + b"\r\n--b--\r\n",
    ),
    "nested": (
        "multipart/form-data; boundary=b",
        b"--b\r\nContent-Type: multipart/mixed\r\n\r\nx\r\n--b--\r\n",
    ),
    "twice": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="spec"\r\n\r\n{}\r\n'
        b'--b\r\nContent-Disposition: form-data; name="spec"\r\n\r\n{}\r\n--b--\r\n',
    ),
}


async def test_a_broken_form_is_4xx(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    for name, (media_type, body) in BROKEN_FORMS.items():
        headers = {"Content-Type": media_type}
        code, answer = await call(gateway, "POST", "/jobs", data=body, headers=headers)
        assert 400 <= code < 500, (name, answer)
        assert answer["code"] != "internal", name


async def test_a_json_body_has_at_most_4_mib(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    headers = {"Content-Type": "application/json"}
    for path in ("/jobs", "/nodes/x/ban"):
        code, body = await call(
            gateway, "POST", path, data=b"[" + b"1," * 2_200_000 + b"1]", headers=headers
        )
        assert (code, body["code"]) == (413, "request_too_large")
        assert "multipart/form-data" in body["message"]


async def test_an_item_larger_than_a_shard_is_refused(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    long = b"x" * (16 * 1024 * 1024 + 1)
    cases: list[tuple[bytes | list[bytes], Any]] = [
        (b"short\n" + long + b"\nshort\n", {"split": "lines"}),
        (b'["a", "' + long + b'"]', {"split": "json"}),
        ([b"small", long], {"split": "files"}),
        (long[:-1] * 2, {"split": f"records:{32 * 1024 * 1024}"}),
    ]
    for dataset, spec in cases:
        code, body = await submit(gateway, modules["echo"], dataset, spec)
        assert (code, body["code"]) == (422, "item_too_large"), spec


async def test_websocket_commands_out_of_range_are_answered(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    async with live(gateway) as client:
        for fields in (
            {"subscription": [1]},
            {"subscription": HUGE},
            {"subscription": {}},
            {"since": HUGE},
        ):
            answer = await client.command("unsubscribe_events", **fields)
            assert answer["success"] is False
        answer = await client.command("subscribe_events", since=HUGE)
        assert answer["error"]["code"] == "invalid_format"
        await client.socket.send_str('[1, {"id": 7}]')
        for _ in range(2):
            assert (await client.receive())["success"] is False
        await client.socket.send_str('{"id": ' + "9" * 400 + ', "type": "ping"}')
        assert (await client.receive())["success"] is False
        await client.socket.send_json({"id": 8, "type": "ping"})
        assert (await client.receive())["type"] == "pong"


# From the schemas: every key of a spec, with hostile values and fair ones.
KEYS = tuple(str(key) for key in spec_module.SPEC.schema.schema)  # type: ignore[attr-defined]


@HOSTILE
@given(st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=5)), VALUES, max_size=6))
def test_a_generated_spec_is_refused_or_can_be_stored(spec: dict[str, Any]) -> None:
    try:
        checked = check_spec(spec)
    except RequestError as error:
        json.dumps([error.message, error.errors]).encode()
        return
    limits, constraints = checked.limits, checked.constraints
    made = JobSpec(
        "range", "map", (checked.split or (None, 0))[0] or spec_module.Split.RANGE, 0, "sum",
        checked.shard_size, checked.redundancy or 1, checked.deterministic, limits, checked.args,
        checked.env, checked.priority, checked.deadline_s, constraints, checked.labels,
        known_answers=checked.known_answers,
    )  # fmt: skip
    stored = json.dumps(made.to_json(), allow_nan=False)
    assert JobSpec.from_json(json.loads(stored)) == made
    database = sqlite3.connect(":memory:")
    for number in (limits.fuel, limits.memory, limits.output, checked.shard_size):
        database.execute("SELECT ?", (number,))
    database.close()


@HOSTILE
@given(
    st.dictionaries(
        st.sampled_from(
            ("id", "code", "text", "input_sha", "sha", "size", "body", "wall_s", "cpu_s", "peak",
             "fuel", "shards", "call", "module_bytes", "reason", "ids", "slots", "memory_bytes",
             "labels", "features", "wall_time_s", "cpu_percent", "available_memory_bytes",
             "temperature_c")
        ),
        st.one_of(VALUES, st.binary(max_size=40), st.just("ab" * 32), st.just("j.0.1")),
    )
)  # fmt: skip
def test_a_generated_message_is_refused_or_can_be_stored(fields: dict[str, Any]) -> None:
    with contextlib.suppress(KeyError, ValueError):
        read_assign(fields)
    Telemetry.from_wire(fields)
    WorkerOffer.from_wire(fields)
    try:
        result = read_result(fields)
    except ValueError:
        return
    for value in getattr(result, "__slots__", ()):
        held = getattr(result, value)
        if isinstance(held, int | float):
            assert abs(held) < 2**63
        if isinstance(held, str):
            held.encode()
            assert "\0" not in held


RESULT = {
    "id": "j.0.1", "code": "ok", "text": "", "input_sha": "ab" * 32, "sha": "cd" * 32, "size": 1,
    "body": b"x", "wall_s": 0.5, "cpu_s": 0.5, "peak": 1, "fuel": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 2**64 - 1}, {"size": 2**63}, {"size": -1}, {"wall_s": 1.7e308},
        {"wall_s": float("nan")}, {"cpu_s": float("inf")}, {"cpu_s": 10**30}, {"peak": 2**63},
        {"fuel": 2**64 - 1}, {"code": "\0"}, {"code": "x" * 10_000}, {"body": "text"},
    ],
    ids=str,
)  # fmt: skip
def test_a_result_out_of_range_names_its_assignment(wrong: dict[str, Any]) -> None:
    found = read_result({**RESULT, **wrong})
    assert found.assignment_ids == ("j.0.1",)  # type: ignore[union-attr]
    assert len(found.reason) < 300  # type: ignore[union-attr]


def test_texts_for_people_lose_only_what_cannot_be_stored() -> None:
    found = read_result({**RESULT, "text": "a\0b\ud800c"})
    assert found.text == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"  # type: ignore[union-attr]


async def test_a_form_of_many_parts_is_read(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    many = [b"%d" % number for number in range(1000)]
    data = form(modules["echo"], many, {"split": "files"})
    code, body = await call(gateway, "POST", "/jobs", data=data)
    assert code == 202, body
    await _has_items(gateway, body["job_id"], 1000)


async def _has_items(hub: RunningHub, job_id: str, n_items: int) -> None:
    _, status = await call(hub, "GET", f"/jobs/{job_id}")
    assert status["progress"]["items"] == n_items
