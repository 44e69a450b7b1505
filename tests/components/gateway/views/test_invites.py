"""Invitations as who draws them gets them."""

import segno

from tests.conftest import Swarm
from tests.helpers.rest import call

ADDRESS = "/ip4/192.0.2.1/tcp/4001"


async def test_who_asks_for_it_gets_the_link_as_a_qr_code_too(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    status, made = await call(
        gateway, "POST", "/invites", json={"addresses": [ADDRESS], "qr": True}
    )
    assert status == 201
    code = segno.make(made["link"].upper(), error="l", micro=False)
    assert made["qr"] == ["".join(map(str, row)) for row in code.matrix]
    status, made = await call(gateway, "POST", "/invites", json={"addresses": [ADDRESS]})
    assert (status, "qr" in made) == (201, False)
