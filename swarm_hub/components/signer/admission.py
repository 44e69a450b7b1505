"""Who is admitted as a node of this gateway: anyone, by invitation, or by hand."""

import hashlib
from typing import Final, Self

from swarm_hub.components.mesh import Hello
from swarm_hub.core import Hub
from swarm_hub.exceptions import SignatureRefusedError
from swarm_hub.models.admission import AdmissionPolicy, Applicant, Verdict
from swarm_hub.storage.queries import admission, nodes

_TOKEN_MAX_BYTES: Final = 64
_ASK_FOR_ANOTHER: Final = "make another one on the gateway: swarm-hub invite"
# Short: a peer is told at most 200 characters, of which its id may be 52.
_REFUSALS: Final = {
    Verdict.WITHOUT_INVITE: (
        "this gateway wants an invitation: there swarm-hub invite, here swarm-hub join LINK; "
        "or there: swarm-hub node approve {peer_id}"
    ),
    Verdict.UNKNOWN_INVITE: (
        f"this gateway knows no such invitation, it may have been revoked; {_ASK_FOR_ANOTHER}"
    ),
    Verdict.EXPIRED_INVITE: f"the invitation of this node has expired; {_ASK_FOR_ANOTHER}",
    Verdict.USED_INVITE: (
        f"the invitation of this node was used by another device; {_ASK_FOR_ANOTHER}"
    ),
    Verdict.PENDING: (
        "this node waits for approval; on the gateway: swarm-hub node approve {peer_id}"
    ),
}


class Admission:
    """Decides by the policy of `gateway: admission`; a node once admitted stays admitted."""

    def __init__(self, hub: Hub, approved: set[str]) -> None:
        self._hub = hub
        self._approved = approved
        self._policy = AdmissionPolicy.OPEN

    def decide_by(self, policy: AdmissionPolicy) -> None:
        """Admit new nodes by that policy; a hub that is no gateway leaves it open."""
        self._policy = policy

    @classmethod
    async def load(cls, hub: Hub) -> Self:
        """Read which nodes were approved before the last stop."""
        known = await hub.store.read(nodes.all_nodes)
        return cls(hub, {node.peer_id for node in known if node.admission == admission.APPROVED})

    async def admit(self, peer_id: str, hello: Hello, public_key: bytes, token: object) -> None:
        """Return normally if this node is admitted; by then the reason is on disk.

        Raises SignatureRefusedError, which says what its owner can do, and StoreError.
        """
        has_token = isinstance(token, bytes) and 0 < len(token) <= _TOKEN_MAX_BYTES
        if peer_id in self._approved or (self._policy is AdmissionPolicy.OPEN and not has_token):
            return
        applicant = Applicant(
            peer_id,
            hello.name,
            hello.kid or "",
            public_key,
            token_sha(token) if isinstance(token, bytes) and has_token else None,
        )
        verdict = await self._hub.store.change(
            admission.ask, self._policy, applicant, self._hub.clock.time()
        )
        if verdict is not Verdict.ADMITTED:
            raise SignatureRefusedError(verdict.value, _REFUSALS[verdict].format(peer_id=peer_id))
        if self._policy is not AdmissionPolicy.OPEN or has_token:
            self._approved.add(peer_id)

    async def approve(self, peer_id: str) -> None:
        """Admit a node from now on; this is on disk when it returns."""
        await self._hub.store.commit([admission.approve(peer_id, self._hub.clock.time())])
        self._approved.add(peer_id)


def token_sha(token: bytes) -> str:
    """Return the hash under which an invitation's token is kept."""
    return hashlib.sha256(token).hexdigest()
