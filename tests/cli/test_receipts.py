"""`job receipts`: what it shows of honest results, and that a hub that lies is found out."""

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from swarm_hub.components.gateway import JOBS
from swarm_hub.const import ADMIN_TOKEN_FILE, STORAGE_DIR
from swarm_hub.models.envelope import key_id, sign
from swarm_hub.util.ed25519 import SigningKey
from swarm_hub.util.hashing import sha256_hex
from tests.conftest import RunningHub, Swarm
from tests.helpers.command_line import Done
from tests.helpers.rest import finished, submit

Beside = Callable[..., Awaitable[Done]]
Page = dict[str, Any]
THIEF = SigningKey(b"t" * 32)


@pytest.fixture
async def gateway(swarm: Swarm) -> RunningHub:
    """A gateway with two workers, and the admin token where the commands look for it."""
    hub = await swarm.gateway()
    (hub.folder / STORAGE_DIR / ADMIN_TOKEN_FILE).write_text(hub.token)
    for name in ("kitchen", "cellar"):
        await swarm.worker(name)
    return hub


async def ran(hub: RunningHub, module: bytes, redundancy: int, shard_size: int = 50) -> str:
    spec = {"shard_size": shard_size, "redundancy": redundancy}
    _, body = await submit(hub, module, b"0:100", spec)
    assert (await finished(hub, body["job_id"]))["state"] == "completed"
    return str(body["job_id"])


async def test_it_shows_for_each_result_who_signed_it_and_whether_it_counts(
    gateway: RunningHub, run_beside: Beside, modules: dict[str, bytes]
) -> None:
    job = await ran(gateway, modules["count"], 2)
    done = await run_beside("job", "receipts", job, "-c", gateway.folder)
    assert done.code == 0, done.err
    head, *lines = done.out.splitlines()
    assert head.split() == ["shard", "node", "result", "signed", "by", "verdict"]
    rows = [line.split(maxsplit=4) for line in lines]
    assert sorted((index, node) for index, node, *_ in rows) == [
        ("0", "cellar"), ("0", "kitchen"), ("1", "cellar"), ("1", "kitchen"),
    ]  # fmt: skip
    assert {sha for _, _, sha, _, _ in rows} == {sha256_hex(b"50")[:12]}
    assert len({(node, kid) for _, node, _, kid, _ in rows}) == 2
    assert sorted(verdict for *_, verdict in rows) == ["counted"] * 2 + ["not counted"] * 2
    assert "4 results, 2 counted, 0 with an invalid receipt" in done.err
    done = await run_beside("job", "receipts", job, "--json", "-c", gateway.folder)
    found = json.loads(done.out)
    assert [each["verdict"] for each in found["results"]] == [verdict for *_, verdict in rows]
    assert {each["receipt"] for each in found["results"]} == {
        each["sha"] for each in found["receipts"]
    }


async def test_it_takes_every_page(
    gateway: RunningHub, run_beside: Beside, modules: dict[str, bytes]
) -> None:
    job = await ran(gateway, modules["count"], 2, shard_size=1)
    done = await run_beside("job", "receipts", job, "-c", gateway.folder)
    assert len(done.out.splitlines()) == 1 + 200
    assert "200 results, 100 counted, 0 with" in done.err


async def test_of_a_job_without_receipts_it_says_why(
    gateway: RunningHub, run_beside: Beside, modules: dict[str, bytes]
) -> None:
    job = await ran(gateway, modules["count"], 1)
    done = await run_beside("job", "receipts", job, "-c", gateway.folder)
    assert (done.code, done.out) == (0, "")
    assert (
        "this job's gateway keeps receipts of redundant jobs only; set gateway: receipts: all"
    ) in done.err
    unknown = await run_beside("job", "receipts", "01NONE", "-c", gateway.folder)
    assert (unknown.code, "there is no job 01NONE" in unknown.err) == (1, True)


def body_of(page: Page) -> bytes:
    return base64.b64decode(page["receipts"][0]["body"])


def change_body(page: Page) -> None:
    changed = body_of(page).replace(b"50", b"51", 1)
    page["receipts"][0]["body"] = base64.b64encode(changed).decode()


def change_signature(page: Page) -> None:
    page["receipts"][0]["signature"] = base64.b64encode(bytes(64)).decode()


def sign_as_another(page: Page) -> None:
    header = base64.b64decode(page["receipts"][0]["header"])
    page["receipts"][0] |= {
        "kid": key_id(THIEF.public_key),
        "public_key": THIEF.public_key.hex(),
        "signature": base64.b64encode(sign(THIEF, "batch", header)).decode(),
    }


def rename_result(page: Page) -> None:
    page["results"][0]["result_sha"] = sha256_hex(b"51")


def rename_input(page: Page) -> None:
    page["results"][0]["input_sha"] = sha256_hex(b"0 51\n")


def move_to_another_shard(page: Page) -> None:
    page["results"][0]["index"] += 1


def give_to_another_node(page: Page) -> None:
    page["results"][0]["node_id"] = "12D3KooWanother"


def leave_out_a_receipt(page: Page) -> None:
    page["receipts"] = page["receipts"][1:]


def show_another_module(page: Page) -> None:
    page["call"]["module_sha"] = sha256_hex(b"another module")


def show_another_call(page: Page) -> None:
    page["call"]["rest_sha"] = sha256_hex(b"other arguments")


def of_another_gateway(page: Page) -> None:
    page["gateways"] = ["12D3KooWanother"]


def make_up_a_certificate(page: Page) -> None:
    page["receipts"][0]["certificate"] = bytes(64).hex()


def garble_a_receipt(page: Page) -> None:
    page["receipts"][0]["header"] = "?"


LIES = {
    change_body: "the body is not the one that was signed",
    change_signature: "the signature is not of this envelope",
    sign_as_another: "which signed",
    rename_result: "it names another result",
    rename_input: "the result is of another input",
    move_to_another_shard: "is not of this shard",
    give_to_another_node: "it is of the node 12D3KooW",
    show_another_module: "of another module",
    show_another_call: "another call of it",
    of_another_gateway: "signed for another gateway",
    make_up_a_certificate: "not of this node and key",
    leave_out_a_receipt: "its receipt was not given",
    garble_a_receipt: "its receipt can't be read",
}


async def test_whatever_a_hub_changes_is_told_as_invalid_and_is_exit_code_1(
    gateway: RunningHub,
    run_beside: Beside,
    modules: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = await ran(gateway, modules["count"], 2)
    service: Any = gateway.hub.services[JOBS]
    honest = service.receipts
    for lie, why in LIES.items():

        async def lying(*asked: Any, lie: Callable[[Page], None] = lie) -> Page:
            page: Page = await honest(*asked)
            lie(page)
            return page

        monkeypatch.setattr(service, "receipts", lying)
        done = await run_beside("job", "receipts", job, "-c", gateway.folder)
        assert (done.code, "Traceback" in done.err) == (1, False), lie
        verdicts = [line.partition("INVALID: ")[2] for line in done.out.splitlines()]
        assert any(why in verdict for verdict in verdicts), (lie, done.out)


async def test_a_key_that_no_identity_has_certified_is_told(
    gateway: RunningHub,
    run_beside: Beside,
    modules: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gateway can make up a key and sign with it; it can't make up the node's identity."""
    job = await ran(gateway, modules["count"], 2)
    service: Any = gateway.hub.services[JOBS]
    honest = service.receipts

    async def without(*asked: Any) -> Page:
        page: Page = await honest(*asked)
        for each in page["receipts"]:
            each["certificate"] = None
        return page

    monkeypatch.setattr(service, "receipts", without)
    done = await run_beside("job", "receipts", job, "-c", gateway.folder)
    assert done.code == 0
    assert done.out.count("counted, key not certified") == 4
