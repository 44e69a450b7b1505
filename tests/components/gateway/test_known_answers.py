"""Known answers in a job's spec, from the request to the shards."""

from typing import Any

import pytest

from swarm_hub.util.hashing import sha256_hex
from tests.conftest import Swarm
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]


async def test_known_answers_are_checked_where_they_are(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    known = [
        {"first_item": 50, "n_items": 50, "result": "10"},
        {"first_item": 7, "sha256": sha256_hex(b"1")},
    ]
    spec = {"known_answers": known}
    _, body = await submit(gateway, modules["primes"], b"0:100", spec)
    status = await finished(gateway, body["job_id"])
    assert (status["state"], status["result"]) == ("completed", 25)
    _, shards = await call(gateway, "GET", f"/jobs/{body['job_id']}/shards")
    cut = {(each["first_item"], each["n_items"]): each["result"] for each in shards["shards"]}
    assert cut[50, 50]["sha"] == sha256_hex(b"10")
    assert cut[7, 1]["sha"] == sha256_hex(b"1")


async def test_a_wrong_one_fails_the_job_and_says_what_was_given(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    spec = {"known_answers": [{"first_item": 0, "n_items": 100, "result": "24"}]}
    _, body = await submit(gateway, modules["primes"], b"0:100", spec)
    status = await finished(gateway, body["job_id"])
    assert status["state"] == "failed"
    assert f"gave {sha256_hex(b'25')[:12]}; is it right" in status["failures"][-1]


@pytest.mark.parametrize(
    ("known", "path", "said"),
    [
        ({"first_item": 1}, "known_answers", "expected a list"),
        ([{"first_item": 1}], "known_answers.0", "either `sha256` or `result`"),
        ([{"result": "1"}], "known_answers.0.first_item", "required"),
        ([{"first_item": 1, "sha256": "AB"}], "known_answers.0.sha256", "64 hex digits"),
        (
            [{"first_item": 3, "n_items": 2, "result": "1"}, {"first_item": 4, "result": "1"}],
            "known_answers",
            "two answers are for item 4",
        ),
        ([{"first_item": 1, "result": "1"}] * 1001, "known_answers", "at most 1000"),
    ],
)
async def test_one_that_makes_no_sense_is_refused_by_its_path(
    swarm: Swarm, modules: Modules, known: Any, path: str, said: str
) -> None:
    gateway = await swarm.gateway()
    status, body = await submit(gateway, modules["primes"], b"0:9", {"known_answers": known})
    assert (status, body["code"]) == (422, "invalid_spec")
    assert body["errors"][0]["path"] == path
    assert said in body["errors"][0]["message"]


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"first_item": 9, "n_items": 2, "result": "1"}, "items 9 to 10; the dataset has 10 items"),
        ({"first_item": 10, "result": "1"}, "counted from 0"),
    ],
)
async def test_one_beyond_the_dataset_is_refused(
    swarm: Swarm, modules: Modules, known: dict[str, Any], said: str
) -> None:
    gateway = await swarm.gateway()
    status, body = await submit(gateway, modules["primes"], b"0:10", {"known_answers": [known]})
    assert (status, body["code"]) == (422, "bad_known_answer")
    assert said in body["message"]
