"""Logs who connected and disconnected: once, even for a peer that is refused repeatedly."""

import logging
from typing import Final

_LOGGER = logging.getLogger(__name__)

# A session that ends sooner was most likely refused by the other side.
SETTLED_S: Final = 10.0
_REMEMBERED_MAX: Final = 1024


class PresenceLog:
    """Logs only what is new."""

    def __init__(self) -> None:
        # peer → why its last short session ended, or why we refused it
        self._left: dict[str, str] = {}
        self._refused: dict[str, str] = {}

    def arrived(self, peer_id: str, name: str) -> None:
        """A peer was admitted; one that soon disconnected last time has to stay to be logged."""
        level = logging.DEBUG if peer_id in self._left else logging.INFO
        _LOGGER.log(level, "%s (%s) connected", name, peer_id)
        self._refused.pop(peer_id, None)

    def stayed(self, peer_id: str, name: str) -> None:
        """A peer has been connected for a while."""
        if self._left.pop(peer_id, None) is not None:
            _LOGGER.info("%s (%s) connected", name, peer_id)

    def left(self, peer_id: str, name: str, reason: str, after_s: float) -> None:
        """An admitted peer disconnected."""
        known = self._left.pop(peer_id, None)
        if after_s < SETTLED_S:
            _remember(self._left, peer_id, reason)
        level = logging.DEBUG if after_s < SETTLED_S and known == reason else logging.INFO
        _LOGGER.log(level, "%s (%s) disconnected: %s", name, peer_id, reason)

    def refused(self, peer_id: str, reason: str) -> None:
        """A peer was not admitted."""
        level = logging.DEBUG if self._refused.get(peer_id) == reason else logging.WARNING
        _remember(self._refused, peer_id, reason)
        _LOGGER.log(level, "Refused %s: %s", peer_id, reason)


def _remember(reasons: dict[str, str], peer_id: str, reason: str) -> None:
    reasons[peer_id] = reason
    if len(reasons) > _REMEMBERED_MAX:
        del reasons[next(iter(reasons))]
