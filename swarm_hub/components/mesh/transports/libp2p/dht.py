"""libp2p 0.8.1's Kademlia within bounds: provider records only, among peers with a session.

Of the library's `KadDHT` this uses the answers to others, the routing table and the messages.
Its service is not run: it dials every address it has heard of, and never looks up again what it
found once.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import multiaddr  # type: ignore[import-untyped]
import trio
import varint  # type: ignore[import-untyped]
from libp2p.abc import INetStream
from libp2p.crypto.keys import PrivateKey
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.kad_dht import kad_dht, provider_store
from libp2p.kad_dht.common import BUCKET_SIZE
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.kad_dht.provider_store import ProviderStore
from libp2p.kad_dht.utils import maybe_consume_signed_record
from libp2p.peer.envelope import Envelope
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.peer.peerstore import PeerStore, env_to_send_in_RPC
from libp2p.records.validator import NamespacedValidator
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from swarm_hub.components.mesh.transports.base import PROVIDED_MAX
from swarm_hub.components.mesh.transports.libp2p.metering import Meters
from swarm_hub.components.mesh.wire.metering import Allowance
from swarm_hub.exceptions import MeshError

# A network of our own; the public one of IPFS is /ipfs/kad/1.0.0.
PROTOCOL_ID: Final = TProtocol("/swarm-hub/kad/1.0.0")
# 0.8.1 reads up to 4 MiB; twenty providers and twenty peers, each with its record, take 20 KB.
_MESSAGE_MAX_BYTES: Final = 64 * 1024
_STREAM_TIMEOUT_S: Final = 30.0
_CLOSE_TIMEOUT_S: Final = 0.5
_STREAMS_PER_PEER: Final = 2
# About a hundred questions a second, each with the address record of the asker.
_BYTES_PER_S: Final = 64 * 1024
# 0.8.1 takes ten records in ten seconds, and resets the stream that brings the eleventh.
_RECORDS_PER_10_S: Final = 200
_RECORDS_MAX: Final = 10_000
_ADDRESSES_MAX: Final = 8
_PEERS_KNOWN: Final = 512

_Handler = Callable[[INetStream], Awaitable[None]]


def make_dht(host: BasicHost, is_live: Callable[[str], bool]) -> tuple[KadDHT, "SessionHost"]:
    """Answer lookups from now on; returns the DHT and the only host it knows."""
    for module in (kad_dht, provider_store):
        module.MAX_DHT_MESSAGE_SIZE = _MESSAGE_MAX_BYTES  # type: ignore[attr-defined]
    session_host = SessionHost(host, is_live)
    # Strict, and with no namespace at all: nobody can store a value here.
    nothing = NamespacedValidator({}, strict_validation=True)
    dht = KadDHT(
        session_host,  # type: ignore[arg-type]
        DHTMode.SERVER,
        validator=nothing,
        validator_changed=True,
        strict_validation=True,
    )
    dht.provider_store = BoundedRecords(session_host)
    dht._provider_rate_max = _RECORDS_PER_10_S
    return dht, session_host


async def ask_for_providers(
    host: "SessionHost", peer: ID, key: bytes
) -> tuple[list[PeerInfo], list[ID]]:
    """Return whom a peer knows to have a key, and peers closer to it; raises any error that occurs.

    0.8.1 has this too, but drops the signed records of the closer peers, without which nobody
    can tell where they are.
    """
    own_record, _ = env_to_send_in_RPC(host)  # type: ignore[arg-type]
    question = Message(type=Message.GET_PROVIDERS, key=key, senderRecord=own_record)
    raw = question.SerializeToString()
    stream = await host.new_stream(peer)
    try:
        await stream.write(varint.encode(len(raw)) + raw)
        answer = Message()
        answer.ParseFromString(await read_varint_prefixed_bytes_limited(stream, _MESSAGE_MAX_BYTES))
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(_CLOSE_TIMEOUT_S):
            await stream.close()
    maybe_consume_signed_record(answer, host, peer)  # type: ignore[arg-type]
    providers = [
        PeerInfo(ID(each.id), [multiaddr.Multiaddr(address) for address in each.addrs])
        for each in answer.providerPeers[:BUCKET_SIZE]
    ]
    closer: list[ID] = []
    for each in answer.closerPeers[:BUCKET_SIZE]:
        closer_id = ID(each.id)
        if closer_id != host.get_id() and maybe_consume_signed_record(each, host):  # type: ignore[arg-type]
            closer.append(closer_id)
    return providers, closer


class SessionHost:
    """What the DHT may use of the host: streams to and from peers that have a session."""

    def __init__(self, host: BasicHost, is_live: Callable[[str], bool]) -> None:
        self._host = host
        self._is_live = is_live
        self._peerstore = _NewestRecords(max_records=_PEERS_KNOWN, max_peers=_PEERS_KNOWN)
        self._streams: Counter[str] = Counter()
        # A peer that asks faster is read more slowly; it is not disconnected for it.
        self._meters = Meters(Allowance(1e9, _BYTES_PER_S), lambda _peer_id, _reason: None)
        # Where others reach this hub, without its peer id.
        self.addresses: list[multiaddr.Multiaddr] = []

    def get_id(self) -> ID:
        """This side's peer id."""
        return self._host.get_id()

    def get_addrs(self) -> list[multiaddr.Multiaddr]:
        """The addresses that others are told."""
        return self.addresses

    def get_private_key(self) -> PrivateKey:
        """The key that this side's address record is signed with."""
        return self._host.get_private_key()

    def get_peerstore(self) -> PeerStore:
        """A store of addresses of its own: hearsay must not mix with those that are dialled."""
        return self._peerstore

    def get_connected_peers(self) -> list[ID]:
        """The peers with a session."""
        return [peer for peer in self._host.get_connected_peers() if self._is_live(str(peer))]

    async def new_stream(self, peer: ID, _protocols: Sequence[TProtocol] = ()) -> INetStream:
        """Open a stream to a peer that has a session; nobody is dialled."""
        if not self._is_live(str(peer)):
            raise MeshError(f"peer {peer} is not connected")
        return await self._host.new_stream(peer, [PROTOCOL_ID])

    def set_stream_handler(self, _protocol: TProtocol, handler: _Handler) -> None:
        """Answer on streams of peers that have a session, a few at a time."""

        async def guarded(stream: INetStream) -> None:
            peer_id = str(stream.muxed_conn.peer_id)
            if not self._is_live(peer_id) or self._streams[peer_id] >= _STREAMS_PER_PEER:
                await stream.reset()
                return
            self._streams[peer_id] += 1
            try:
                metered = self._meters.metered(stream, peer_id, lambda _received: 0)
                with trio.move_on_after(_STREAM_TIMEOUT_S) as scope:
                    await handler(metered)
                if scope.cancelled_caught:
                    await stream.reset()
            finally:
                self._streams[peer_id] -= 1
                if not self._streams[peer_id]:
                    del self._streams[peer_id]

        self._host.set_stream_handler(PROTOCOL_ID, guarded)


class BoundedRecords(ProviderStore):
    """Who claims to have what; 0.8.1 keeps as many records as it is told, each for 48 h."""

    def __init__(self, host: Any) -> None:
        super().__init__(host)
        # provider → its keys, the oldest first
        self._keys: dict[str, dict[bytes, None]] = {}
        self._count = 0

    def add_provider(self, key: bytes, provider: PeerInfo) -> None:
        """Keep a record; a provider with too many, or with most when all are, loses its oldest."""
        peer_id = str(provider.peer_id)
        self._forget(peer_id, key)
        super().add_provider(key, PeerInfo(provider.peer_id, provider.addrs[:_ADDRESSES_MAX]))
        if peer_id not in self.providers.get(key, {}):
            return
        keys = self._keys.setdefault(peer_id, {})
        keys[key] = None
        self._count += 1
        if len(keys) > PROVIDED_MAX:
            self._forget(peer_id, next(iter(keys)))
        if self._count > _RECORDS_MAX:
            most = max(self._keys, key=lambda each: len(self._keys[each]))
            self._forget(most, next(iter(self._keys[most])))

    def cleanup_expired(self) -> None:
        """Forget what has expired."""
        for key in tuple(self.providers):
            before = set(self.providers[key])
            self.get_providers(key)
            for peer_id in before - set(self.providers.get(key, {})):
                self._uncount(peer_id, key)

    def _forget(self, peer_id: str, key: bytes) -> None:
        self._uncount(peer_id, key)
        records = self.providers.get(key)
        if records is not None and records.pop(peer_id, None) is not None and not records:
            del self.providers[key]

    def _uncount(self, peer_id: str, key: bytes) -> None:
        keys = self._keys.get(peer_id)
        if keys is None or key not in keys:
            return
        del keys[key]
        self._count -= 1
        if not keys:
            del self._keys[peer_id]


class _NewestRecords(PeerStore):
    """Keeps the newest address record of a peer.

    0.8.1 counts an older one as forged, and with it drops the peer or provider it came for.
    """

    def consume_peer_record(self, envelope: Envelope, ttl: int) -> bool:
        record = envelope.record()
        known = self.peer_record_map.get(record.peer_id)
        if known is not None and known.seq > record.seq:
            return True
        return super().consume_peer_record(envelope, ttl)
