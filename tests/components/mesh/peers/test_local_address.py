"""Sessions whose address here is gone, as on a phone that changes its network."""

import asyncio
import errno
import socket
from typing import Any

import pytest

from swarm_hub.components.mesh.peers.local_address import (
    AddressNews,
    LocalAddresses,
    is_here,
    source_towards,
)


class Device:
    """A device with addresses, one of which leads to the outside."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    def source(self, _host: str) -> str | None:
        return self.addresses[0] if self.addresses else None

    def here(self, address: str) -> bool:
        return address in self.addresses


class _Session:
    def __init__(self, address: str) -> None:
        self.address = address


def session(address: str) -> Any:
    return _Session(address)


@pytest.fixture
def device() -> Device:
    return Device("10.0.0.2")


@pytest.fixture
def addresses(device: Device) -> LocalAddresses:
    return LocalAddresses(device.source, device.here)


def test_a_session_whose_address_went_for_another_has_moved(
    device: Device, addresses: LocalAddresses
) -> None:
    far = session("/ip4/10.9.9.9/tcp/4001")
    addresses.began(far)
    assert addresses.moved() == []
    device.addresses = ["192.168.1.7"]
    assert addresses.moved() == [far]
    addresses.ended(far)
    assert addresses.moved() == []


def test_a_session_stays_while_its_address_does(device: Device, addresses: LocalAddresses) -> None:
    addresses.began(session("/ip4/10.9.9.9/tcp/4001"))
    # Wi-Fi beside the modem: what goes over the modem still works.
    device.addresses = ["192.168.1.7", "10.0.0.2"]
    assert addresses.moved() == []


def test_a_network_that_is_gone_may_come_back(device: Device, addresses: LocalAddresses) -> None:
    far = session("/ip4/10.9.9.9/tcp/4001")
    addresses.began(far)
    device.addresses = []
    assert addresses.moved() == []
    device.addresses = ["10.0.0.2"]
    assert addresses.moved() == []
    device.addresses = ["10.0.0.3"]
    assert addresses.moved() == [far]


@pytest.mark.parametrize(
    "address", ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/memory/0", "", "/ip4/nonsense/tcp/1"]
)
def test_what_stays_on_this_device_or_is_no_ip_is_left_alone(
    device: Device, addresses: LocalAddresses, address: str
) -> None:
    addresses.began(session(address))
    device.addresses = ["192.168.1.7"]
    assert addresses.moved() == []


def test_a_session_that_began_without_a_way_out_is_left_alone(
    device: Device, addresses: LocalAddresses
) -> None:
    device.addresses = []
    addresses.began(session("/ip4/10.9.9.9/tcp/4001"))
    device.addresses = ["192.168.1.7"]
    assert addresses.moved() == []


def test_this_device_knows_its_own_addresses() -> None:
    assert is_here("127.0.0.1")
    # RFC 5737: for documentation, nobody's.
    assert not is_here("192.0.2.1")
    assert source_towards("127.0.0.1") == "127.0.0.1"


async def test_what_the_kernel_says_is_a_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    news = AddressNews()
    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "bind", lambda *_: None)
        patch.setattr(socket, "socket", lambda *_: ours)
        assert news.open()
    kernels.send(b"an address came")
    async with asyncio.timeout(30):
        await news.sign.wait()
    news.close()
    assert ours.fileno() == -1
    kernels.close()


async def test_this_kernel_lets_us_listen() -> None:
    news = AddressNews()
    assert news.open()
    assert not news.sign.is_set()
    news.close()


@pytest.mark.parametrize("step", ["socket", "bind"])
def test_where_the_kernel_tells_nothing_that_is_said(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "as on Android")

    news = AddressNews()
    with monkeypatch.context() as patch:
        patch.setattr(socket if step == "socket" else socket.socket, step, refuse)
        assert not news.open()
    news.close()
