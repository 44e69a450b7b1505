"""`swarm-hub node`: who works, who is kept from it, and who is kept out."""

import json
from collections.abc import Awaitable, Callable

import pytest

from swarm_hub.components.worker import power_policy
from swarm_hub.const import ADMIN_TOKEN_FILE, STORAGE_DIR
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.command_line import Done
from tests.helpers.programs import first_on_path
from tests.helpers.rest import call

Beside = Callable[..., Awaitable[Done]]


@pytest.fixture
async def gateway(swarm: Swarm) -> RunningHub:
    """A gateway whose directory holds the admin token that `init` would have written."""
    hub = await swarm.gateway()
    (hub.folder / STORAGE_DIR / ADMIN_TOKEN_FILE).write_text(hub.token)
    return hub


async def the_node(gateway: RunningHub) -> tuple[str | None, str | None]:
    """Return (id, state) of the only node."""
    _, body = await call(gateway, "GET", "/nodes")
    (node,) = body["nodes"] or [{"node_id": None, "state": None}]
    return node["node_id"], node["state"]


async def joined(swarm: Swarm, gateway: RunningHub) -> str:
    await swarm.worker("tablet")
    node_id, _ = await until(lambda: the_node(gateway), lambda found: found[1] == "up")
    return str(node_id)


async def test_a_node_is_drained_and_given_work_again(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside
) -> None:
    here = ("-c", gateway.folder)
    node_id = await joined(swarm, gateway)
    done = await run_beside("node", "drain", node_id, "--reason", "a new battery", *here)
    assert (done.code, done.out) == (0, "")
    assert "gets no more work and is drained" in done.err
    listed = await run_beside("node", "list", *here)
    assert listed.out.splitlines()[1].split()[:3] == [node_id, "drained", "tablet"]
    assert "a new battery" in listed.out
    done = await run_beside("node", "undrain", node_id, *here)
    assert (done.code, "gets work again" in done.err) == (0, True)
    assert (await the_node(gateway))[1] == "up"
    unknown = await run_beside("node", "drain", "12D3KooWnobody", *here)
    assert (unknown.code, "there is no node" in unknown.err) == (1, True)


async def test_a_phone_is_listed_with_its_battery_and_network(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power_policy, "_CHECK_EVERY_S", 0.1)
    fake = first_on_path(gateway.folder / "programs", monkeypatch)
    fake.says("termux-battery-status", '{"percentage": 97, "plugged": "PLUGGED_USB", '
              '"temperature": 31.5}')  # fmt: skip
    fake.says("termux-wifi-connectioninfo", '{"supplicant_state": "INACTIVE", "ip": "0.0.0.0"}')
    slower = "worker: {slots: 3, plug: [ac], on_battery: {slots: 2}}\n"
    await swarm.worker("phone", extra=slower)

    async def listed() -> str:
        return (await run_beside("node", "list", "-c", gateway.folder)).out

    text = await until(listed, lambda text: "2 slots" in text)
    assert ", battery 97 % on usb, 32 °C, mobile, metered" in text
    assert "  2 slots (charging by usb, which plug does not name), " in text


async def test_a_ban_for_a_while_shows_its_end(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside
) -> None:
    here = ("-c", gateway.folder)
    node_id = await joined(swarm, gateway)
    done = await run_beside("node", "ban", node_id, "--for", "1h", "--reason", "noisy", *here)
    assert (done.code, f"tablet ({node_id[:16]}) is banned until 20" in done.err) == (0, True)
    for command in ("list", "bans"):
        listed = await run_beside("node", command, *here)
        assert "noisy until 20" in listed.out
    gateway.clock.offset_s += 3601
    listed = await run_beside("node", "bans", *here)
    assert (listed.out, "No node or network is banned" in listed.err) == ("", True)


async def test_a_network_is_banned_listed_and_unbanned(
    gateway: RunningHub, run_beside: Beside
) -> None:
    here = ("-c", gateway.folder)
    done = await run_beside("node", "ban", "10.1.0.0/16", "--reason", "scanners", *here)
    assert (done.code, "10.1.0.0/16 is banned\n" in done.err) == (0, True)
    assert (
        await run_beside("node", "ban", "--network", "fd00::/8", "--for", "1d", *here)
    ).code == 0
    listed = await run_beside("node", "bans", *here)
    first, second = listed.out.splitlines()
    assert first == "10.1.0.0/16  scanners"
    assert second.startswith("fd00::/8  banned by an administrator until 20")
    listed = await run_beside("node", "bans", "--json", *here)
    assert [each["network"] for each in json.loads(listed.out)["networks"]] == [
        "10.1.0.0/16",
        "fd00::/8",
    ]
    assert (await run_beside("node", "unban", "10.1.0.0/16", *here)).code == 0
    again = await run_beside("node", "unban", "10.1.0.0/16", *here)
    assert (again.code, "is not banned" in again.err) == (1, True)


async def test_the_gateways_own_network_is_not_banned_by_accident(
    gateway: RunningHub, run_beside: Beside
) -> None:
    here = ("-c", gateway.folder)
    done = await run_beside("node", "ban", "127.0.0.0/8", *here)
    assert done.code == 1
    assert "this hub's own address 127.0.0.1 is in 127.0.0.0/8" in done.err
    assert (await run_beside("node", "ban", "127.0.0.0/8", "--force", *here)).code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ban",), "name one node or one network"),
        (("ban", "12D3KooWx", "--network", "10.0.0.0/8"), "name one node or one network"),
        (("unban",), "name one node or one network"),
        (("ban", "12D3KooWx", "--for", "soon"), "--for: expected a duration"),
    ],
)
async def test_a_mistake_in_the_command_is_exit_code_2(
    run_beside: Beside, arguments: tuple[str, ...], said: str
) -> None:
    done = await run_beside("node", *arguments, "--url", "http://127.0.0.1:1")
    assert done.code == 2
    assert said in done.err
