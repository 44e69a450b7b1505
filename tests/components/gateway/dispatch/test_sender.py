"""Instructions reach the nodes that are connected."""

from collections.abc import Sequence
from typing import Any, cast

from swarm_hub.components.gateway.dispatch.sender import Sender
from swarm_hub.components.gateway.links.base import NodeLink, NodeLinks
from swarm_hub.components.scheduler import Preempt
from swarm_hub.models.node import WorkerOffer


class Node:
    node_id = "here"
    rtt_s = None

    def __init__(self) -> None:
        self.preempted: list[str] = []

    def preempt(self, assignment_ids: Sequence[str]) -> None:
        self.preempted += assignment_ids


def test_nodes_are_told_what_gives_way_if_they_are_connected() -> None:
    links = NodeLinks(cast(Any, None))
    node = Node()
    links.connected(cast(NodeLink, node), "here", WorkerOffer())
    Sender(links, cast(Any, None), b"", lambda _job: False).preempt(
        [Preempt("gone", "j.0.1"), Preempt("here", "j.1.1"), Preempt("here", "j.2.1")]
    )
    assert node.preempted == ["j.1.1", "j.2.1"]
