"""Connections to PostgreSQL: the URL is libpq's, settings are told to each session, poolers tested.

What libpq takes in a URL works here: several hosts, `target_session_attrs`, TLS, a service. The
settings of a session are set by a statement, as poolers refuse them, or forget them, at its start.
"""

from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.event import listen
from sqlalchemy.pool import NullPool

from swarm_hub.exceptions import StoreError

PROGRAM: Final = "swarm_hub"
_DEFAULTS: Final = {
    "connect_timeout": 5,  # of each host
    "keepalives_idle": 10,
    "tcp_user_timeout": 10_000,
}
# A hub that freezes in a transaction must not hold its locks against the other gateways. The server
# by itself only ends it between answered statements; the driver sends many at once, and a hub that
# freezes among those counts as active. So it is ended by whoever waits for its locks, or takes its
# jobs over (leases.end_sessions).
_SETTINGS: Final = (
    "SELECT set_config('idle_in_transaction_session_timeout', '5000', false), "
    "set_config('statement_timeout', '60000', false), "
    "set_config('lock_timeout', '5000', false), "
    "set_config('synchronous_commit', 'on', false)"
)
_BACKEND: Final = "SELECT pg_backend_pid()"
_EXAMPLE: Final = "postgresql://user:password@host:port,host:port/database?sslmode=verify-full"
SESSIONS: Final = (
    "gateways need sessions of their own: let storage: url lead to PostgreSQL itself, or to a port "
    "where the pooler has pool_mode = session"
)
# Other clients of the pooler may take a backend between two of ours.
_PROBES: Final = 5
_PORT_MAX: Final = 65_535


def read_url(url: str) -> dict[str, Any]:
    """Return what a URL says, as libpq reads it; raises StoreError for what it does not take."""
    try:
        said = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        message = str(error).strip().partition("\n")[0]
        if "query parameter" not in message:
            # What it quotes may be the password.
            message = message.rpartition(': "')[0] or message
        raise StoreError(
            f"storage: url is none that PostgreSQL's clients take: {message}; expected {_EXAMPLE}"
        ) from None
    # Neither is shown: with an @ or a / in a password both have parts of it.
    if "@" in str(said.get("host", "")):
        raise StoreError(f"storage: url has two @; in a password write %40; expected {_EXAMPLE}")
    if not all(map(_is_port, str(said.get("port", "")).split(","))):
        raise StoreError(
            "storage: url has a port that is no number from 1 to 65535 (in a password write %2F "
            f"for / and %40 for @); expected {_EXAMPLE}"
        )
    return said


def _is_port(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= _PORT_MAX)


def place_of(said: dict[str, Any]) -> str:
    """Return a URL for messages: where it leads, and no password."""
    user = f"{said['user']}@" if "user" in said else ""
    names = str(said.get("host", "")).split(",")
    ports = str(said.get("port", "")).split(",")
    if len(ports) < len(names):
        ports *= len(names)
    # A directory with a socket, and IPv6, as a URL has them.
    shown = [f"[{name}]" if ":" in name else name.replace("/", "%2F") for name in names]
    hosts = ",".join(
        f"{name}:{port}" if port else name for name, port in zip(shown, ports, strict=False)
    )
    return f"postgresql://{user}{hosts}/{said.get('dbname', '')}"


def engine_of(url: str) -> Engine:
    """Return the engine that connects to a URL; each thread keeps the connection it has made."""
    said = read_url(url)
    given = {key: value for key, value in _DEFAULTS.items() if key not in said}

    def connect(
        _dialect: object, _record: object, _args: object, keywords: dict[str, Any]
    ) -> "psycopg.Connection[Any]":
        keywords = {**keywords, **given, "application_name": PROGRAM}
        connection = psycopg.connect(url, autocommit=True, **keywords)
        try:
            connection.execute(_SETTINGS)
            connection.autocommit = False
        except BaseException:
            connection.close()
            raise
        return connection

    # The statements of `prepared` hand their values over by position.
    engine = create_engine("postgresql+psycopg://", poolclass=NullPool, paramstyle="format")
    listen(engine, "do_connect", connect)
    return engine


def refuse_pooler(engine: Engine, connection: Connection, place: str) -> None:
    """Raise StoreError behind a pooler that gives a session another backend for each transaction.

    Locks, names of sessions, LISTEN and prepared statements would get lost there. A pooler is known
    by the process id that it made up for the session. With one connection for each session it may
    stay; whether that is so, its backends tell.
    """
    mine: Any = connection.connection.driver_connection
    if _backend(mine) == mine.info.backend_pid:
        return
    with engine.connect() as second:
        other: Any = second.connection.driver_connection
        ours, others = set(), set()
        for _ in range(_PROBES):
            ours |= {_backend(mine), _backend(mine)}
            others.add(_backend(other))
    if len(ours) > 1 or len(others) > 1 or ours & others:
        raise StoreError(
            f"{place}: a connection pooler answers there that gives each transaction another "
            f"session of the server; {SESSIONS}"
        )


def _backend(driver: "psycopg.Connection[Any]") -> int:
    """Ask in a transaction of its own; a statement that is prepared would be left behind."""
    with driver.transaction():
        (pid,) = driver.execute(_BACKEND, prepare=False).fetchone() or (0,)
    return int(pid)
