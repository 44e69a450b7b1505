"""The events of a job come once each and in order, whatever happens to the connection."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from swarm_hub.cli import following
from swarm_hub.cli.following import job_events, persistently
from swarm_hub.client import ApiError, ClientError, UnreachableError

KINDS = ("job_queued", "job_running", "shard_assigned", "shard_done", "job_completed")
AWAY = UnreachableError("no hub answers")
STARTING = ApiError(503, "no_gateway", "it starts")
LOST = ClientError("events were lost")
REFUSED = ApiError(401, "unauthorized", "this token is not known here")


def event(seq: int, kind: str, job_id: str = "J") -> dict[str, Any]:
    return {"seq": seq, "event_type": kind, "data": {"job_id": job_id}}


class Unsteady:
    """A client of a gateway where each step fails as it is told, until nothing is left to fail."""

    def __init__(self, *steps: ClientError | int) -> None:
        # A number is how many events are live before the connection ends.
        self._steps = list(steps)
        self._happened = 2

    def _step(self) -> int:
        step = self._steps.pop(0) if self._steps else len(KINDS)
        if isinstance(step, ClientError):
            raise step
        return step

    async def health(self) -> dict[str, Any]:
        self._step()
        return {"last_seq": self._happened}

    async def story(self, job_id: str, after: int) -> list[dict[str, Any]]:
        assert job_id == "J"
        return [event(seq, KINDS[seq - 1]) for seq in range(after + 1, self._happened + 1)][:2]

    async def events(self, since: int, job_id: str) -> AsyncIterator[dict[str, Any]]:
        count = self._step()
        yield {"event_type": "job_progress", "data": {"job_id": job_id}}
        yield event(since + 1, "job_completed", "another")
        for seq in range(since, min(len(KINDS), since + count) + 1):
            self._happened = max(self._happened, seq)
            yield event(seq, KINDS[seq - 1])


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_RETRY_S", 0.0)


@pytest.mark.parametrize(
    "steps",
    [
        (), (AWAY,), (0, AWAY), (0, LOST), (0, 1, 0, 1, 0, 1), (0, 0, 0, 0, 0, 2),
        (STARTING, 0, 1, AWAY, AWAY, 0, LOST),
    ],
)  # fmt: skip
async def test_every_event_comes_once_and_in_order(steps: tuple[ClientError | int, ...]) -> None:
    client: Any = Unsteady(*steps)
    assert [each["event_type"] async for each in job_events(client, "J")] == list(KINDS)


async def test_what_is_no_absence_ends_it() -> None:
    client: Any = Unsteady(0, REFUSED)
    with pytest.raises(ApiError, match="not known here"):
        [each async for each in job_events(client, "J")]
    client = Unsteady(AWAY)
    with pytest.raises(UnreachableError):
        [each async for each in job_events(client, "J", follow=False)]


async def test_an_answer_is_waited_for_but_a_refusal_is_not() -> None:
    client: Any = Unsteady(AWAY, STARTING)
    assert await persistently(client.health) == {"last_seq": 2}
    client = Unsteady(REFUSED)
    with pytest.raises(ApiError):
        await persistently(client.health)
