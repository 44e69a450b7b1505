"""What a transport answers itself of what arrives: credit for its queues, replies to requests."""

from collections.abc import Callable, Sequence
from typing import Final

from swarm_hub.components.mesh.wire.framing import encode_message
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.requests import REPLY, Requests
from swarm_hub.components.mesh.wire.send_queue import SendQueue

CREDIT: Final = "credit"
_OWN: Final = frozenset({CREDIT, REPLY})


def take_own(
    outbox: SendQueue,
    requests: Requests,
    messages: Sequence[Message],
    size_bytes: int,
    wake: Callable[[], None],
) -> Sequence[Message]:
    """Handle the transport's own messages of a burst of `size_bytes`; returns the others.

    `wake` is called when the outbox has something new to send.
    """
    if (taken_bytes := outbox.credits.take(size_bytes)) is not None:
        outbox.put_control(encode_message(CREDIT, {"taken": taken_bytes}), own=True)
        wake()
    if not any(kind in _OWN for kind, _ in messages):
        return messages
    others = []
    for message in messages:
        kind, fields = message
        if kind == CREDIT:
            if outbox.credited(fields.get("taken")):
                wake()
        elif kind == REPLY:
            requests.reply(outbox.peer_id, fields)
        else:
            others.append(message)
    return others
