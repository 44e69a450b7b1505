"""How ids, times and counts are written for people; programs read them with `--json`."""

import sys
import time
from datetime import datetime
from typing import Final

from swarm_hub.util.units import format_duration

# Every peer id with an Ed25519 key begins with the first eight of these characters.
_NODE_ID_CHARS: Final = 16
_SHA_CHARS: Final = 12
_MINUTE_S: Final = 60


def local_time(text: str) -> str:
    """Render a time of the API in the time zone of this device."""
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"


def age(text: str) -> str:
    """Render how long ago a time of the API was, in whole numbers of its largest unit."""
    since_s = max(0.0, time.time() - datetime.fromisoformat(text).timestamp())
    if since_s < _MINUTE_S:
        return f"{since_s:.0f} s"
    number, unit, *_ = format_duration(since_s).split()
    return f"{number} {unit}"


def short_node_id(node_id: str) -> str:
    """Return the beginning of a peer id; commands take it wherever it fits one node alone."""
    return node_id[:_NODE_ID_CHARS]


def node_id_for_people(node_id: str) -> str:
    """Return a peer id as it is shown: short on a terminal, whole for another program."""
    return short_node_id(node_id) if sys.stdout.isatty() else node_id


def short_sha(sha: str) -> str:
    """Return the beginning of a hash."""
    return sha[:_SHA_CHARS]


def share(done: int, of: int | None) -> str:
    """Render how much is done, such as `70/1,000 7%`."""
    if not of:
        return f"{done:,}"
    return f"{done:,}/{of:,} {100 * done // of}%"
