"""A visitor believes an echo of its heartbeat or a refusal, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from swarm_hub.components.mesh import NoAnswerError, peer_id_from_seed, visit
from swarm_hub.components.mesh.transports.base import Proof, Session
from swarm_hub.components.mesh.transports.libp2p.transport import Libp2pTransport
from swarm_hub.components.mesh.wire.framing import encode_message
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.exceptions import NotAdmittedError, UnreachablePeerError

SEED, HELLO = b"v" * 32, {"iss": peer_id_from_seed(b"v" * 32), "name": "phone"}


class Host:
    """A peer that hears a visitor out and then does as it is told."""

    def __init__(self) -> None:
        self.transport = Libp2pTransport(b"h" * 32, listen=["/ip4/127.0.0.1/tcp/0"])
        self.does = "nothing"
        self.heard: list[Message] = []
        self.parted: list[str] = []
        self._closing: list[asyncio.Task[None]] = []

    def peer_up(self, session: Session) -> None: ...

    def peer_down(self, session: Session, reason: str) -> None:
        self.parted.append(reason)

    def received(
        self, session: Session, messages: Sequence[Message], proof: Proof | None = None
    ) -> None:
        self.heard += messages
        beats = [fields["t"] for kind, fields in messages if kind == "heartbeat"]
        if self.does == "admit" and beats:
            session.send(encode_message("heartbeat", {"echo": beats[-1]}))
        if self.does == "beat":
            session.send(encode_message("heartbeat", {"t": 1.0}))
        if self.does == "refuse" and not self._closing:
            self._closing.append(asyncio.create_task(session.close("used by another device")))

    def gossiped(self, peer_id: str, topic: str, payload: bytes) -> None: ...

    def discovered(self, peer_id: str, addresses: Sequence[str]) -> None: ...

    def flooded(self, peer_id: str, reason: str) -> None: ...

    def failed(self, reason: str) -> None: ...

    async def visited(self, within_s: float = 30.0) -> None:
        await visit(
            SEED, self.transport.addresses(), HELLO,
            decided_within_s=within_s, goodbye="it has joined",
        )  # fmt: skip


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host()
    await made.transport.start(made)
    yield made
    await made.transport.stop()


async def test_an_echo_admits_and_a_refusal_is_told_in_the_words_of_the_peer(host: Host) -> None:
    host.does = "admit"
    await host.visited()
    assert host.heard[0] == ("hello", {"versions": [3], **HELLO})
    assert host.parted == ["the peer said: it has joined"]
    host.does = "refuse"
    with pytest.raises(NotAdmittedError, match=r"^used by another device$"):
        await host.visited()


@pytest.mark.parametrize("does", ["nothing", "beat"])
async def test_silence_is_no_answer(host: Host, does: str) -> None:
    host.does = does
    with pytest.raises(NoAnswerError, match="has said nothing since"):
        await host.visited(within_s=0.5)


async def test_where_nobody_listens_each_address_is_told() -> None:
    peer_id = peer_id_from_seed(b"h" * 32)
    addresses = [f"/ip4/127.0.0.{last}/tcp/9/p2p/{peer_id}" for last in (1, 2)]
    with pytest.raises(UnreachablePeerError) as refused:
        await visit(SEED, addresses, HELLO, decided_within_s=1, goodbye="")
    lines = str(refused.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "/ip4/127.0.0.1/tcp/9", "/ip4/127.0.0.2/tcp/9",
    ]  # fmt: skip
    assert all(line.endswith("Connection refused") for line in lines)
