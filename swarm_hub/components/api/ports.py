"""What the API serves: components offer these services, the API knows nothing else of them."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from swarm_hub.core import HubKey
from swarm_hub.models.event import DurableEvent
from swarm_hub.models.submission import Submission, Submitted


class JobsPort(Protocol):
    """Jobs; every call may raise RequestError."""

    async def submit(self, submission: Submission) -> Submitted:
        """Check and store a job."""

    async def status(self, job_id: str, wait_s: float) -> dict[str, Any]:
        """Return a job's status, held for up to `wait_s` until its state changes."""

    async def page(self, before: str | None, limit: int) -> list[dict[str, Any]]:
        """Return a page of jobs, newest first."""

    async def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel a job and return its status."""

    async def result(self, job_id: str) -> tuple[str, bytes]:
        """Return (media type, bytes) of a completed job."""

    async def shards(self, job_id: str) -> list[dict[str, Any]]:
        """Return a job's shards with every attempt."""

    async def receipts(self, job_id: str, after: str | None, limit: int) -> dict[str, Any]:
        """Return a page of a job's receipts, with the results that they are of."""

    async def story(self, job_id: str, after: int, limit: int) -> list[DurableEvent]:
        """Return a job's transitions in order."""


class NodesPort(Protocol):
    """Nodes; every call may raise RequestError."""

    async def list(self) -> list[dict[str, Any]]:
        """Return every node."""

    async def ban(self, node_id: str, reason: str, for_s: float | None) -> dict[str, Any]:
        """Ban a node, for ever or for so long; returns it."""

    async def unban(self, node_id: str) -> None:
        """Lift a ban."""

    async def drain(self, node_id: str, reason: str) -> dict[str, Any]:
        """Keep a node from new work; returns it."""

    async def undrain(self, node_id: str) -> dict[str, Any]:
        """Give a node work again; returns it."""

    async def approve(self, node_id: str) -> None:
        """Admit a node that waits."""

    def counts(self) -> dict[str, int]:
        """Return how many nodes and slots are connected."""


class NetworksPort(Protocol):
    """Banned networks; every call may raise RequestError."""

    async def banned(self) -> list[dict[str, Any]]:
        """Return the networks that are banned."""

    async def ban(
        self, network: str, reason: str, for_s: float | None, *, force: bool
    ) -> dict[str, Any]:
        """Ban a network, with `force` also one that this hub is in; returns the ban."""

    async def unban(self, network: str) -> None:
        """Lift the ban of a network."""


class InvitesPort(Protocol):
    """Invitations of new nodes; every call may raise RequestError."""

    async def create(
        self, expires_s: float, addresses: Sequence[str], owner: str | None
    ) -> dict[str, Any]:
        """Make an invitation and return it with its link."""

    async def list(self) -> list[dict[str, Any]]:
        """Return every invitation that is kept."""

    async def revoke(self, invite_id: str) -> None:
        """Remove an invitation."""


JOBS: Final = HubKey[JobsPort]("jobs")
NODES: Final = HubKey[NodesPort]("nodes")
NETWORKS: Final = HubKey[NetworksPort]("networks")
INVITES: Final = HubKey[InvitesPort]("invites")
