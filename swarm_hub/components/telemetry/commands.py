"""The command that follows the telemetry of nodes."""

from collections.abc import Mapping, Sequence
from typing import Any

from swarm_hub.components.telemetry.board import EVENT, TelemetryBoard
from swarm_hub.endpoints import (
    Command,
    CommandCall,
    EventFilter,
    EventStream,
    Scope,
    StreamBegins,
    text,
)


def subscribe_command(board: TelemetryBoard) -> Command:
    """Return the command."""

    async def subscribe(call: CommandCall) -> EventStream:
        """Send the newest telemetry of every node, or of one, and then what comes."""
        wanted = EventFilter(frozenset({EVENT}), node_id=call.params.get("node_id"))

        async def first() -> Sequence[Mapping[str, Any]]:
            return [
                event.shape(at)
                for at, event in board.heard()
                if wanted.node_id in (None, event.data["node_id"])
            ]

        return EventStream(wanted, first=first)

    params = {"node_id": text(200, min_length=1)}
    return Command("telemetry/subscribe", subscribe, Scope.READ, params, StreamBegins)
