"""Nodes that are no peers of the mesh: all that a gateway needs of one is a `NodeLink`."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext

from swarm_hub.components.gateway import NODE_LINKS, NodeLinks, NodeWords
from swarm_hub.models.blob import Readable
from swarm_hub.models.messages import Assign, Nack, OfferedShard, Result
from swarm_hub.models.node import WorkerOffer
from swarm_hub.util.hashing import sha256_hex
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call, finished, submit

LARGE = 200_000


class UpperCase:
    """A node in this process that answers with capital letters, whatever the module is."""

    node_id = "not-a-peer-id"
    rtt_s = None

    def __init__(self, links: NodeLinks) -> None:
        self._links = links
        self.acknowledged: list[str] = []
        self.cancelled: list[str] = []
        self.preempted: list[str] = []
        self.offered: asyncio.Queue[OfferedShard] = asyncio.Queue()
        self.told = asyncio.Event()
        self._blobs: dict[str, bytes] = {}

    def offer(self, assign: Assign) -> None:
        for shard in assign.shards:
            self.offered.put_nowait(shard)

    def cancel(self, assignment_ids: Sequence[str]) -> None:
        self.cancelled += assignment_ids
        self.told.set()

    def preempt(self, assignment_ids: Sequence[str]) -> None:
        self.preempted += assignment_ids

    def acknowledge(self, assignment_ids: Sequence[str]) -> None:
        self.acknowledged += assignment_ids

    def drain(self, reason: str | None) -> None:
        self.reason = reason

    def fetching(self, sha: str, size_bytes: int) -> AbstractAsyncContextManager[Readable]:
        assert len(self._blobs[sha]) == size_bytes
        return nullcontext(self._blobs[sha])

    async def answer(self) -> None:
        """Compute the next shard."""
        shard = await self.offered.get()
        self._links.said(NodeWords(self.node_id, accepted=[shard.assignment_id]))
        async with AsyncExitStack() as stack:
            data = shard.data
            if data is None:
                data = await stack.enter_async_context(
                    self._links.serve(self.node_id, shard.input_sha)
                )
                assert data is not None
            body = bytes(data[:]).upper()
        sha = sha256_hex(body)
        self._blobs[sha] = body
        inline = body if len(body) < LARGE else None
        result = Result(
            shard.assignment_id, "ok", "", shard.input_sha, sha, len(body), inline, 0.1, 0.1
        )
        self._links.said(NodeWords(self.node_id, results=[result]))


def node_of(gateway: RunningHub) -> UpperCase:
    links = gateway.hub.services[NODE_LINKS]
    node = UpperCase(links)
    links.connected(node, "in process", WorkerOffer.from_wire({"slots": 2}))
    return node


async def test_a_node_that_is_no_peer_runs_a_job(swarm: Swarm, modules: dict[str, bytes]) -> None:
    gateway = await swarm.gateway()
    node = node_of(gateway)
    dataset = b"a" * LARGE + b"\n" + b"b\n"
    spec = {"split": "lines", "reduce": "concat", "shard_size": 1}
    _, body = await submit(gateway, modules["cat"], dataset, spec)
    for _ in range(2):
        await node.answer()
    status = await finished(gateway, body["job_id"])
    assert status["state"] == "completed", status
    _, result = await call(gateway, "GET", f"/jobs/{body['job_id']}/result")
    assert result == dataset.upper()
    assert len(node.acknowledged) == 2


async def test_what_it_gives_back_goes_to_another(swarm: Swarm, modules: dict[str, bytes]) -> None:
    gateway = await swarm.gateway()
    node = node_of(gateway)
    spec = {"split": "lines", "reduce": "concat"}
    _, body = await submit(gateway, modules["cat"], b"a\n", spec)
    shard = await node.offered.get()
    links = gateway.hub.services[NODE_LINKS]
    links.said(NodeWords(node.node_id, returned=[Nack((shard.assignment_id,), "no room")]))
    links.disconnected(node.node_id, "switched off")
    await swarm.worker("worker")
    status = await finished(gateway, body["job_id"])
    assert status["state"] == "completed", status
    _, result = await call(gateway, "GET", f"/jobs/{body['job_id']}/result")
    assert result == b"a\n"


async def test_it_is_told_of_what_is_no_longer_wanted(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    gateway = await swarm.gateway()
    node = node_of(gateway)
    _, body = await submit(gateway, modules["cat"], b"a\n", {"split": "lines", "reduce": "concat"})
    shard = await node.offered.get()
    status = await call(gateway, "DELETE", f"/jobs/{body['job_id']}")
    assert status[1]["state"] == "cancelled"
    await asyncio.wait_for(node.told.wait(), 10)
    assert node.cancelled == [shard.assignment_id]


async def test_a_node_gets_what_its_assignments_name_and_no_other_node_does(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    gateway = await swarm.gateway()
    node = node_of(gateway)
    links = gateway.hub.services[NODE_LINKS]
    idle = UpperCase(links)
    idle.node_id = "idle"
    dataset = b"a" * LARGE + b"\n"
    _, body = await submit(gateway, modules["cat"], dataset, {"split": "lines", "reduce": "concat"})
    shard = await node.offered.get()
    # It was never admitted, or has nothing to do: that it knows a hash is not enough.
    module_sha = sha256_hex(modules["cat"])
    for stranger in ("never seen", idle.node_id):
        links.connected(idle, "idle", WorkerOffer.from_wire({"slots": 2}))
        for sha in (shard.input_sha, module_sha):
            async with links.serve(stranger, sha) as found:
                assert found is None
    for sha, expected in ((shard.input_sha, dataset), (module_sha, modules["cat"])):
        async with links.serve(node.node_id, sha) as found:
            assert found is not None
            assert bytes(found[:]) == expected
    node.offered.put_nowait(shard)
    await node.answer()
    assert (await finished(gateway, body["job_id"]))["state"] == "completed"
    async with links.serve(node.node_id, module_sha) as found:
        assert found is None
