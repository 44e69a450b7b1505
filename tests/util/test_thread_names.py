"""The names of threads, as the kernel has them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from swarm_hub.util.thread_names import show_name


def name_in_kernel() -> str:
    return Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text().strip()


def test_a_thread_of_a_pool_is_named_as_the_pool_is() -> None:
    with ThreadPoolExecutor(1, "store-writer", initializer=show_name) as pool:
        assert pool.submit(name_in_kernel).result() == "store-writer_0"


def test_a_long_name_is_cut() -> None:
    with ThreadPoolExecutor(1, "a very long name indeed", initializer=show_name) as pool:
        assert pool.submit(name_in_kernel).result() == "a very long nam"
