"""Who has which blob, inside the trio thread: provider records in a Kademlia DHT of the hubs.

A blob's key is the multihash of its SHA-256, as in any libp2p DHT, so a CID leads to it too.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import multiaddr  # type: ignore[import-untyped]
import trio
from libp2p.host.basic_host import BasicHost
from libp2p.kad_dht.common import BUCKET_SIZE
from libp2p.kad_dht.utils import sort_peer_ids_by_distance
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo

from swarm_hub.components.mesh.identity import PeerAddress, hearsay_address, is_peer_id
from swarm_hub.components.mesh.transports.base import PROVIDED_MAX, PROVIDERS_MAX, Provider
from swarm_hub.components.mesh.transports.libp2p.dht import ask_for_providers, make_dht
from swarm_hub.exceptions import MeshError

_LOGGER = logging.getLogger(__name__)

_SHA256_CODE: Final = b"\x12\x20"
_ASK_TIMEOUT_S: Final = 3.0
_WALK_TIMEOUT_S: Final = 8.0
_ASKED_AT_ONCE: Final = 10
_ASKED_MAX: Final = 40
_DIALS_MAX: Final = 4
# The DHT of IPFS keeps a record for 48 h and announces it again every 22 h.
_REPROVIDE_S: Final = 22 * 3600.0
_LOOK_EVERY_S: Final = 60.0
# Announcing takes at most this share of the thread, and sends others no more records than they
# accept.
_ANNOUNCE_SHARE: Final = 0.2
_ANNOUNCE_PAUSE_S: Final = 0.06
_MEET_TRIES: Final = 3
_MEET_AGAIN_S: Final = 1.0
_ADDRESSES_MAX: Final = 4


class Sessions(Protocol):
    """What the content routing needs of the node."""

    def is_live(self, peer_id: str) -> bool:
        """Whether there is a session with this peer."""

    async def dial(self, address: PeerAddress, ips: Sequence[str]) -> None:
        """Ensure a live session with the peer at this address."""


class ContentRouting:
    """Tells the DHT what this hub has, and asks it who has what."""

    def __init__(self, host: BasicHost, sessions: Sessions) -> None:
        self._sessions = sessions
        self._dht, self._host = make_dht(host, sessions.is_live)
        self._records = self._dht.provider_store
        self._loopback_too = False
        # key → when it was announced last, 0: not yet
        self._provided: dict[bytes, float] = {}
        self._wake = trio.Event()

    async def run(self, addresses: Sequence[PeerAddress]) -> None:
        """Announce what is provided, and again before others forget it, until cancelled."""
        self._host.addresses = [multiaddr.Multiaddr(address.location) for address in addresses]
        # A hub that can only be reached from its own device looks for others there.
        self._loopback_too = all(address.is_loopback for address in addresses)
        while True:
            self._wake = trio.Event()
            for key in self._due():
                began = trio.current_time()
                await self._announce(key)
                took_s = trio.current_time() - began
                await trio.sleep(max(_ANNOUNCE_PAUSE_S, took_s / _ANNOUNCE_SHARE - took_s))
            self._records.cleanup_expired()
            with trio.move_on_after(_LOOK_EVERY_S):
                await self._wake.wait()

    # Calls

    async def provide(self, sha: str) -> None:
        """Announce a blob soon, and again until it is withdrawn."""
        key = key_of(sha)
        if key in self._provided:
            return
        if len(self._provided) >= PROVIDED_MAX:
            raise MeshError(f"{PROVIDED_MAX} blobs are provided already, others keep no more")
        self._provided[key] = 0.0
        self._wake.set()

    async def withdraw(self, sha: str) -> None:
        """Stop announcing a blob; the DHT has no message that takes a record back."""
        self._provided.pop(key_of(sha), None)

    async def find(self, sha: str) -> list[Provider]:
        """Return who is said to have a blob: asks the network until it has nothing new to say."""
        key = key_of(sha)
        found: dict[str, Provider] = {}

        def take(infos: Sequence[PeerInfo]) -> None:
            for info in infos:
                provider = self._provider(info)
                if provider is not None and len(found) < PROVIDERS_MAX:
                    known = found.get(provider.peer_id)
                    if known is None or not known.addresses:
                        found[provider.peer_id] = provider

        async def ask(peer: ID) -> list[ID]:
            infos, closer = await ask_for_providers(self._host, peer, key)
            take(infos)
            return closer

        take(self._records.get_providers(key))
        await self._walk(key, ask, lambda: len(found) >= PROVIDERS_MAX)
        return list(found.values())

    # Sessions

    async def meet(self, peer_id: str, gone: trio.Event) -> None:
        """Tell a new peer, if it takes part, what this hub provides; ask it until it leaves."""
        peer = ID.from_string(peer_id)
        for _ in range(_MEET_TRIES):
            if gone.is_set():
                return
            if await self._takes_part(peer):
                break
            await trio.sleep(_MEET_AGAIN_S)
        else:
            return
        table = self._dht.routing_table
        await table.add_peer(PeerInfo(peer, []), skip_server_mode_check=True)
        for key in tuple(self._provided):
            if gone.is_set():
                break
            if key in self._provided and peer in table.find_local_closest_peers(key, BUCKET_SIZE):
                await self._tell(peer, key)
                await trio.sleep(_ANNOUNCE_PAUSE_S)
        await gone.wait()
        if not self._sessions.is_live(peer_id):
            table.remove_peer(peer)

    async def _takes_part(self, peer: ID) -> bool:
        try:
            with trio.fail_after(_ASK_TIMEOUT_S):
                # With each question both sides tell their signed addresses, so that others can be
                # told.
                await ask_for_providers(self._host, peer, self._host.get_id().to_bytes())
        # The library wraps a refusal of the protocol in several kinds of exceptions.
        except Exception:
            return False
        return True

    # The DHT

    def _due(self) -> list[bytes]:
        before = time.time() - _REPROVIDE_S
        return [key for key, announced_at in self._provided.items() if announced_at < before]

    async def _announce(self, key: bytes) -> None:
        """Tell the peers closest to a key, among those that can be found."""

        async def ask(peer: ID) -> list[ID]:
            _, closer = await ask_for_providers(self._host, peer, key)
            return closer

        for peer in await self._walk(key, ask, lambda: False):
            await self._tell(peer, key)
        if key in self._provided:
            # Also when nobody is connected: `meet` tells those who come later.
            self._provided[key] = time.time()

    async def _tell(self, peer: ID, key: bytes) -> None:
        with trio.move_on_after(_ASK_TIMEOUT_S):
            await self._records._send_add_provider(peer, key)

    async def _walk(
        self, key: bytes, ask: Callable[[ID], Awaitable[list[ID]]], enough: Callable[[], bool]
    ) -> list[ID]:
        """Ask peers closer and closer to a key; returns the closest of those asked.

        Peers without a session are dialled as far as their signed records tell where.
        """
        candidates = self._dht.routing_table.find_local_closest_peers(key, BUCKET_SIZE)
        asked: list[ID] = []
        unreached: set[ID] = set()

        async def ask_one(peer: ID) -> None:
            try:
                with trio.move_on_after(_ASK_TIMEOUT_S):
                    for closer in await ask(peer):
                        if closer not in asked and closer not in unreached:
                            candidates.append(closer)
            # A peer that breaks off or answers nonsense has told nothing.
            except Exception as error:
                _LOGGER.debug("Peer %s did not say who has a blob: %r", peer, error)

        with trio.move_on_after(_WALK_TIMEOUT_S):
            while candidates and len(asked) < _ASKED_MAX and not enough():
                nearest = sort_peer_ids_by_distance(key, list(dict.fromkeys(candidates)))
                batch, candidates = nearest[:_ASKED_AT_ONCE], nearest[_ASKED_AT_ONCE:BUCKET_SIZE]
                async with trio.open_nursery() as nursery:
                    for peer in batch:
                        if peer in asked:
                            continue
                        if self._sessions.is_live(str(peer)) or (
                            len(unreached) < _DIALS_MAX and await self._reach(peer)
                        ):
                            asked.append(peer)
                            nursery.start_soon(ask_one, peer)
                        else:
                            unreached.add(peer)
        return sort_peer_ids_by_distance(key, asked)[:BUCKET_SIZE]

    async def _reach(self, peer: ID) -> bool:
        """Get a session with a peer that another one named."""
        try:
            known = self._host.get_peerstore().addrs(peer)
        except KeyError:
            return False
        for address in self._addresses(str(peer), known):
            try:
                with trio.move_on_after(_ASK_TIMEOUT_S):
                    await self._sessions.dial(address, [address.host])
            except MeshError as error:
                _LOGGER.debug("Can't ask %s who has a blob: %s", peer, error)
        return self._sessions.is_live(str(peer))

    def _provider(self, info: PeerInfo) -> Provider | None:
        peer_id = str(info.peer_id)
        if info.peer_id == self._host.get_id() or not is_peer_id(peer_id):
            return None
        return Provider(peer_id, tuple(map(str, self._addresses(peer_id, info.addrs))))

    def _addresses(self, peer_id: str, told: Sequence[multiaddr.Multiaddr]) -> list[PeerAddress]:
        """Return those of a peer's addresses that this hub may dial on another peer's word."""
        found: list[PeerAddress] = []
        for each in told[: 2 * _ADDRESSES_MAX]:
            try:
                text = str(each)
            # The bytes came from a peer, and the library raises many kinds of errors for bad ones.
            except Exception:
                _LOGGER.debug("Peer %s is said to be at an address that is none", peer_id)
                continue
            address = hearsay_address(text, peer_id, loopback_too=self._loopback_too)
            if address is not None and address not in found:
                found.append(address)
        return found[:_ADDRESSES_MAX]


def key_of(sha: str) -> bytes:
    """Return the key of a blob in the DHT: the multihash of its SHA-256."""
    return _SHA256_CODE + bytes.fromhex(sha)
