"""Tasks on Ray: a node of this machine with four CPUs, as `ray.init` starts it."""

import sys
from collections.abc import Sequence
from typing import Any

import ray
from serving import FUNCTIONS, WORKERS, serve


class Ray:
    """A driver with a node of its own."""

    def __init__(self, folder: str) -> None:
        ray.init(
            num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, _temp_dir=folder,
            object_store_memory=256 * 2**20, logging_level="ERROR",
        )  # fmt: skip
        self._functions = {name: ray.remote(function) for name, function in FUNCTIONS.items()}

    def map(self, name: str, shards: Sequence[bytes]) -> list[Any]:
        """Submit a task for each shard and get all results."""
        function = self._functions[name]
        return list(ray.get([function.remote(shard) for shard in shards]))

    def stop(self) -> None:
        """End the node."""
        ray.shutdown()


if __name__ == "__main__":
    serve(lambda: Ray(sys.argv[1]))
