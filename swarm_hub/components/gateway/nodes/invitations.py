"""Invitations: links that tell a device where this gateway is, and admit one of them once."""

import secrets
from collections.abc import Sequence
from typing import Final

from swarm_hub.components.gateway.nodes.gateways import Gateways
from swarm_hub.components.gateway.shapes import Invite, NewInvite
from swarm_hub.components.mesh import (
    ADDRESSES_MAX,
    OTHERS_MAX,
    TOKEN_BYTES,
    JoinLink,
    LinkedGateway,
    Mesh,
    hearsay_address,
    parse_dial_address,
    without_loopback,
)
from swarm_hub.components.signer import EnvelopeChannel, token_sha
from swarm_hub.core import Hub
from swarm_hub.exceptions import (
    Conflict,
    InvalidInput,
    JoinLinkError,
    MeshError,
    NotFound,
)
from swarm_hub.models.admission import InviteRecord
from swarm_hub.storage.queries import admission
from swarm_hub.util.clock import isoformat

_EXPIRES_MIN_S: Final = 10.0
_EXPIRES_MAX_S: Final = 30 * 86_400.0
_ID_LENGTH: Final = 16
# How many invitations are kept at one time.
_INVITES_MAX: Final = 10_000


class Invitations:
    """Makes, lists and revokes invitations; only the hash of a token is kept."""

    def __init__(self, hub: Hub, mesh: Mesh, channel: EnvelopeChannel, gateways: Gateways) -> None:
        self._hub = hub
        self._gateways = gateways
        self._mesh = mesh
        self._channel = channel

    async def create(
        self, expires_s: float, addresses: Sequence[str], owner: str | None
    ) -> NewInvite:
        """Return a new invitation with its link; its token is on disk, hashed.

        `addresses` come before this hub's own; all nodes of one `owner` together have one vote on a
        shard. Raises RequestError.
        """
        if not _EXPIRES_MIN_S <= expires_s <= _EXPIRES_MAX_S:
            raise InvalidInput(
                "invalid_expiry",
                f"an invitation is valid for {_EXPIRES_MIN_S:.0f} s to 30 days, "
                f"not {expires_s:g} s",
            )
        now = self._hub.clock.time()
        token = secrets.token_bytes(TOKEN_BYTES)
        link = JoinLink(
            self._hub.name,
            self._mesh.peer_id,
            self._addresses(addresses),
            self._channel.public_key,
            token,
            int(now + expires_s),
            await self._others(),
        )
        try:
            text = link.to_text()
        except JoinLinkError as error:
            raise InvalidInput("invalid_address", str(error)) from error
        if len(await self._hub.store.read(admission.all_invites)) >= _INVITES_MAX:
            raise Conflict("too_many_invites", f"{_INVITES_MAX} invitations are kept; revoke some")
        sha = token_sha(token)
        await self._hub.store.commit(admission.create_invite(sha, now, link.expires_at, owner))
        return {
            "id": sha[:_ID_LENGTH],
            "link": text,
            "expires_at": isoformat(link.expires_at),
            "addresses": list(link.all_addresses),
            "owner": owner,
        }

    async def list(self) -> list[Invite]:
        """Return the invitations that are kept, without their tokens."""
        now = self._hub.clock.time()
        return [
            {
                "id": each.token_sha[:_ID_LENGTH],
                "state": _state(each, now),
                "created_at": isoformat(each.created_at),
                "expires_at": isoformat(each.expires_at),
                "used_at": None if each.used_at is None else isoformat(each.used_at),
                "used_by": each.used_by,
                "owner": each.owner,
            }
            for each in await self._hub.store.read(admission.all_invites)
        ]

    async def revoke(self, invite_id: str) -> None:
        """Remove an invitation; a node that was admitted by it stays. Raises NotFound."""
        known = await self._hub.store.read(admission.all_invites)
        for each in known:
            if each.token_sha[:_ID_LENGTH] == invite_id:
                await self._hub.store.change(admission.revoke_invite, each.token_sha)
                return
        raise NotFound(
            "unknown_invite",
            f"there is no invitation {invite_id}; see: swarm-hub invite --list",
        )

    async def _others(self) -> tuple[LinkedGateway, ...]:
        """Return other gateways of this store: a device that can't reach this one asks them."""
        found = []
        for each in await self._gateways.living():
            told = [hearsay_address(at, each.peer_id, loopback_too=True) for at in each.addresses]
            addresses = tuple(str(at) for at in told if at is not None)
            if each.peer_id != self._mesh.peer_id and each.key and addresses:
                found.append(LinkedGateway(each.peer_id, bytes.fromhex(each.key), addresses))
        return tuple(found[:OTHERS_MAX])

    def _addresses(self, given: Sequence[str]) -> tuple[str, ...]:
        own = self._mesh.addresses()
        known = list(without_loopback(own)) if own else []
        # Home networks are IPv4, and a phone keeps the first address that answers.
        known.sort(key=lambda address: not address.startswith("/ip4/"))
        found = list(dict.fromkeys([*map(self._address, given), *known]))[:ADDRESSES_MAX]
        if not found:
            raise Conflict(
                "no_address",
                "this hub listens on no address that others could dial: see mesh: listen, "
                "or give one with --address",
            )
        return tuple(found)

    def _address(self, text: str) -> str:
        if "/p2p/" not in text:
            text = f"{text}/p2p/{self._mesh.peer_id}"
        try:
            parsed = parse_dial_address(text)
        except MeshError as error:
            raise InvalidInput("invalid_address", str(error)) from error
        if parsed.peer_id != self._mesh.peer_id:
            raise InvalidInput(
                "invalid_address", f"{text} is the address of another hub than this one"
            )
        return str(parsed)


def qr_rows(link: str) -> list[str]:
    """Return a link as a QR code without its margin: a row a text, 1 for a dark square.

    In capitals, which take fewer squares.
    """
    import segno

    return [
        "".join(map(str, row)) for row in segno.make(link.upper(), error="l", micro=False).matrix
    ]


def _state(invite: InviteRecord, now: float) -> str:
    if invite.used_at is not None:
        return "used"
    return "expired" if invite.expires_at <= now else "open"
