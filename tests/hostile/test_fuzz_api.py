"""Requests that schemathesis makes of what the hub describes: each is answered as described."""

from pathlib import Path

import pytest

from tests.conftest import Swarm
from tests.fuzz.api import hunt, small_swarm

SEED = 20_261_129
# Of some 40 operations; script/fuzz api tries more.
EXAMPLES = 5
LEAST = 220


# It takes 17 s of CPU time, which a machine that is busy with more spreads over minutes.
@pytest.mark.timeout(300)
async def test_every_answer_is_described_and_none_is_5xx(
    swarm: Swarm, tmp_path: Path, modules: dict[str, bytes]
) -> None:
    hub = await small_swarm(swarm, modules["count"])
    phases = ("examples", "fuzzing", "stateful")
    outcome = await hunt(hub, tmp_path, seed=SEED, examples=EXAMPLES, phases=phases)
    print(outcome)
    assert outcome.findings == [], "\n".join(line[:500] for line in outcome.said.splitlines())
    assert outcome.cases >= LEAST, outcome.said[-2000:]
