"""Who is connected, and by which sessions; one identity may have one per transport."""

from swarm_hub.components.mesh.peers.peer import Peer
from swarm_hub.components.mesh.transports.base import Session


class PeerTable:
    """The peers by their ids, and each by its live sessions."""

    def __init__(self) -> None:
        self.peers: dict[str, Peer] = {}
        self.sessions: dict[Session, Peer] = {}

    def begin(self, session: Session, now: float) -> None:
        """Let a new session carry what is sent to its peer from now on."""
        peer = self.peers.get(session.peer_id)
        if peer is None:
            peer = self.peers[session.peer_id] = Peer(session, now, {}, session)
        peer.session = session
        peer.heard[session] = now
        self.sessions[session] = peer

    def end(self, session: Session) -> Peer | None:
        """Forget a session, and with its last one the peer; returns the peer, None if unknown."""
        peer = self.sessions.pop(session, None)
        if peer is None:
            return None
        del peer.heard[session]
        if peer.heard:
            peer.session = next(reversed(peer.heard))
        else:
            del self.peers[session.peer_id]
        return peer

    def end_all_but(self, session: Session) -> list[Session]:
        """Forget the other sessions of a peer; returns them."""
        others = [each for each in self.sessions[session].heard if each is not session]
        for each in others:
            self.end(each)
        return others
