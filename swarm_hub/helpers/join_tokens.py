"""The tokens with which this hub asks gateways to admit it, in a private file."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from swarm_hub.exceptions import HubError
from swarm_hub.util.files import write_atomic


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A token for one gateway, in hex; useless once it was used or has expired."""

    gateway: str
    token: str
    expires_at: float


def read_join_tokens(path: Path) -> dict[str, bytes]:
    """Return gateway → token."""
    return {each.gateway: bytes.fromhex(each.token) for each in _read(path)}


def keep_join_token(path: Path, token: JoinToken, now: float) -> None:
    """Add a token, replacing an older one for its gateway, and drop those that have expired."""
    kept = [each for each in _read(path) if each.gateway != token.gateway and each.expires_at > now]
    content = [asdict(each) for each in (*kept, token)]
    write_atomic(path, json.dumps(content, indent=1).encode(), mode=0o600)


def _read(path: Path) -> list[JoinToken]:
    try:
        return [JoinToken(**plain) for plain in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise HubError(
            f"{path}: can't be read ({error}); delete it, and join again with a new invitation"
        ) from error
