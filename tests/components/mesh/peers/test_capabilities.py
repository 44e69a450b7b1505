"""What components register with the mesh: once, before the start, and what follows from it."""

from typing import Any

import pytest

from swarm_hub.components.mesh import MESH, Capability, Hello
from swarm_hub.components.mesh.peers.capabilities import Capabilities
from tests.conftest import Swarm


def hello(*names: str) -> Hello:
    return Hello("peer", {name: {} for name in names}, None, "boot", "db")


def registered(*all_of_them: Capability) -> Capabilities:
    made = Capabilities()
    for each in all_of_them:
        made.add(each)
    return made


LEFT = Capability("left", {"size": 1}, works_with="right")
RIGHT = Capability("right", {}, works_with="left", seeks_peers=True)


def test_a_peer_is_wanted_for_the_capability_that_ours_works_with() -> None:
    made = registered(LEFT)
    assert made.told == {"left": {"size": 1}}
    assert made.want(hello("right", "other"))
    assert not made.want(hello("left"))
    assert not made.want(hello())


def test_a_capability_may_want_a_peer_for_another_reason() -> None:
    made = registered(LEFT, Capability("other", {}, wants=lambda each: each.name == "peer"))
    assert made.want(hello("left"))
    assert not made.include_own_peer


def test_a_hub_with_both_sides_is_its_own_peer() -> None:
    assert not registered(LEFT).include_own_peer
    assert registered(LEFT, RIGHT).include_own_peer


@pytest.mark.parametrize(
    ("asked", "done"),
    [
        ("seeks_peers", "seek_peers"),
        ("hears_gossip", "hear_gossip"),
        ("listens_for_bulk", "listen_for_bulk"),
    ],
)
def test_what_one_capability_asks_for_the_hub_does(asked: str, done: str) -> None:
    flags: dict[str, Any] = {asked: True}
    assert not getattr(registered(LEFT), done)
    assert getattr(registered(LEFT, Capability("other", {}, **flags)), done)


def test_a_capability_is_registered_once() -> None:
    with pytest.raises(ValueError, match="left is registered already"):
        registered(LEFT, LEFT)


async def test_nothing_is_registered_with_a_mesh_that_has_started(swarm: Swarm) -> None:
    mesh = (await swarm.gateway()).hub.services[MESH]
    for register in (
        lambda: mesh.register(LEFT),
        lambda: mesh.on_gossip("topic", lambda _author, _payload: None),
        lambda: mesh.sign_with(
            mesh._greeter,  # type: ignore[arg-type]
            lambda *_message: None,
            lambda: b"",
            lambda *_message: None,
        ),
    ):
        with pytest.raises(ValueError, match="the mesh has started"):
            register()
