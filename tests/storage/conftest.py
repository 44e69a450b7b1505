"""Fixtures of the storage tests: a PostgreSQL server."""

from collections.abc import Iterator

import pytest

from tests.postgres import PostgresServer, running_server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Return a running server; each test takes a new database of it."""
    with running_server() as server:
        yield server
