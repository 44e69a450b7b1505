"""A day of a phone's battery, as Termux:API tells it, and when the phone works."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from swarm_hub.cli.swarm import LocalHub
from swarm_hub.client import SwarmClient
from tests.conftest import until
from tests.helpers.moved_clock import give_moved_clock, pass_time
from tests.phone.phone import FULL, Phone, node

# The battery is asked once a minute.
ASKED_AGAIN_S = 61
# After most refusals it rests so long, and so long what was said last is believed.
FIVE_MINUTES = 5
# A component by which the phone looks at its rules twice a second instead of every few seconds.
HASTY = """
from swarm_hub.components.worker import power_policy
from swarm_hub.helpers import config_validation as cv

CONFIG_SCHEMA = cv.section({}, dict)
power_policy._CHECK_EVERY_S = 0.5

async def async_setup(hub, config):
    return True
"""


def answer(**changed: Any) -> str:
    """Return what Termux:API prints of a battery that is full and charges, but for this."""
    return json.dumps({**FULL, **changed})


UNPLUGGED = answer(percentage=99, plugged="UNPLUGGED", status="DISCHARGING", current=-350_000)
HOT = answer(temperature=43.5, health="OVERHEAT")
# It takes more than the charger gives.
WEAK = answer(percentage=82, plugged="PLUGGED_USB", status="DISCHARGING", current=-120_000)
CHARGED = answer(percentage=93, status="CHARGING", current=900_000)
SILENT = '{"API_ERROR": "Termux:API is not yet available on Google Play"}'


async def test_a_phone_works_and_rests_as_its_battery_says(
    phone: Phone, gateway: LocalHub, client: SwarmClient, modules: dict[str, bytes]
) -> None:
    home = phone.config_dir / "custom_components" / "hasty"
    home.mkdir(parents=True)
    (home / "__init__.py").write_text(HASTY)
    manifest = {"domain": "hasty", "name": "-", "documentation": "-", "version": "1.0.0"}
    (home / "manifest.json").write_text(json.dumps({**manifest, "dependencies": []}))
    more = give_moved_clock(phone.config_dir) + "hasty:\ntelemetry: {interval: 0.2}\n"
    await phone.join(gateway, client, mesh="  heartbeat: 1\n", more=more)
    phone.start()
    passed_s = 0

    async def refusal() -> Any:
        return (await node(client)).get("refuses", "has not come")

    async def asked() -> int:
        return phone.asked()

    async def after(minutes: int, said: str, right: Callable[[Any], bool]) -> None:
        """Have Termux:API say something else, and some minutes later see what comes of it."""
        nonlocal passed_s
        phone.show_battery(said)
        for _ in range(minutes):
            before = await asked()
            passed_s += ASKED_AGAIN_S
            pass_time(phone.config_dir, passed_s)
            await until(asked, before.__lt__, 30)
        await until(refusal, right, 30)

    def because_of(*reasons: str) -> Callable[[Any], bool]:
        return lambda found: isinstance(found, str) and all(each in found for each in reasons)

    def works(found: Any) -> bool:
        return found is None

    await after(0, answer(), works)
    await after(1, UNPLUGGED, because_of("not charging"))
    job_id = await client.submit(modules["primes"], range(100_000), reduce="sum")
    await after(1, answer(), because_of("resting until", "after: not charging"))
    await after(FIVE_MINUTES, answer(), works)
    async with asyncio.timeout(60):
        assert (await client.wait(job_id))["result"] == 9592
    await after(1, HOT, because_of("warmer than 40 °C"))
    # It cools, but what it uses is more than it gets.
    await after(1, WEAK, because_of("battery below 90 %", "after: warmer than 40 °C"))
    await after(1, CHARGED, because_of("battery not at 95 % again yet"))
    await after(FIVE_MINUTES, SILENT, because_of("the battery can't be read"))
    await after(1, answer(), because_of("resting until", "the battery can't be read"))
    await after(FIVE_MINUTES, answer(), works)
    assert "Traceback" not in phone.log()
