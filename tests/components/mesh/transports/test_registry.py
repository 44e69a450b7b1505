"""A hub with a transport that a custom component brings, alone and beside another one."""

import inspect
import json
from pathlib import Path

import pytest

from swarm_hub import bootstrap
from swarm_hub.components.mesh import MESH, Mesh, PeerDown, PeerUp, register_transport
from swarm_hub.components.mesh.transports import registry
from swarm_hub.components.mesh.transports.base import Session
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.mesh.wire.requests import Requests
from swarm_hub.exceptions import ConfigError
from tests.conftest import RunningHub, Swarm, until
from tests.helpers import plain_transport
from tests.helpers.newcomer import Newcomer
from tests.helpers.plain_transport import PlainTransport
from tests.helpers.rest import call, finished, submit
from tests.helpers.transports import Side

Modules = dict[str, bytes]

# A whole custom component is the file of the transport and these lines.
COMPONENT = f"""{inspect.getsource(plain_transport)}

from swarm_hub.components.mesh import register_transport
from swarm_hub.helpers import config_validation as cv

register_transport(SCHEME, (PREFIX,), make)
CONFIG_SCHEMA = cv.section({{}}, dict)


async def async_setup(hub, config):
    return True
"""
MESH_OF_GATEWAY = "plain:\nmesh: {transport: plain, bulk: false, heartbeat: 2}\n"


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test registers."""
    monkeypatch.setattr(registry, "_kinds", dict(registry._kinds))


def component(folder: Path) -> None:
    home = folder / "custom_components" / "plain"
    home.mkdir(parents=True)
    manifest = {
        "domain": "plain", "name": "Plain TCP", "documentation": "none", "version": "1.0.0",
        "dependencies": [],
    }  # fmt: skip
    (home / "manifest.json").write_text(json.dumps(manifest))
    (home / "__init__.py").write_text(COMPONENT)


def mesh_of(hub: RunningHub) -> Mesh:
    return hub.hub.services[MESH]


async def address_of(hub: RunningHub) -> str:
    async def addresses() -> tuple[str, ...]:
        return mesh_of(hub).addresses()

    return str((await until(addresses, bool))[0])


async def pair(swarm: Swarm, folder: Path) -> tuple[RunningHub, RunningHub]:
    """Start a gateway and a worker that have found each other over the transport."""
    for name in ("gateway", "worker"):
        component(folder / name)
    gateway = await swarm.gateway(extra=MESH_OF_GATEWAY)
    address, (_, key) = await address_of(gateway), swarm.keys("gateway")
    worker = await swarm.start(
        "worker",
        f"plain:\nworker: {{charging_only: false, min_battery: 0}}\nsigner: {{trust: ['{key}']}}\n"
        f"mesh: {{transport: plain, heartbeat: 2, bootnodes: [{address}]}}\n",
    )
    for hub in (gateway, worker):
        await until(lambda hub=hub: peers(hub), bool)
    return gateway, worker


async def peers(hub: RunningHub) -> set[str]:
    return set(mesh_of(hub).peers())


def sessions(hub: RunningHub, other: RunningHub) -> list[Session]:
    """Return the sessions with a peer, the newest last."""
    peer = mesh_of(hub)._peers.get(mesh_of(other).peer_id)
    return [] if peer is None else list(peer.heard)


async def both(gateway: RunningHub, worker: RunningHub) -> None:
    """Have the two connected by both transports."""
    await mesh_of(worker)._transports.dial(f"/memory/0/p2p/{mesh_of(gateway).peer_id}")

    async def counts() -> list[int]:
        return [len(sessions(gateway, worker)), len(sessions(worker, gateway))]

    assert await until(counts, lambda found: found == [2, 2])


def heard_by(hub: RunningHub) -> list[Message]:
    heard: list[Message] = []
    mesh_of(hub).on("word", lambda _peer_id, fields: heard.append(("word", fields)))
    return heard


async def passes(sender: RunningHub, hearer: RunningHub) -> bool:
    """Whether a message arrives."""
    heard = heard_by(hearer)
    mesh_of(sender).send(mesh_of(hearer).peer_id, "word", {})

    async def arrived() -> list[Message]:
        return heard

    return bool(await until(arrived, bool))


# The door


async def test_a_job_runs_over_a_transport_that_is_one_file(
    swarm: Swarm, tmp_path: Path, modules: Modules
) -> None:
    gateway, worker = await pair(swarm, tmp_path)
    _, body = await submit(gateway, modules["primes"], b"0:100")
    assert (await finished(gateway, body["job_id"]))["result"] == 25
    (session,) = sessions(gateway, worker)
    assert session.address.startswith("/plain/127.0.0.1/")
    assert mesh_of(gateway).host_of(session.peer_id) is None


def test_a_wrong_name_of_a_transport_is_told_which_there_are(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text("gateway:\nplain:\nmesh: {transport: plian}\n")
    component(tmp_path)
    with pytest.raises(ConfigError) as caught:
        bootstrap.check(tmp_path)
    assert [str(problem) for problem in caught.value.problems] == [
        "configuration.yaml:3: mesh → transport: expected one of libp2p, loopback, plain, got "
        "'plian'; did you mean plain?"
    ]


def test_without_it_a_wrong_name_is_told_what_is_built_in(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text("gateway:\nmesh: {transport: plain}\n")
    with pytest.raises(ConfigError) as caught:
        bootstrap.check(tmp_path)
    assert "expected one of libp2p, loopback, got 'plain'" in str(caught.value.problems[0])


def test_an_address_belongs_to_one_transport() -> None:
    register_transport("plain", ("/plain/",), plain_transport.make)
    register_transport("plain", ("/plain/",), plain_transport.make)
    assert registry.scheme_of("/plain/127.0.0.1/1/p2p/x") == "plain"
    assert registry.scheme_of("/ip4/127.0.0.1/tcp/1/p2p/x") == "libp2p"
    assert registry.scheme_of("/memory/0/p2p/x") == "loopback"
    assert registry.scheme_of("nonsense") is None
    with pytest.raises(ValueError, match="/plain/ belong to plain"):
        register_transport("other", ("/plain/",), plain_transport.make)
    with pytest.raises(ValueError, match="libp2p is built in"):
        register_transport("libp2p", ("/other/",), plain_transport.make)


async def test_bans_hold_on_a_transport_that_knows_none(swarm: Swarm, tmp_path: Path) -> None:
    gateway, worker = await pair(swarm, tmp_path)
    mesh, other = mesh_of(gateway), mesh_of(worker).peer_id
    ups: list[PeerUp] = []
    gateway.hub.bus.listen(PeerUp, ups.append)
    await mesh.ban(other, "a test")
    await until(lambda: peers(gateway), lambda left: not left)
    # The worker comes again and again, and is not let in.
    address = await address_of(gateway)
    for _ in range(3):
        await mesh_of(worker)._transports.dial(address)
        await until(lambda: peers(worker), lambda left: not left)
    assert ups == []
    assert await mesh.unban(other)
    await until(lambda: peers(gateway), bool)


async def test_a_banned_network_is_cut_on_a_transport_that_knows_no_bans(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, _ = await pair(swarm, tmp_path)
    (peer,) = mesh_of(gateway)._peers.values()
    # An address that says which network it is in.
    monkeypatch.setattr(peer.session, "address", "/ip4/10.1.2.3/tcp/9")
    content = {"network": "10.1.0.0/16", "reason": "a test"}
    status, _ = await call(gateway, "POST", "/networks/ban", json=content)
    assert status == 200
    session = peer.session

    async def is_over() -> bool:
        return session not in mesh_of(gateway)._sessions

    await until(is_over, bool)


# One identity, several transports


async def test_the_newest_session_carries_and_the_peer_is_down_when_the_last_has_ended(
    swarm: Swarm, tmp_path: Path
) -> None:
    gateway, worker = await pair(swarm, tmp_path)
    told: list[object] = []
    for kind in (PeerUp, PeerDown):
        gateway.hub.bus.listen(kind, told.append)
    await both(gateway, worker)
    older, newer = sessions(gateway, worker)
    assert (older.address[:7], newer.address[:7]) == ("/plain/", "/memory")
    peer = mesh_of(gateway)._peers[mesh_of(worker).peer_id]
    assert peer.session is newer
    assert await passes(gateway, worker)
    assert await passes(worker, gateway)
    await newer.close("enough of it")
    await until(lambda: count(gateway, worker), lambda left: left == 1)
    assert peer.session is older
    assert await passes(gateway, worker)
    assert await passes(worker, gateway)
    assert told == []
    await older.close("enough of it too")
    await until(lambda: count(gateway, worker), lambda left: left == 0 or peer.session is not older)
    assert told[0] == PeerDown(mesh_of(worker).peer_id, "enough of it too")


async def count(hub: RunningHub, other: RunningHub) -> int:
    return len(sessions(hub, other))


async def test_an_older_session_that_ends_changes_nothing(swarm: Swarm, tmp_path: Path) -> None:
    gateway, worker = await pair(swarm, tmp_path)
    await both(gateway, worker)
    older, newer = sessions(gateway, worker)
    await older.close("not needed")
    await until(lambda: count(worker, gateway), lambda left: left == 1)
    assert sessions(gateway, worker) == [newer]
    assert await passes(gateway, worker)


async def test_a_reply_may_come_over_another_session_than_the_question_went(
    swarm: Swarm, tmp_path: Path
) -> None:
    gateway, worker = await pair(swarm, tmp_path)
    await both(gateway, worker)
    mine, theirs = mesh_of(worker), mesh_of(gateway)
    theirs.on("ask", lambda peer, said: theirs.send(peer, "reply", {"ask": said["ask"], "n": 7}))
    peer = mine._peers[theirs.peer_id]
    peer.session = sessions(worker, gateway)[0]
    assert (await mine.request(theirs.peer_id, "ask", {}))["n"] == 7


async def test_a_silent_session_ends_alone(swarm: Swarm, tmp_path: Path) -> None:
    gateway, worker = await pair(swarm, tmp_path)
    downs: list[PeerDown] = []
    gateway.hub.bus.listen(PeerDown, downs.append)
    await both(gateway, worker)
    older, newer = sessions(gateway, worker)
    mute = sessions(worker, gateway)[1]
    mute.send = lambda _message: None  # type: ignore[method-assign]
    heard = mesh_of(gateway)._peers[mesh_of(worker).peer_id].heard

    async def left() -> int:
        # As if it had been mute for long; the other session has six seconds for its next beat.
        if newer in heard:
            heard[newer] = float("-inf")
        return await count(gateway, worker)

    await until(left, lambda left: left == 1)
    assert sessions(gateway, worker) == [older] != [newer]
    assert downs == []


async def test_a_peer_that_comes_back_by_another_transport_after_a_restart_is_a_new_one(
    swarm: Swarm, tmp_path: Path
) -> None:
    component(tmp_path / "gateway")
    gateway = await swarm.gateway(extra=MESH_OF_GATEWAY.replace(", heartbeat: 2", ""))
    told: list[PeerUp | PeerDown] = []
    for kind in (PeerUp, PeerDown):
        gateway.hub.bus.listen(kind, told.append)
    newcomer = Newcomer(gateway, 1)
    await newcomer.dial()
    newcomer.say("hello", newcomer.hello())

    async def events() -> list[str]:
        return [type(each).__name__ for each in told]

    await until(events, bool)
    newcomer.boot_id = "another boot"
    again = Side(PlainTransport(newcomer.peer_id, TransportLimits(), Requests()))
    await again.transport.start(again)
    await again.transport.dial(await address_of(gateway))
    again.send(mesh_of(gateway).peer_id, plain_transport.encode_message("hello", newcomer.hello()))
    assert await until(events, lambda found: len(found) == 3) == ["PeerUp", "PeerDown", "PeerUp"]
    up = told[2]
    assert isinstance(up, PeerUp)
    assert (up.hello.boot_id, up.address[:7]) == ("another boot", "/plain/")

    async def ended() -> list[str]:
        return newcomer.ended

    assert await until(ended, bool) == ["the peer said: replaced by a newer connection"]
    # The same hello once more is nothing new.
    again.send(mesh_of(gateway).peer_id, plain_transport.encode_message("hello", newcomer.hello()))
    assert await peers(gateway) == {newcomer.peer_id}
    await again.transport.stop()
    await newcomer.transport.stop()
