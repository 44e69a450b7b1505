"""A component that has a worker lie; tests/helpers/lying.py puts it into the worker's directory.

Only the answer is wrong. Keys, signatures, the hash of the input, times and failures are those of
an honest worker, so nothing but another worker's answer can tell.
"""

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import voluptuous as vol

from swarm_hub.components.sandbox import OK, SANDBOX, Call, CallResult
from swarm_hub.core import Hub
from swarm_hub.helpers import config_validation as cv

_LAST_NUMBER: Final = re.compile(rb"(?s)(.*?)(\d+)(\D*)\Z")
_OFFSETS: Final = 999_999


@dataclass(frozen=True, slots=True)
class LiarConfig:
    """`liar:`: about which part of the inputs it lies, and whether all liars tell the same lie.

    Those that collude lie about the same inputs, too; the others choose each for itself. The first
    `honest_first` answers are true, to win trust.
    """

    share: float
    colluding: bool
    seed: int
    honest_first: int


CONFIG_SCHEMA = cv.section(
    {
        vol.Optional("share", default=1.0): cv.number(0, 1),
        vol.Optional("colluding", default=False): cv.boolean,
        vol.Optional("seed", default=0): cv.integer(0, 2**31),
        vol.Optional("honest_first", default=0): cv.integer(0, 10**6),
    },
    LiarConfig,
)


async def async_setup(hub: Hub, config: LiarConfig) -> bool:
    """Stand between the sandbox and the worker."""
    sandbox = hub.services[SANDBOX].sandbox
    honest = sandbox.run
    answers = itertools.count()

    async def run(
        call: Call, body: bytes, load_wasm: Callable[[], Awaitable[bytes]], **keys: Any
    ) -> CallResult:
        outcome = await honest(call, body, load_wasm, **keys)
        if outcome.code != OK or next(answers) < config.honest_first:
            return outcome
        return dataclasses.replace(outcome, output=told(config, hub.name, body, outcome.output))

    sandbox.run = run  # type: ignore[method-assign]
    return True


def told(config: LiarConfig, name: str, body: bytes, truth: bytes) -> bytes:
    """Return what the liar of that name answers for an input: the truth, or another number."""
    mind = f"{config.seed} {'' if config.colluding else name} ".encode()
    drawn = hashlib.sha256(mind + body).digest()
    if int.from_bytes(drawn[:4], "big") >= config.share * 2**32:
        return truth
    offset = 1 + int.from_bytes(drawn[4:], "big") % _OFFSETS
    number = _LAST_NUMBER.match(truth)
    if number is None:
        return truth + b"%d" % offset
    return number[1] + b"%d" % (int(number[2]) + offset) + number[3]
