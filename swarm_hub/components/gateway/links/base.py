"""What the gateway needs of a node, independent of how the node is reached.

Code that can reach nodes implements `NodeLink` and tells `NodeLinks` which nodes come and go and
what they say; `links/signed.py` does so over the mesh.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from swarm_hub.components.mesh import Readable
from swarm_hub.models.messages import Assign, Nack, Result, Unreadable
from swarm_hub.models.node import WorkerOffer
from swarm_hub.models.receipt import Receipt
from swarm_hub.storage import Write

BlobSource = Callable[[str, str], AbstractAsyncContextManager[Readable | None]]


class NodeLink(Protocol):
    """A connected node. What is sent may be lost; the scheduler resends what matters."""

    @property
    def node_id(self) -> str:
        """The node's id; for a peer of the mesh its peer id."""

    @property
    def rtt_s(self) -> float | None:
        """The newest round-trip time, None before the first."""

    def offer(self, assign: Assign) -> None:
        """Offer assignments."""

    def cancel(self, assignment_ids: Sequence[str]) -> None:
        """Say that assignments are no longer wanted."""

    def preempt(self, assignment_ids: Sequence[str]) -> None:
        """Have assignments give way to others; only for a node with the feature `preempt`."""

    def acknowledge(self, assignment_ids: Sequence[str]) -> None:
        """Say that results are on this gateway's disk; may wait to share another message."""

    def drain(self, reason: str | None) -> None:
        """Have the node give back what it has not begun; with None it gets work again."""

    def fetching(self, sha: str, size_bytes: int) -> AbstractAsyncContextManager[Readable]:
        """Give a result's verified bytes, by their hash, to read in parts; raises MeshError."""


@dataclass(frozen=True, slots=True)
class NodeWords:
    """What a node said in one message.

    `writes` must commit together with the effect of the rest. `receipt` proves what was said; it is
    None over a link without signatures, and with `unsigned`, where the node could have signed it.
    `refusals` are reasons for taking no work; None means that it takes work again, and `finishing`
    that it still takes that of jobs this gateway has. `fault` notes what is wrong with the message.
    """

    node_id: str
    accepted: Sequence[str] = ()
    returned: Sequence[Nack] = ()
    results: Sequence[Result | Unreadable] = ()
    refusals: Sequence[str | None] = ()
    finishing: bool = False
    writes: list[Write] = field(default_factory=list)
    receipt: Receipt | None = None
    fault: Callable[[str], None] = lambda _what: None
    unsigned: bool = False


class NodeLinks:
    """The links of the nodes that are connected."""

    def __init__(self, serve: BlobSource) -> None:
        # Inputs of assignments, by (node id, hash), which links give out.
        self.serve = serve
        self._links: dict[str, NodeLink] = {}
        self._on_connected: list[Callable[[NodeLink, str, WorkerOffer], None]] = []
        self._on_disconnected: list[Callable[[str, str], None]] = []
        self._on_said: list[Callable[[NodeWords], None]] = []

    def on_connected(self, listener: Callable[[NodeLink, str, WorkerOffer], None]) -> None:
        """Call `listener(link, name, what it offers)` for each node that connects."""
        self._on_connected.append(listener)

    def on_disconnected(self, listener: Callable[[str, str], None]) -> None:
        """Call `listener(node id, reason)` for each node that disconnects."""
        self._on_disconnected.append(listener)

    def on_said(self, listener: Callable[[NodeWords], None]) -> None:
        """Have a listener hear what nodes say, even just before they come or after they leave."""
        self._on_said.append(listener)

    def get(self, node_id: str) -> NodeLink | None:
        """Return a node's link, None when it is not connected."""
        return self._links.get(node_id)

    def connected(self, link: NodeLink, name: str, offer: WorkerOffer) -> None:
        """Take a node that connected; called by the code that reaches it."""
        self._links[link.node_id] = link
        for listener in self._on_connected:
            listener(link, name, offer)

    def disconnected(self, node_id: str, reason: str) -> None:
        """Forget a node that disconnected; called by the code that reaches it."""
        if self._links.pop(node_id, None) is not None:
            for listener in self._on_disconnected:
                listener(node_id, reason)

    def said(self, words: NodeWords) -> None:
        """Pass on what a node said; called by the code that reaches it."""
        for listener in self._on_said:
            listener(words)
