"""How the command line on this device speaks with the hub that runs here, whatever its role.

What a hub has no use for, the client, is imported from `swarm_hub.control.client`.
"""

from swarm_hub.control.commands import ControlCommands, Refused
from swarm_hub.control.server import ControlServer

__all__ = ["ControlCommands", "ControlServer", "Refused"]
