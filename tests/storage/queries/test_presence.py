"""A gateway that was killed loses its lease at once, one that is only slow keeps it."""

from pathlib import Path

from sqlalchemy import Connection

from swarm_hub.models.presence import Presence
from swarm_hub.storage import Store
from swarm_hub.storage.queries import leases, presence
from swarm_hub.util.clock import Clock
from tests.conftest import until

LEASE_S, QUIET_S = 60.0, 3.0


def register(connection: Connection, gateway: str, lease_s: float) -> None:
    [row] = leases.register(gateway, leases.store_now(connection) + lease_s).rows
    connection.execute(leases.register(gateway, 0.0).statement, row)


async def test_only_the_lease_of_a_quiet_gateway_without_a_session_is_ended(
    tmp_path: Path, postgres_url: str
) -> None:
    stores = {name: Store.at(postgres_url, tmp_path, Clock()) for name in ("quiet", "looks")}
    for name, store in stores.items():
        await store.open()
        await store.introduce(name)
    looks = stores["looks"]
    await looks.change(register, "looks", LEASE_S)
    # It has not renewed it for longer than `QUIET_S`.
    await looks.change(register, "quiet", LEASE_S - QUIET_S - 1)
    kept = await looks.change(presence.keep, Presence("looks"), LEASE_S, QUIET_S)
    assert ([*kept.quiet], kept.held) == (["quiet"], True)

    async def ended(server_up_s: float = 0.0) -> list[str]:
        return await looks.change(presence.end_leases, "looks", kept.quiet, server_up_s)

    assert await ended() == []
    await stores["quiet"].close()
    # A server that has just begun has not heard of all yet.
    assert await ended(1e9) == []
    assert await until(ended, bool) == ["quiet"]
    assert [each.peer_id for each in await looks.read(presence.living)] == ["looks"]
    # Were it alive, it would learn of it.
    kept = await looks.change(presence.keep, Presence("quiet"), LEASE_S, QUIET_S)
    assert not kept.held
    await looks.close()
