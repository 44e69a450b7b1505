"""Signing keys over their lives: rotated with an overlap, revoked for ever."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from swarm_hub.cli.key import key as key_commands
from swarm_hub.components.mesh import MESH, PeerDown
from swarm_hub.components.signer import SIGNER
from swarm_hub.const import SIGNER_KEY_FILE, STORAGE_DIR
from swarm_hub.models import messages
from swarm_hub.models.envelope import key_id
from swarm_hub.models.rotation import Rotation, make_rotation
from swarm_hub.util.ed25519 import SigningKey
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.envelopes import (
    Wire,
    key_of,
    met,
    nodes,
    pair,
    peer_id,
    refused,
    sealed,
    state_is,
)  # fmt: skip
from tests.helpers.newcomer import Newcomer
from tests.helpers.rest import call, finished, submit

pytestmark = pytest.mark.slow

Modules = dict[str, bytes]
DAY_S = 86_400


async def command(hub: RunningHub, *arguments: str) -> str:
    """Run `swarm-hub key …` beside a hub, or on the directory of a stopped one."""
    done = await asyncio.to_thread(
        CliRunner().invoke, key_commands, [*arguments, "-c", str(hub.folder)]
    )
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    return str(done.stdout)


async def signs_with(hub: RunningHub, public_key: str) -> None:
    async def current() -> str:
        return hub.hub.services[SIGNER].public_key.hex()

    await until(current, lambda found: found == public_key)


async def comes_to_trust(hub: RunningHub, public_key: bytes) -> None:
    """Wait for the news of a key, which is on its way."""

    async def trusted() -> bool:
        return hub.hub.services[SIGNER].trusts(public_key)

    await until(trusted, bool)


async def works(gateway: RunningHub, modules: Modules) -> None:
    _, body = await submit(gateway, modules["primes"], b"0:100")
    async with asyncio.timeout(20):
        assert (await finished(gateway, body["job_id"]))["result"] == 25


def public_key_of(hub: RunningHub) -> bytes:
    return key_of(hub).public_key


def kid_of(hub: RunningHub) -> str:
    return key_id(public_key_of(hub))


async def connected(hub: RunningHub) -> set[str]:
    return set(hub.hub.services[MESH].peers())


async def parted(hub: RunningHub, other: str, within_s: float = 20) -> None:
    await until(lambda: connected(hub), lambda found: other not in found, timeout_s=within_s)


async def restarted_worker(swarm: Swarm, worker: RunningHub, **options: Any) -> RunningHub:
    """Start a stopped worker with the very configuration that it had."""
    yaml = (worker.folder / "configuration.yaml").read_text()
    return await swarm.start("worker", yaml.partition("\n")[2], **options)


# Rotation


async def test_a_running_gateway_changes_its_key_and_loses_no_envelope(
    swarm: Swarm, modules: Modules
) -> None:
    gateway, worker = await pair(swarm)
    old = kid_of(gateway)
    wire = Wire(gateway)
    spec = {"abi": "range", "split": "range", "shard_size": 10, "reduce": "sum"}
    _, body = await submit(gateway, modules["spin"], b"0 2000\n", spec)
    await signs_with(gateway, (await command(gateway, "rotate")).strip())
    status = await finished(gateway, body["job_id"])
    assert (status["state"], status["progress"]["retries"]) == ("completed", 0)
    assert kid_of(gateway) != old
    for hub in (gateway, worker):
        assert hub.hub.services[SIGNER].refused == {}
    # Once by each key.
    assert wire.count(messages.ROTATED) == 2
    assert (await nodes(gateway))[peer_id(worker)]["state"] == "up"


async def test_a_worker_that_was_away_learns_the_new_key_within_the_overlap(
    swarm: Swarm, modules: Modules
) -> None:
    gateway, worker = await pair(swarm)
    await swarm.stop(worker)
    await swarm.stop(gateway)
    await command(gateway, "rotate", "--overlap", "7d")
    await command(gateway, "rotate", "--overlap", "7d")
    gateway = await swarm.gateway()
    worker = await restarted_worker(swarm, worker)
    await state_is(gateway, peer_id(worker), "up")
    await works(gateway, modules)


async def test_what_was_learned_in_the_overlap_counts_after_it(
    swarm: Swarm, modules: Modules
) -> None:
    gateway, worker = await pair(swarm)
    await signs_with(gateway, (await command(gateway, "rotate", "--overlap", "1h")).strip())
    await swarm.stop(worker)
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    gateway.clock.offset_s += 2 * DAY_S
    worker = await restarted_worker(swarm, worker, clock=gateway.clock)
    await state_is(gateway, peer_id(worker), "up")
    await works(gateway, modules)


async def test_a_worker_that_was_away_for_longer_is_told_what_to_do(
    swarm: Swarm, modules: Modules, caplog: pytest.LogCaptureFixture
) -> None:
    gateway, worker = await pair(swarm)
    old = key_of(gateway).public_key.hex()
    await swarm.stop(worker)
    new = (await command(gateway, "rotate", "--overlap", "1h")).strip()
    await signs_with(gateway, new)
    # The gateway's clock stays, so that it still shows the word of its old key.
    clock = type(gateway.clock)()
    clock.offset_s = 2 * 3600
    worker = await restarted_worker(swarm, worker, clock=clock)

    async def said() -> list[str]:
        return [each.getMessage() for each in caplog.records if "Refused" in each.getMessage()]

    (line,) = await until(said, bool)
    assert "it was rotated, and the overlap of both ended" in line
    assert f"put the new key {new} into signer: trust" in line
    # And that is all there is to do.
    await swarm.stop(worker)
    file = worker.folder / "configuration.yaml"
    file.write_text(file.read_text().replace(old, new))
    worker = await restarted_worker(swarm, worker, clock=clock)
    await state_is(gateway, peer_id(worker), "up")
    await works(gateway, modules)


async def test_both_keys_count_in_the_overlap_and_the_old_one_not_after_it(swarm: Swarm) -> None:
    gateway, worker = await pair(swarm)
    old = key_of(gateway)
    await signs_with(gateway, (await command(gateway, "rotate", "--overlap", "1h")).strip())
    trusts = worker.hub.services[SIGNER].trusts
    assert trusts(old.public_key)
    await comes_to_trust(worker, public_key_of(gateway))
    for each in (sealed(gateway, worker, key=old, kid=key_id(old.public_key)),
                 sealed(gateway, worker)):  # fmt: skip
        # What is known as a replay was accepted before.
        for _ in range(2):
            Wire(gateway).send(peer_id(worker), each)

    async def replayed() -> int:
        return refused(worker, "replayed")

    await until(replayed, lambda count: count == 2)
    assert set(worker.hub.services[SIGNER].refused) == {"replayed"}
    for hub in (gateway, worker):
        hub.clock.offset_s += 2 * 3600
    assert not trusts(old.public_key)
    assert trusts(public_key_of(gateway))
    again = sealed(gateway, worker, key=old, kid=key_id(old.public_key))
    Wire(gateway).send(peer_id(worker), again)

    async def count() -> int:
        return refused(worker, "unknown_key")

    assert await until(count, bool) == 1


async def test_the_pin_of_a_worker_follows_its_rotation(swarm: Swarm, modules: Modules) -> None:
    gateway, worker = await pair(swarm)
    # While both run, while the worker is stopped, and to a gateway that restarted.
    await signs_with(worker, (await command(worker, "rotate")).strip())
    await works(gateway, modules)
    await swarm.stop(worker)
    await command(worker, "rotate")
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    worker = await restarted_worker(swarm, worker)
    await state_is(gateway, peer_id(worker), "up")

    async def pin() -> str:
        return str((await nodes(gateway))[peer_id(worker)]["kid"])

    # It is written down when the worker was greeted.
    await until(pin, lambda kid: kid == kid_of(worker))
    await works(gateway, modules)


async def test_a_worker_whose_overlap_is_over_needs_unban(swarm: Swarm) -> None:
    gateway, worker = await pair(swarm)
    await swarm.stop(worker)
    await command(worker, "rotate", "--overlap", "1m")
    gateway.clock.offset_s += 3600
    worker = await restarted_worker(swarm, worker)
    honest = await swarm.worker("honest")
    await state_is(gateway, peer_id(honest), "up")
    assert (await nodes(gateway))[peer_id(worker)]["state"] == "down"
    assert (await call(gateway, "POST", f"/nodes/{peer_id(worker)}/unban"))[0] == 200
    await state_is(gateway, peer_id(worker), "up")


async def test_a_key_that_was_replaced_by_hand_counts_from_the_next_start(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    gateway, _ = await pair(swarm)
    before = gateway.hub.services[SIGNER].public_key
    (gateway.folder / STORAGE_DIR / SIGNER_KEY_FILE).write_bytes(os.urandom(32))
    # It would look by itself within a minute.
    await gateway.hub.control.run({"command": "reload_keys"})
    assert "no rotation leads to" in caplog.text
    assert gateway.hub.services[SIGNER].public_key == before


def statement(hub: RunningHub, old: SigningKey, new: SigningKey, **changes: Any) -> Rotation:
    asked = {"peer_id": peer_id(hub), "at": int(hub.clock.time()), "overlap_s": DAY_S, **changes}
    return make_rotation(old, new, **asked)


class Thief:
    """Shows rotations to a worker in the name of its gateway."""

    key = SigningKey(b"t" * 32)

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    async def is_believed(self, gateway: RunningHub, worker: RunningHub, wire: list[Any]) -> bool:
        """Send rotations; returns whether the worker then trusts the thief's key."""
        self._caplog.clear()
        await met(worker, peer_id(gateway))
        await met(gateway, peer_id(worker))
        # By events, as the worker may be back before a look at who is connected.
        partings: list[str] = []
        stop_listening = worker.hub.bus.listen(PeerDown, lambda down: partings.append(down.peer_id))
        gateway.hub.services[SIGNER].send(peer_id(worker), messages.ROTATED, {"rotations": wire})
        key = self.key.public_key

        async def answered() -> bool:
            refused_it = "Refused a key rotation" in self._caplog.text
            return refused_it or worker.hub.services[SIGNER].trusts(key)

        await until(answered, bool)
        if believed := worker.hub.services[SIGNER].trusts(key):
            return believed

        async def has_parted() -> bool:
            return peer_id(gateway) in partings

        # The worker parts from a gateway whose rotation it refuses, and comes back.
        await until(has_parted, bool)
        stop_listening()
        await met(worker, peer_id(gateway))
        return worker.hub.services[SIGNER].trusts(key)


@pytest.fixture
def thief(caplog: pytest.LogCaptureFixture) -> Thief:
    return Thief(caplog)


async def test_rotations_that_do_not_count_lead_to_no_trust(swarm: Swarm, thief: Thief) -> None:
    gateway, worker = await pair(swarm)
    old, foreign = key_of(gateway), SigningKey(os.urandom(32))
    now = int(gateway.clock.time())
    wrong = [
        # of a key that nobody trusts, of another hub, long over, for longer than allowed
        statement(gateway, foreign, Thief.key),
        statement(gateway, old, Thief.key, peer_id=peer_id(worker)),
        statement(gateway, old, Thief.key, at=now - 9 * DAY_S),
        statement(gateway, old, Thief.key, overlap_s=400 * DAY_S),
    ]
    for each in wrong:
        assert not await thief.is_believed(gateway, worker, [each.to_wire()]), each
    right = statement(gateway, old, Thief.key)
    assert await thief.is_believed(gateway, worker, [right.to_wire()]), "the one that counts"


async def test_of_two_successors_the_first_stays(
    swarm: Swarm, modules: Modules, thief: Thief
) -> None:
    """A thief of the old key names another successor within the overlap."""
    gateway, worker = await pair(swarm)
    old = key_of(gateway)
    await signs_with(gateway, (await command(gateway, "rotate")).strip())
    assert not await thief.is_believed(
        gateway, worker, [statement(gateway, old, Thief.key).to_wire()]
    )
    await works(gateway, modules)


async def test_an_old_rotation_that_is_shown_again_changes_nothing(
    swarm: Swarm, modules: Modules
) -> None:
    gateway, worker = await pair(swarm)
    first = key_of(gateway)
    await signs_with(gateway, (await command(gateway, "rotate")).strip())
    second = key_of(gateway)
    replay = statement(gateway, first, second).to_wire()
    await signs_with(gateway, (await command(gateway, "rotate")).strip())
    gateway.hub.services[SIGNER].send(peer_id(worker), messages.ROTATED, {"rotations": [replay]})
    await works(gateway, modules)
    hello = worker.hub.services[MESH].peers()[peer_id(gateway)]
    assert hello.kid == kid_of(gateway)
    assert worker.hub.services[SIGNER].trusts(public_key_of(gateway))


async def test_more_rotations_than_travel_in_a_hello_are_refused(
    swarm: Swarm, tmp_path: Path
) -> None:
    gateway = await swarm.gateway()
    for _ in range(8):
        await command(gateway, "rotate")
    done = await asyncio.to_thread(
        CliRunner().invoke, key_commands, ["rotate", "-c", str(gateway.folder)]
    )
    assert "still in their overlap" in str(done.exception)


# Revocation


async def two_gateways(swarm: Swarm) -> tuple[RunningHub, RunningHub, RunningHub]:
    first, second = await swarm.gateway("first"), await swarm.gateway("second")
    worker = await swarm.worker("worker", "first", "second")
    for each in (first, second):
        await state_is(each, peer_id(worker), "up")
    return first, second, worker


async def test_a_revoked_gateway_is_left_by_connected_workers_at_once(
    swarm: Swarm, modules: Modules
) -> None:
    first, second, worker = await two_gateways(swarm)
    await command(first, "revoke", kid_of(second), "--reason", "stolen laptop")
    await parted(worker, peer_id(second), within_s=10)
    assert not worker.hub.services[SIGNER].trusts(public_key_of(second))
    # It comes back all the time and is never admitted; the other one works on.
    await works(first, modules)
    assert await connected(worker) == {peer_id(first)}
    # Both remember it without each other.
    await swarm.stop(first)
    await swarm.stop(worker)
    worker = await restarted_worker(swarm, worker)
    first = await swarm.gateway("first")
    await met(worker, peer_id(first))
    assert await connected(worker) == {peer_id(first)}
    assert not worker.hub.services[SIGNER].trusts(public_key_of(second))


async def test_a_worker_that_was_offline_is_told_at_its_next_hello(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, worker = await two_gateways(swarm)
    await swarm.stop(worker)
    await command(first, "revoke", kid_of(second))
    worker = await restarted_worker(swarm, worker)
    await met(worker, peer_id(first))

    async def refused_it() -> bool:
        return f"its signing key {kid_of(second)} is revoked" in caplog.text

    await until(refused_it, bool)
    await parted(worker, peer_id(second))
    assert not worker.hub.services[SIGNER].trusts(public_key_of(second))


async def test_an_envelope_by_a_revoked_key_is_refused_and_bans_nobody(swarm: Swarm) -> None:
    gateway, worker = await pair(swarm)
    old = key_of(gateway)
    kid = key_id(old.public_key)
    await signs_with(gateway, (await command(gateway, "rotate")).strip())
    await command(gateway, "revoke", kid)

    async def trusted() -> bool:
        return worker.hub.services[SIGNER].trusts(old.public_key)

    await until(trusted, lambda found: not found)
    Wire(gateway).send(peer_id(worker), sealed(gateway, worker, key=old, kid=kid))

    async def count() -> int:
        return refused(worker, "revoked")

    assert await until(count, bool) == 1
    assert not worker.hub.services[MESH].is_banned(peer_id(gateway))
    assert worker.hub.services[SIGNER].trusts(public_key_of(gateway))


async def test_revocation_wins_over_rotation(swarm: Swarm, modules: Modules, thief: Thief) -> None:
    """A thief has the old key in the overlap; its owner has rotated and revoked it."""
    gateway, worker = await pair(swarm)
    old = key_of(gateway)
    kid = key_id(old.public_key)
    await signs_with(gateway, (await command(gateway, "rotate", "--overlap", "7d")).strip())
    await command(gateway, "revoke", kid, "--reason", "stolen")

    async def trusted() -> bool:
        return worker.hub.services[SIGNER].trusts(old.public_key)

    await until(trusted, lambda found: not found)
    assert not await thief.is_believed(
        gateway, worker, [statement(gateway, old, Thief.key).to_wire()]
    )
    # What was learned from the old key before stays, also after a restart.
    await swarm.stop(worker)
    worker = await restarted_worker(swarm, worker)
    await state_is(gateway, peer_id(worker), "up")
    await works(gateway, modules)
    assert not await thief.is_believed(
        gateway, worker, [statement(gateway, old, Thief.key).to_wire()]
    )


async def test_a_revoked_worker_is_refused_by_its_gateway(swarm: Swarm) -> None:
    gateway, worker = await pair(swarm)
    await command(gateway, "revoke", kid_of(worker), "--reason", "lost in a taxi")
    await parted(gateway, peer_id(worker), within_s=10)
    reason = await Newcomer(gateway, 1, key_of(worker)).refused()
    assert reason.endswith("is revoked: lost in a taxi")
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    assert "is revoked" in await Newcomer(gateway, 1, key_of(worker)).refused()
    assert (await nodes(gateway))[peer_id(worker)]["state"] == "down"


async def test_a_revoked_worker_can_t_rotate_its_way_back(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    gateway, worker = await pair(swarm)
    revoked = key_of(worker)
    await swarm.stop(worker)
    await command(gateway, "revoke", kid_of(worker))

    async def taken_up() -> bool:
        return f"Key {kid_of(worker)} is revoked" in caplog.text

    await until(taken_up, bool)
    await command(worker, "rotate")
    worker = await restarted_worker(swarm, worker)
    honest = await swarm.worker("honest")
    await state_is(gateway, peer_id(honest), "up")
    assert peer_id(worker) not in await connected(gateway)
    assert key_of(worker) != revoked
    # Its owner vouches for the new key by lifting the pin.
    assert (await call(gateway, "POST", f"/nodes/{peer_id(worker)}/unban"))[0] == 200
    await state_is(gateway, peer_id(worker), "up")


async def test_only_a_trusted_key_revokes(swarm: Swarm, modules: Modules) -> None:
    gateway, worker = await pair(swarm)
    entry = {"keys": [[kid_of(gateway), 1.0, "because"]]}
    worker.hub.services[SIGNER].send(peer_id(gateway), messages.REVOKED, entry)
    await works(gateway, modules)
    assert gateway.hub.services[SIGNER].trusts(public_key_of(gateway))


@pytest.mark.parametrize(
    "listed",
    [
        None, 5, [[]], [["x", 1.0, ""]], [["0" * 16, "now", ""]], [["0" * 16, float("nan"), ""]],
        [["0" * 16, 1.0, 7]], [["0" * 16, 1.0]], [["0" * 15 + "G", 1.0, ""]],
        [["0" * 16, 1.0, "", "later"]],
        [[f"{number:016x}", 1.0, ""] for number in range(513)],
    ],
)  # fmt: skip
async def test_a_list_of_another_shape_is_no_list(
    swarm: Swarm, modules: Modules, listed: Any
) -> None:
    gateway, worker = await pair(swarm)
    gateway.hub.services[SIGNER].send(peer_id(worker), messages.REVOKED, {"keys": listed})
    await works(gateway, modules)
    assert worker.hub.services[SIGNER].trusts(public_key_of(gateway))


async def test_a_list_only_grows_and_is_bounded(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    gateway, worker = await pair(swarm)
    post, gone = gateway.hub.services[SIGNER].send, "f" * 32
    post(peer_id(worker), messages.REVOKED, {"keys": [[gone, 1.0, ""]]})
    crowd(gateway, worker)
    # An older and shorter list takes nothing back.
    post(peer_id(worker), messages.REVOKED, {"keys": []})

    async def said() -> bool:
        return "4096 revoked keys" in caplog.text

    await until(said, bool)
    assert len(worker.hub.services[SIGNER]._revocations.all()) == 4096
    assert worker.hub.services[SIGNER]._revocations.of(gone)
    await swarm.stop(worker)
    worker = await restarted_worker(swarm, worker)
    assert len(worker.hub.services[SIGNER]._revocations.all()) == 4096


def crowd(gateway: RunningHub, worker: RunningHub) -> None:
    """Revoke more keys that do not exist than are kept of one gateway."""
    for start in range(0, 4608, 512):
        many = [[f"{number:032x}", 1.0, ""] for number in range(start, start + 512)]
        gateway.hub.services[SIGNER].send(peer_id(worker), messages.REVOKED, {"keys": many})


async def crowded(worker: RunningHub) -> None:
    async def known() -> int:
        return len(worker.hub.services[SIGNER]._revocations.all())

    await until(known, lambda count: count == 4096)


async def test_no_gateway_crowds_out_what_another_revokes(swarm: Swarm) -> None:
    first, second, worker = await two_gateways(swarm)
    crowd(first, worker)
    await crowded(worker)
    await swarm.stop(worker)
    worker = await restarted_worker(swarm, worker)
    await met(worker, peer_id(second))
    await command(second, "revoke", "ab" * 16)

    async def revoked() -> bool:
        return worker.hub.services[SIGNER]._revocations.of("ab" * 16) is not None

    await until(revoked, bool)


async def test_there_is_always_room_to_revoke_a_key_that_is_in_use(swarm: Swarm) -> None:
    first, second, worker = await two_gateways(swarm)
    crowd(first, worker)
    await crowded(worker)
    await command(first, "revoke", kid_of(second))
    await parted(worker, peer_id(second), within_s=10)
    assert not worker.hub.services[SIGNER].trusts(public_key_of(second))


async def test_a_successor_has_the_room_of_the_key_that_it_replaces(swarm: Swarm) -> None:
    gateway, worker = await pair(swarm)
    crowd(gateway, worker)
    await crowded(worker)
    await signs_with(gateway, (await command(gateway, "rotate")).strip())
    entry = ["ab" * 16, 1.0, ""]
    gateway.hub.services[SIGNER].send(peer_id(worker), messages.REVOKED, {"keys": [entry]})
    await comes_to_trust(worker, public_key_of(gateway))
    await signs_with(gateway, (await command(gateway, "rotate")).strip())
    await comes_to_trust(worker, public_key_of(gateway))
    assert worker.hub.services[SIGNER]._revocations.of("ab" * 16) is None


async def test_what_is_revoked_here_counts_whatever_others_revoked(swarm: Swarm) -> None:
    gateway, worker = await pair(swarm)
    crowd(gateway, worker)
    await crowded(worker)
    await command(worker, "revoke", kid_of(gateway))
    await parted(worker, peer_id(gateway), within_s=10)


async def test_a_key_that_version_2_revoked_stays_revoked(swarm: Swarm) -> None:
    gateway, worker = await pair(swarm)
    await command(gateway, "revoke", kid_of(worker)[:16], "--reason", "long ago")
    await parted(gateway, peer_id(worker), within_s=10)
    reason = await Newcomer(gateway, 1, key_of(worker)).refused()
    assert reason.endswith("is revoked: long ago")


async def test_a_key_revoked_while_the_hub_is_stopped_counts_no_more_from_its_start(
    swarm: Swarm,
) -> None:
    gateway, worker = await pair(swarm)
    await swarm.stop(gateway)
    await command(gateway, "revoke", kid_of(worker))
    gateway = await swarm.gateway()
    assert "is revoked" in await Newcomer(gateway, 1, key_of(worker)).refused()
    assert await connected(gateway) == set()


async def test_gateways_of_one_store_know_each_others_revocations(
    swarm: Swarm, postgres_url: str
) -> None:
    extra = f"storage: {{url: '{postgres_url}'}}\n"
    first = await swarm.gateway("first", extra)
    second = await swarm.gateway("second", extra)
    worker = await swarm.worker("worker", "second")
    await state_is(second, peer_id(worker), "up")
    await command(first, "revoke", kid_of(worker))
    await parted(second, peer_id(worker), within_s=30)
