"""Links over the mesh to workers that greeted: signed messages, and large bytes by their hash."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from swarm_hub.components.gateway.links.base import NodeLinks, NodeWords
from swarm_hub.components.mesh import Mesh, PeerDown, PeerUp, Readable
from swarm_hub.components.signer import Batch, EnvelopeChannel
from swarm_hub.core import Hub
from swarm_hub.models import messages
from swarm_hub.models.messages import Assign, Nack, read_drain, read_finishing, read_result
from swarm_hub.models.node import WorkerOffer

# Workers only clean up on it, so it may wait for the next assignments.
_RESULT_ACK_WITHIN_S: Final = 0.05


class _SignedLink:
    """A worker's session of the mesh."""

    def __init__(self, node_id: str, mesh: Mesh, channel: EnvelopeChannel) -> None:
        self.node_id = node_id
        self._mesh = mesh
        self._channel = channel

    @property
    def rtt_s(self) -> float | None:
        return self._mesh.rtt_s(self.node_id)

    def offer(self, assign: Assign) -> None:
        self._channel.send(self.node_id, messages.ASSIGN, assign.to_wire())

    def cancel(self, assignment_ids: Sequence[str]) -> None:
        self._channel.send(self.node_id, messages.CANCEL, {"ids": list(assignment_ids)})

    def preempt(self, assignment_ids: Sequence[str]) -> None:
        self._channel.send(self.node_id, messages.PREEMPT, {"ids": list(assignment_ids)})

    def acknowledge(self, assignment_ids: Sequence[str]) -> None:
        self._channel.send(
            self.node_id,
            messages.RESULT_ACK,
            {"ids": list(assignment_ids)},
            within_s=_RESULT_ACK_WITHIN_S,
        )

    def drain(self, reason: str | None) -> None:
        self._channel.send(self.node_id, messages.DRAIN, {"node": self.node_id, "reason": reason})

    def fetching(self, sha: str, size_bytes: int) -> AbstractAsyncContextManager[Readable]:
        return self._mesh.fetching(self.node_id, sha, size_bytes)


def link_workers(hub: Hub, mesh: Mesh, channel: EnvelopeChannel, links: NodeLinks) -> None:
    """Make the workers of the mesh nodes of this gateway."""

    def on_peer_up(up: PeerUp) -> None:
        worker = up.hello.capabilities.get("worker")
        if worker is not None:
            link = _SignedLink(up.peer_id, mesh, channel)
            links.connected(
                link, up.hello.name, WorkerOffer.from_wire(worker, up.hello.capabilities)
            )

    def on_peer_down(down: PeerDown) -> None:
        links.disconnected(down.peer_id, down.reason)

    def on_batch(batch: Batch) -> None:
        # A drain that names a node comes from a gateway and is meant for the worker that this hub
        # may also be.
        drains = batch.read(messages.DRAIN, read_drain)
        links.said(
            NodeWords(
                batch.peer_id,
                [each for ids in batch.read(messages.ACK, messages.ids) for each in ids],
                batch.read(messages.NACK, Nack.from_wire),
                batch.read(messages.RESULT, read_result),
                [reason for node, reason in drains if node is None],
                batch.read(messages.DRAIN, read_finishing)[-1:] == [True],
                batch.writes,
                batch.receipt,
                batch.fault,
                unsigned=batch.receipt is None,
            )
        )

    hub.bus.listen(PeerUp, on_peer_up)
    hub.bus.listen(PeerDown, on_peer_down)
    channel.on((messages.ACK, messages.NACK, messages.RESULT, messages.DRAIN), on_batch)
    mesh.serve_blobs(links.serve)
