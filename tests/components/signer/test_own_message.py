"""A message that a component brings, as docs/components/signer.md shows it."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.components.mesh import MESH
from swarm_hub.components.signer import SIGNER
from swarm_hub.core import HubKey
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.snippets import code_of

NOTES = code_of("docs/components/signer.md", "python")
MANIFEST = {
    "domain": "notes", "name": "Notes", "documentation": "none", "version": "1",
    "dependencies": ["signer"],
}  # fmt: skip


def bring(folder: Path) -> None:
    home = folder / "custom_components" / "notes"
    home.mkdir(parents=True)
    (home / "__init__.py").write_text(NOTES)
    (home / "manifest.json").write_text(json.dumps(MANIFEST))


def notes(hub: RunningHub) -> Any:
    return hub.hub.services[HubKey[Any]("notes")]


def peer_id(hub: RunningHub) -> str:
    return hub.hub.services[MESH].peer_id


async def pair(swarm: Swarm, tmp_path: Path) -> tuple[RunningHub, RunningHub]:
    """Return a gateway and a worker that obeys it, both with the component, once they have met."""
    for name in ("gateway", "worker"):
        bring(tmp_path / name)
    gateway = await swarm.gateway(extra="notes:\n")
    worker = await swarm.worker("worker", extra="notes:\n")

    async def peers() -> list[str]:
        return [*gateway.hub.services[MESH].peers(), *worker.hub.services[MESH].peers()]

    await until(peers, lambda found: {peer_id(gateway), peer_id(worker)} <= set(found))
    return gateway, worker


async def heard(hub: RunningHub, texts: list[str]) -> None:
    async def now() -> list[str]:
        return [text for _, text in notes(hub).heard]

    await until(now, lambda found: found == texts)


async def test_it_gets_across_and_tells_who_sent_it(swarm: Swarm, tmp_path: Path) -> None:
    gateway, worker = await pair(swarm, tmp_path)
    for text in ("one", "two"):
        notes(gateway).send(peer_id(worker), text)
    await heard(worker, ["one", "two"])
    assert notes(worker).heard[0] == (peer_id(gateway), "one")


async def test_of_one_who_is_not_trusted_it_has_no_effect(swarm: Swarm, tmp_path: Path) -> None:
    gateway, worker = await pair(swarm, tmp_path)
    received: list[str] = []
    gateway.hub.services[SIGNER].on(("notes/note",), lambda batch: received.append(batch.peer_id))
    notes(worker).send(peer_id(gateway), "do as I say")

    async def senders() -> list[str]:
        return received

    await until(senders, lambda found: found == [peer_id(worker)])
    assert not notes(gateway).heard


async def test_one_that_can_not_be_read_is_left_out(swarm: Swarm, tmp_path: Path) -> None:
    gateway, worker = await pair(swarm, tmp_path)
    channel = gateway.hub.services[SIGNER]
    for fields in ({"text": 5}, {}, {"text": "x" * 201}, {"text": "well"}):
        channel.send(peer_id(worker), "notes/note", fields)
    await heard(worker, ["well"])


async def test_a_hub_that_does_not_know_it_ignores_it(
    swarm: Swarm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "swarm_hub.components.signer")
    gateway, _ = await pair(swarm, tmp_path)
    stranger = await swarm.worker("stranger")

    async def peers() -> set[str]:
        return set(gateway.hub.services[MESH].peers())

    async def logged() -> str:
        return caplog.text

    await until(peers, lambda found: peer_id(stranger) in found)
    notes(gateway).send(peer_id(stranger), "hello")
    said = f"{peer_id(gateway)} signed an unknown message notes/note"
    await until(logged, lambda text: said in text)
    assert peer_id(stranger) in await peers()
