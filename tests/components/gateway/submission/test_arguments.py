"""Split args: one call for each item, which is an argument."""

import json
from typing import Any

import pytest

from swarm_hub.client import SwarmClient
from swarm_hub.components.gateway.submission.dataset import measure
from swarm_hub.components.sandbox import Call, Limits, SandboxError
from swarm_hub.exceptions import RequestError
from swarm_hub.models.job import Split
from swarm_hub.models.submission import DatasetPart
from tests.conftest import Swarm
from tests.helpers.rest import submit

Modules = dict[str, bytes]
ARGS = (Split.ARGS, 0)


def texts(*parts: DatasetPart, values: Any = None) -> list[Any]:
    measured = measure(parts, values, ARGS, Split.LINES)
    lines = measured.body[:].splitlines()
    assert measured.n_items == len(lines)
    return [json.loads(line) for line in lines]


def test_lines_and_texts_in_json_are_arguments() -> None:
    assert texts(values=["a b", "", "ü\n"]) == ["a b", "", "ü\n"]
    assert texts(DatasetPart("items.json", b'["a", "\\u00fc"]')) == ["a", "ü"]
    lines = DatasetPart("one.txt", "a b\r\n\nü".encode())
    assert texts(lines, DatasetPart("", b""), DatasetPart("two", b"[1]\n")) == [
        "a b", "", "ü", "[1]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([1], "invalid_dataset"),
        (["a\0"], "invalid_dataset"),
        (["x" * 16_385], "item_too_large"),
        ({"a": 1}, "invalid_dataset"),
        ([], "empty_dataset"),
    ],
)
def test_what_can_be_no_argument_is_refused(values: Any, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        measure((), values, ARGS, Split.LINES)
    assert caught.value.code == code
    with pytest.raises(RequestError, match="no text in UTF-8"):
        texts(DatasetPart("x", b"\xff\n"))


def test_an_item_takes_its_place_among_the_arguments() -> None:
    call = Call("", "wasi", "_start", Limits(1, 1, 1), args=("-n", "{item}"), argument=True)
    assert call.given(b'"a b"\n').args == ("-n", "a b")
    plain = Call("", "wasi", "_start", Limits(1, 1, 1), args=("-n",), argument=True)
    assert plain.given(b'"{item}"\n').args == ("-n", "{item}")
    for wrong in (b"", b"1\n", b'"a"\n"b"\n', b"\xff", b"[" * 10_000):
        with pytest.raises(SandboxError):
            call.given(wrong)


async def test_each_item_is_a_call_of_its_own(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    async with SwarmClient(gateway.url, gateway.token) as client:
        says = modules["says_argument"]
        assert await client.map(says, ["one", "two"], split="args") == b"onetwo"
        # The module says its first argument.
        job_id = await client.submit(says, b"1\n2\n3\n", split="args", args=["{item}", "x"])
        status = await client.wait(job_id)
        assert (status["progress"]["shards"], await client.result(job_id)) == (3, b"123")
        # A command that reads stdin finds nothing there.
        assert await client.map(modules["cat"], b"a\n", split="args") == b""


@pytest.mark.parametrize(
    ("module", "spec", "word"),
    [
        ("cat", {"shard_size": 2}, "no_shard_size"),
        ("echo", {"abi": "bytes"}, "wrong_split"),
        ("sum", {}, "no_abi"),
    ],
)
async def test_args_are_for_commands_and_are_not_cut_otherwise(
    swarm: Swarm, modules: Modules, module: str, spec: dict[str, Any], word: str
) -> None:
    gateway = await swarm.gateway()
    code, body = await submit(gateway, modules[module], b"a\nb\n", {**spec, "split": "args"})
    assert (code, body["code"]) == (422, word), body
