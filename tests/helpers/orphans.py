"""Jobs of a gateway that is gone: copies of one that waits, in the store that gateways share."""

from typing import Any

_COPY = """
INSERT INTO jobs ({columns}, id, gateway, epoch)
SELECT {columns}, id || '-' || n, 'ghost', 1 FROM jobs, generate_series(1, {count}) AS n
WHERE id = '{job_id}'
"""
# Those that were taken over, by who has them and how often they have changed hands.
OWNERS = "SELECT gateway, epoch FROM jobs WHERE id LIKE '%%-%%'"
N_LEFT = "SELECT count(*) FROM jobs WHERE gateway = 'ghost'"


def leave_orphans(database: Any, job_id: str, count: int) -> None:
    """Have as many jobs like one that no worker has touched belong to a gateway that is gone."""
    found = database.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'jobs' "
        "AND column_name NOT IN ('id', 'gateway', 'epoch', 'idem_key') "
        "AND table_schema = current_schema()"
    )
    columns = ", ".join(name for (name,) in found)
    database.execute("INSERT INTO gateways (name, epoch, alive_until) VALUES ('ghost', 1, 0)")
    database.execute(_COPY.format(columns=columns, count=count, job_id=job_id))
