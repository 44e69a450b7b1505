"""How the command line on this device speaks with the hub that runs here, whatever its role."""

from swarm_hub.control.client import ask
from swarm_hub.control.commands import ControlCommands, Refused
from swarm_hub.control.server import ControlServer

__all__ = ["ControlCommands", "ControlServer", "Refused", "ask"]
