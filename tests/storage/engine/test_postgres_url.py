"""What `storage: url` may say of PostgreSQL, what is refused, and roles of the server."""

import asyncio
import subprocess
import time
from pathlib import Path

import psycopg
import pytest

from swarm_hub.exceptions import StoreError
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.storage import Store
from swarm_hub.storage.store import look_at
from swarm_hub.util.clock import Clock
from tests.helpers.pooler import running_pooler
from tests.helpers.postgres import PostgresServer

EVENT = NewEvent(EventType.COMPONENT_FAILED, {"number": 1})


async def look(url: str) -> None:
    """Look at a store as `swarm-hub check` does."""
    await asyncio.to_thread(look_at, url, Path(), was_made=False, in_use=False)


async def open_and_write(url: str, folder: Path) -> None:
    store = Store.at(url, folder, Clock())
    await store.open()
    await store.commit([], [EVENT])
    await store.close()


async def test_the_first_of_several_hosts_that_takes_writes_is_used(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    name = postgres_url.rpartition("/")[2]
    port = postgres_server.port
    # Nothing listens on the discard port.
    url = f"postgresql://hub@127.0.0.1:9,127.0.0.1:{port}/{name}?target_session_attrs=read-write"
    await look(url)
    await open_and_write(url, tmp_path)
    standby = url.replace("read-write", "standby")
    with pytest.raises(StoreError, match="is not in hot standby"):
        await look(standby)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://hub:secret@db:5432,db:54x/d", "has a port that is no number from 1"),
        ("postgresql://hub:secret@db:99999/d", "has a port that is no number from 1"),
        ("postgresql://hub:secret/more@db/d", "in a password write %2F for / and %40 for @"),
        ("postgresql://hub:secret@db/d?sslmod=require",
         "none that PostgreSQL's clients take: invalid URI query parameter: \"sslmod\"; expected"),
        ("postgresql://hub:secret@127.0.0.1:9/d?sslmode=requir", "invalid sslmode value"),
        ("postgresql://hub:secret%zz@db/d", "take: invalid percent-encoded token; expected"),
        ("postgresql://hub:secret@rest@db/d", "two @; in a password write %40"),
        ("postgresql://hub:secret@[::1/d", "IPv6 host address in URI; expected"),
    ],
)  # fmt: skip
async def test_a_wrong_url_is_told_without_its_password(url: str, said: str) -> None:
    with pytest.raises(StoreError) as caught:
        await look(url)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_pooler_that_shares_sessions_is_refused(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    """The pooler is one of the tests; with PgBouncer 1.18 the same was seen by hand."""
    async with running_pooler(postgres_server.port) as port:
        url = postgres_url.replace(str(postgres_server.port), str(port))
        for attempt in (look(url), open_and_write(url, tmp_path)):
            with pytest.raises(StoreError, match="let storage: url lead to PostgreSQL itself"):
                await attempt
    async with running_pooler(postgres_server.port, transactions=False) as port:
        await open_and_write(postgres_url.replace(str(postgres_server.port), str(port)), tmp_path)


def make_certificates(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for `localhost` that signs itself; returns it and its key."""
    certificate, key = folder / "server.crt", folder / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-days", "2", "-out", certificate, "-keyout", key],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


async def test_the_server_is_known_by_its_certificate(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    certificate, key = make_certificates(tmp_path)
    postgres_server.serve_tls(certificate, key)
    try:
        strict = postgres_url.replace("127.0.0.1", "localhost") + "?sslmode=verify-full"
        until = time.monotonic() + 10
        while True:
            try:
                await look(f"{strict}&sslrootcert={certificate}")
                break
            except StoreError:
                # The server takes its settings a moment after it was told to.
                assert time.monotonic() < until
        await open_and_write(f"{strict}&sslrootcert={certificate}", tmp_path)
        with pytest.raises(StoreError, match="root certificate file"):
            await look(f"{strict}&sslrootcert={tmp_path / 'none'}")
        other = postgres_url + f"?sslmode=verify-full&sslrootcert={certificate}"
        with pytest.raises(StoreError, match="does not match host name"):
            await look(other)
    finally:
        postgres_server.serve_tls(None, None)


async def test_a_session_is_told_what_keeps_a_frozen_gateway_from_harm(
    postgres_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("ALTER ROLE hub SET lock_timeout = '1h'")
    store = Store.at(postgres_url, tmp_path, Clock())
    try:
        await store.open()
        found = await store.read(
            lambda connection: [
                connection.exec_driver_sql(f"SHOW {name}").scalar_one()
                for name in ("lock_timeout", "idle_in_transaction_session_timeout")
            ]
        )
        await store.close()
    finally:
        with psycopg.connect(postgres_url) as connection:
            connection.execute("ALTER ROLE hub RESET lock_timeout")
    assert found == ["5s", "5s"]
