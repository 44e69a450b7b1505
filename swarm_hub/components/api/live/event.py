"""An event on its way to clients: turned into JSON once, whoever and how many want it."""

import json
from typing import Any

from swarm_hub.models.event import DurableEvent, EphemeralEvent


class LiveEvent:
    """One event; `seq` is None for a passing one."""

    __slots__ = ("_content", "_messages", "_text", "event_type", "job_id", "node_id", "seq")

    def __init__(self, seq: int | None, job_id: str | None, content: Any) -> None:
        data = content["data"]
        self.seq = seq
        self.event_type: str = content["event_type"]
        self.job_id = job_id
        self.node_id: str | None = data.get("node_id")
        self._content = content
        self._text: bytes | None = None
        self._messages: dict[int, bytes] = {}

    @classmethod
    def durable(cls, event: DurableEvent) -> "LiveEvent":
        """Return a committed event."""
        return cls(event.seq, event.job_id, event.shape())

    @classmethod
    def passing(cls, event: EphemeralEvent, at: float) -> "LiveEvent":
        """Return an event that is not kept."""
        return cls(None, event.data.get("job_id"), event.shape(at))

    def message(self, call_id: int) -> bytes:
        """Return it as a subscription is sent it; most clients subscribe under the same id."""
        found = self._messages.get(call_id)
        if found is None:
            if self._text is None:
                self._text = json.dumps(self._content, separators=(",", ":")).encode()
            found = self._messages[call_id] = b'{"id":%d,"type":"event","event":%b}' % (
                call_id,
                self._text,
            )
        return found
