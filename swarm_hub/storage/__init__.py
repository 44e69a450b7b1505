"""The durable store of a hub: one writer with group commit, readers beside it, blobs."""

from swarm_hub.storage.blobs.spool import Spool
from swarm_hub.storage.blobs.store import GrowingBlob
from swarm_hub.storage.engine.space import StoreSpace
from swarm_hub.storage.queries.leases import Fence
from swarm_hub.storage.store import Store, look_at
from swarm_hub.storage.write import Write

__all__ = ["Fence", "GrowingBlob", "Spool", "Store", "StoreSpace", "Write", "look_at"]
