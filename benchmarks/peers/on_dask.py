"""Tasks on Dask: a scheduler in the client's process, four workers of one thread each."""

import sys
from collections.abc import Sequence
from typing import Any

from dask import config
from distributed import Client, LocalCluster
from serving import FUNCTIONS, WORKERS, serve


class Dask:
    """A client with a cluster of its own."""

    def __init__(self, folder: str) -> None:
        config.set({"distributed.worker.memory.terminate": False})
        self._cluster = LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, memory_limit=0,
            local_directory=folder,
        )  # fmt: skip
        self._client = Client(self._cluster)

    def map(self, name: str, shards: Sequence[bytes]) -> list[Any]:
        """Submit a task for each shard and gather all results."""
        futures = self._client.map(FUNCTIONS[name], shards, pure=False)
        return list(self._client.gather(futures))

    def stop(self) -> None:
        """End the cluster."""
        self._client.close()
        self._cluster.close()


if __name__ == "__main__":
    serve(lambda: Dask(sys.argv[1]))
