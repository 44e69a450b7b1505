"""`job list` finds jobs as the API does, and `job rerun` repeats one."""

import json
from collections.abc import Awaitable, Callable

from tests.conftest import EXAMPLES, Swarm
from tests.helpers.command_line import Done
from tests.helpers.rest import call

Beside = Callable[..., Awaitable[Done]]
PRIMES = EXAMPLES / "primes" / "primes.wat"


async def test_jobs_are_found_and_one_is_run_once_more(swarm: Swarm, run_beside: Beside) -> None:
    hub = await swarm.gateway()
    here = {"SWARM_HUB_URL": hub.url, "SWARM_HUB_TOKEN": hub.token}
    submit = ("submit", PRIMES, "--range", "0:9")
    named = await run_beside(*submit, "--name", "nightly", "--label", "kind=x", **here)
    plain = await run_beside(*submit, **here)
    first, second = named.out.strip(), plain.out.strip()
    assert (await run_beside("job", "cancel", second, **here)).code == 0
    for options, found in (
        (("--state", "queued,running"), [first]),
        (("--state", "cancelled"), [second]),
        (("--label", "kind=x"), [first]),
        (("--text", "NIGHT"), [first]),
        (("--owner", "nobody"), []),
        (("--since", "1h", "--all"), [second, first]),
    ):
        done = await run_beside("job", "list", *options, "--json", **here)
        assert [each["job_id"] for each in json.loads(done.out)] == found, options
    assert "  nightly  " in (await run_beside("job", "list", **here)).out
    again = await run_beside("job", "rerun", second, **here)
    _, status = await call(hub, "GET", f"/jobs/{again.out.strip()}")
    assert (status["state"], status["progress"]["items"]) == ("queued", 9)
