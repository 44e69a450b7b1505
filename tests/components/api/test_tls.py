"""TLS: pins, certificates that are renewed under load, and who does not speak it."""

import asyncio
import logging
import ssl
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.cli.options import target
from swarm_hub.cli.swarm import free_port
from swarm_hub.client import ClientError, SwarmClient
from swarm_hub.components.api import tls, tls_listener
from swarm_hub.components.api.self_signed import renew_self_signed
from swarm_hub.const import API_SOCKET, STORAGE_DIR, TLS_CERTIFICATE_FILE, TLS_KEY_FILE
from swarm_hub.exceptions import HubError
from swarm_hub.util.key_pin import pin_of_file
from tests.conftest import RunningHub, Swarm, until


async def started(swarm: Swarm, tls_yaml: str, options: str = "") -> tuple[RunningHub, int]:
    port = free_port()
    yaml = f"gateway:\napi: {{port: {port}, tls: {tls_yaml}{options}}}\n"
    hub = await swarm.start("gateway", yaml, port)
    hub.url = hub.url.replace("http://", "https://")
    return hub, port


def pair(folder: Path, name: str, *, of_key: Path | None = None) -> tuple[Path, Path]:
    """Write a certificate and its key."""
    certificate, key = folder / f"{name}.crt", of_key or folder / f"{name}.key"
    renew_self_signed(certificate, key, {"localhost", "127.0.0.1"}, time.time())
    return certificate, key


def pinned(hub: RunningHub, certificate: Path) -> SwarmClient:
    return SwarmClient(f"{hub.url}#sha256={pin_of_file(certificate).hex()}", hub.token)


async def presented(port: int) -> bytes:
    """Return the certificate that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return found


def der(certificate: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.read_text())


async def test_a_self_signed_certificate_is_known_by_the_hash_of_its_key(swarm: Swarm) -> None:
    hub, port = await started(swarm, "{self_signed: true}", ", allowed_hosts: [box.example.org]")
    certificate = hub.folder / STORAGE_DIR / TLS_CERTIFICATE_FILE
    key = hub.folder / STORAGE_DIR / TLS_KEY_FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    async with pinned(hub, certificate) as client:
        assert (await client.health())["ok"] is True
        await client.ban_network("203.0.113.0/24")
        events = client.events(since=0)
        assert (await anext(events))["event_type"] == "network_banned"
        await events.aclose()
    # Whoever trusts the file needs no pin: it has every name of the hub.
    trusting = ssl.create_default_context(cafile=str(certificate))
    for name in ("localhost", "127.0.0.1", "box.example.org"):
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting,
            server_hostname=name,
        )  # fmt: skip
        writer.close()
        await writer.wait_closed()


async def test_another_key_is_told_nothing(swarm: Swarm, tmp_path: Path) -> None:
    hub, _ = await started(swarm, "{self_signed: true}")
    other, _ = pair(tmp_path, "other")
    with pytest.raises(ClientError, match="another key answers there") as caught:
        async with pinned(hub, other) as client:
            await client.health()
    mine = pin_of_file(hub.folder / STORAGE_DIR / TLS_CERTIFICATE_FILE).hex()
    assert mine in str(caught.value)


async def test_without_its_fingerprint_a_self_signed_certificate_is_not_trusted(
    swarm: Swarm,
) -> None:
    hub, _ = await started(swarm, "{self_signed: true}")
    with pytest.raises(ClientError, match="append the fingerprint that `swarm-hub status` shows"):
        async with SwarmClient(hub.url, hub.token) as client:
            await client.health()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://h:1#sha256=00", "is no fingerprint; expected sha256= and 64 hex digits"),
        ("https://h:1#", "is no fingerprint"),
        (f"http://h:1#sha256={'0' * 64}", "only an address with https:// has a fingerprint"),
    ],
)
def test_a_fingerprint_that_can_not_be_one_is_refused(url: str, told: str) -> None:
    with pytest.raises(ClientError, match=told):
        SwarmClient(url)


async def test_the_command_line_on_the_device_finds_the_fingerprint_by_itself(
    swarm: Swarm,
) -> None:
    hub, _ = await started(swarm, "{self_signed: true}")
    # Without the socket, which it prefers.
    (hub.folder / API_SOCKET).unlink()
    url = target(hub.folder, None, None).url
    assert url.startswith(f"{hub.url}#sha256=")
    async with SwarmClient(url, hub.token) as client:
        assert (await client.health())["ok"] is True


async def test_a_certificate_of_a_known_key_is_renewed_and_its_pin_stays(
    swarm: Swarm, tmp_path: Path
) -> None:
    certificate, key = pair(tmp_path, "mine")
    pin, before = pin_of_file(certificate), certificate.read_bytes()
    for names, later_s, renewed in (
        ({"localhost", "127.0.0.1"}, 0, False),
        ({"localhost", "box.local"}, 0, True),
        ({"localhost", "box.local"}, 330 * 86400, False),
        ({"localhost", "box.local"}, 336 * 86400, True),
    ):
        renew_self_signed(certificate, key, names, time.time() + later_s)
        assert (certificate.read_bytes() != before) is renewed
        assert pin_of_file(certificate) == pin
        before = certificate.read_bytes()


async def test_a_renewed_certificate_is_used_while_every_request_is_answered(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls, "_LOOK_EVERY_S", 0.0)
    certificate, key = pair(tmp_path, "first")
    hub, port = await started(swarm, f"{{certificate: {certificate}, key: {key}}}")
    answered, connections = 0, 0
    stopped = asyncio.Event()

    async def keep_asking() -> None:
        nonlocal answered
        async with pinned(hub, certificate) as client:
            while not stopped.is_set():
                assert (await client.health())["ok"] is True
                answered += 1

    async def keep_connecting() -> None:
        nonlocal connections
        while not stopped.is_set():
            await presented(port)
            connections += 1

    tasks = [asyncio.create_task(keep_asking()) for _ in range(4)]
    tasks.append(asyncio.create_task(keep_connecting()))

    async def passed(count: Callable[[], int]) -> None:
        since = count()

        async def read() -> int:
            return count()

        await until(read, lambda now: now >= since + 5)

    try:
        await passed(lambda: answered)
        assert await presented(port) == der(certificate)
        # Half of a renewal, and nonsense: the old pair stays, and each is said once.
        other, _ = pair(tmp_path, "other")
        first = certificate.read_bytes()
        for broken, why in (
            (other.read_bytes(), "of another certificate"),
            (b"x", "can't be used"),
        ):
            certificate.write_bytes(broken)
            await passed(lambda: connections)
            assert sum(why in line for line in caplog.messages) == 1
        assert await presented(port) == ssl.PEM_cert_to_DER_cert(first.decode())
        certificate.unlink()
        renew_self_signed(certificate, key, {"localhost"}, time.time())
        await passed(lambda: connections)
        assert await presented(port) == der(certificate) != ssl.PEM_cert_to_DER_cert(first.decode())
        await passed(lambda: answered)
    finally:
        stopped.set()
    await asyncio.gather(*tasks)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
async def test_no_version_before_1_2_is_spoken(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, tls_listener.__name__)
    _, port = await started(swarm, "{self_signed: true}")

    async def connect(version: ssl.TLSVersion) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.close()
        await writer.wait_closed()

    await connect(ssl.TLSVersion.TLSv1_2)
    assert "UNSUPPORTED_PROTOCOL" not in caplog.text
    # Before Python 3.12 asyncio keeps the reason for itself.
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await connect(ssl.TLSVersion.TLSv1_1)
    assert "UNSUPPORTED_PROTOCOL" in caplog.text


async def test_who_speaks_http_without_tls_is_told(swarm: Swarm) -> None:
    _, port = await started(swarm, "{self_signed: true}")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /api/v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b'"code":"tls_needed"' in body


@pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
async def test_handshakes_that_do_not_end_are_counted_and_cut(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    monkeypatch.setattr(tls_listener, "_HANDSHAKE_WITHIN_S", 1.0)
    hub, port = await started(swarm, "{self_signed: true}", ", connections_per_ip: 12")
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
    for _, writer in held:
        writer.write(said)

    async def end(reader: asyncio.StreamReader) -> None:
        try:
            await reader.read()
        except ConnectionResetError:
            return

    async with asyncio.timeout(30):
        await asyncio.gather(*(end(reader) for reader, _ in held))
    assert sum("too many of its address" in line for line in caplog.messages) == 1
    async with pinned(hub, hub.folder / STORAGE_DIR / TLS_CERTIFICATE_FILE) as client:
        assert (await client.health())["ok"] is True
    for _, writer in held:
        writer.close()


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda folder: (folder / "a.key").unlink(), r"a\.key: can't be read: No such file"),
        (lambda folder: (folder / "a.crt").write_text("x"), r"a\.crt: the certificate, or its key"),
        (lambda folder: pair(folder, "b")[1].replace(folder / "a.key"), "is of another certific"),
    ],
)
async def test_a_pair_that_can_not_be_used_keeps_the_hub_from_starting(
    swarm: Swarm, tmp_path: Path, break_it: Callable[[Path], Any], told: str
) -> None:
    certificate, key = pair(tmp_path, "a")
    break_it(tmp_path)
    with pytest.raises(HubError, match=told):
        await started(swarm, f"{{certificate: {certificate}, key: {key}}}")


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ("host: 0.0.0.0", True),
        ("host: 0.0.0.0, trusted_proxies: [10.0.0.1]", False),
        ("host: 0.0.0.0, tls: {self_signed: true}", False),
        ("host: 127.0.0.1", False),
        ("host: localhost", False),
    ],
)
async def test_an_api_that_others_can_read_along_with_says_so_once(
    swarm: Swarm, caplog: pytest.LogCaptureFixture, options: str, warned: bool
) -> None:
    port = free_port()
    await swarm.start("gateway", f"gateway:\napi: {{port: {port}, {options}}}\n", port)
    assert sum("without TLS: whoever" in line for line in caplog.messages) == warned


async def test_a_hub_that_runs_for_a_year_renews_its_own_certificate(swarm: Swarm) -> None:
    hub, port = await started(swarm, "{self_signed: true}")
    certificate = hub.folder / STORAGE_DIR / TLS_CERTIFICATE_FILE
    first, client = await presented(port), pinned(hub, certificate)
    assert await presented(port) == first
    hub.clock.offset_s += 336 * 86400
    hub.clock.monotonic_offset_s += 336 * 86400
    assert await presented(port) == der(certificate) != first
    # With the pin of the first one.
    async with client:
        assert (await client.health())["name"] == "gateway"
