"""What components offer to clients: views (REST) and commands (websocket), free of any server.

A component registers them in `hub.endpoints` while it is set up; `api` serves whatever is there.
"""

from typing import TYPE_CHECKING

from swarm_hub.endpoints.command import REPLIED, Command, CommandCall, Connection
from swarm_hub.endpoints.events import (
    EventFilter,
    EventStream,
    JobFacts,
    JobKnowledge,
    StreamBegins,
    StreamEnd,
)
from swarm_hub.endpoints.fields import Prefixed, flag, point_in_time, text, whole_number, words
from swarm_hub.endpoints.registry import Endpoints
from swarm_hub.endpoints.request import Caller, Part, Request, Scope
from swarm_hub.endpoints.view import (
    ANY_TYPE,
    Answer,
    Blob,
    Events,
    Json,
    Lines,
    RawBody,
    Success,
    Unchanged,
    View,
)
from swarm_hub.endpoints.view_command import CommandRequest, view_command
from swarm_hub.util.extras import of_gateways

if TYPE_CHECKING:
    from swarm_hub.endpoints.place import Place

# A hub without the page needs none.
__getattr__ = of_gateways(__name__, {"Place": "place"})

__all__ = [
    "ANY_TYPE",
    "REPLIED",
    "Answer",
    "Blob",
    "Caller",
    "Command",
    "CommandCall",
    "CommandRequest",
    "Connection",
    "Endpoints",
    "EventFilter",
    "EventStream",
    "Events",
    "JobFacts",
    "JobKnowledge",
    "Json",
    "Lines",
    "Part",
    "Place",
    "Prefixed",
    "RawBody",
    "Request",
    "Scope",
    "StreamBegins",
    "StreamEnd",
    "Success",
    "Unchanged",
    "View",
    "flag",
    "point_in_time",
    "text",
    "view_command",
    "whole_number",
    "words",
]
