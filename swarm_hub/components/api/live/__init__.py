"""The live view: Home Assistant's websocket protocol, with filters, and `since` for durable events.

`clients` lets clients in, `connection` answers one, `fanout` gives each event to the subscriptions
that want it, `replay` what they missed, and `outbox` sends.
"""

from swarm_hub.components.api.live.clients import LiveClients

__all__ = ["LiveClients"]
