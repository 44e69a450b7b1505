"""Who may join a gateway as a node: the policies, and the record of an invitation."""

from dataclasses import dataclass
from enum import StrEnum


class AdmissionPolicy(StrEnum):
    """Whom a gateway admits by itself."""

    OPEN = "open"  # everybody whose hello is in order
    TOKEN = "token"  # whoever brings an unused invitation
    MANUAL = "manual"  # nobody: an administrator approves each


class Verdict(StrEnum):
    """What a gateway says to a node that wants to join."""

    ADMITTED = "admitted"
    WITHOUT_INVITE = "without_invite"
    UNKNOWN_INVITE = "unknown_invite"
    EXPIRED_INVITE = "expired_invite"
    USED_INVITE = "used_invite"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Applicant:
    """A node that wants to join; its hello was checked."""

    peer_id: str
    name: str
    kid: str
    public_key: bytes
    token_sha: str | None


@dataclass(frozen=True, slots=True)
class InviteRecord:
    """An invitation as it is stored, under the hash of its token; times are seconds."""

    token_sha: str
    created_at: float
    expires_at: float
    used_at: float | None
    used_by: str | None
    # The owner of the devices that the link is for.
    owner: str | None = None
