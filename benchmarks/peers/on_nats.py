"""Tasks on NATS JetStream, as one would write it by hand: a work queue and a stream of results.

`on_nats.py URL` is a client with four workers, `on_nats.py URL worker` one of the workers. The
server is already running. A task is acknowledged when the stream has it, and taken off the queue
when the stream of results has its result.
"""

import asyncio
import pickle
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import nats
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType, StreamConfig
from serving import FUNCTIONS, WORKERS, serve

_AT_ONCE = 256
_WITHIN_S = 30


class Nats:
    """A client, in a loop of its own thread, and the workers it started."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._results: dict[int, dict[int, Any]] = defaultdict(dict)
        self._here = asyncio.Event()
        self._number = 0
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._do(self._connect(url))
        self._workers = [
            subprocess.Popen([sys.executable, __file__, url, "worker"]) for _ in range(WORKERS)
        ]

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _connect(self, url: str) -> None:
        self._connection = await nats.connect(url)
        self._stream = self._connection.jetstream(timeout=_WITHIN_S)
        await self._stream.add_stream(
            StreamConfig("tasks", subjects=["task"], retention=RetentionPolicy.WORK_QUEUE,
                         storage=StorageType.FILE)
        )  # fmt: skip
        await self._stream.add_stream(
            StreamConfig("results", subjects=["result"], storage=StorageType.FILE)
        )
        await self._stream.add_consumer(
            "tasks", ConsumerConfig("workers", ack_policy=AckPolicy.EXPLICIT, max_ack_pending=4096)
        )
        await self._stream.subscribe("result", ordered_consumer=True, cb=self._result)

    async def _result(self, message: Any) -> None:
        job, index, value = pickle.loads(message.data)
        self._results[job][index] = value
        self._here.set()

    async def _map(self, name: str, shards: Sequence[bytes]) -> list[Any]:
        self._number += 1
        job = self._number
        for first in range(0, len(shards), _AT_ONCE):
            part = enumerate(shards[first : first + _AT_ONCE], first)
            tasks = [pickle.dumps((job, index, name, shard)) for index, shard in part]
            await asyncio.gather(*(self._stream.publish("task", task) for task in tasks))
        while len(self._results[job]) < len(shards):
            self._here.clear()
            await self._here.wait()
        found = self._results.pop(job)
        return [found[index] for index in range(len(shards))]

    def map(self, name: str, shards: Sequence[bytes]) -> list[Any]:
        """Publish a task for each shard and wait for all results."""
        return list(self._do(self._map(name, shards)))

    def stop(self) -> None:
        """End the workers and the connection."""
        for worker in self._workers:
            worker.terminate()
        self._do(self._connection.close())


async def _work(url: str) -> None:
    connection = await nats.connect(url)
    stream = connection.jetstream(timeout=_WITHIN_S)
    queue = await stream.pull_subscribe_bind("workers", "tasks")
    while True:
        try:
            messages = await queue.fetch(1, timeout=_WITHIN_S)
        except nats.errors.TimeoutError:
            continue
        for message in messages:
            job, index, name, shard = pickle.loads(message.data)
            value = FUNCTIONS[name](shard)
            await stream.publish("result", pickle.dumps((job, index, value)))
            await message.ack()


if __name__ == "__main__":
    if sys.argv[2:] == ["worker"]:
        asyncio.run(_work(sys.argv[1]))
    else:
        serve(lambda: Nats(sys.argv[1]))
