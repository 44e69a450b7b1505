"""A hub whose configuration can't be used helps to mend it, and then goes on with its jobs."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from swarm_hub.cli.swarm import LocalHub, LocalSwarm, free_port
from swarm_hub.const import LAST_GOOD_FILE, SIGNER_KEY_FILE, STORAGE_DIR, TOKENS_FILE
from swarm_hub.control.client import ask
from swarm_hub.helpers.tokens import TokenFile
from tests.conftest import Swarm, until
from tests.helpers.command_line import run_process
from tests.helpers.rest import call
from tests.helpers.swarms import local_swarm

pytestmark = pytest.mark.usefixtures("warm_hubs")

MISTAKE = "\ngatway:\n  admission: open\n"
YAML = {"Content-Type": "application/yaml"}


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalSwarm]:
    found = local_swarm(tmp_path)
    yield found
    await asyncio.to_thread(found.stop)


async def rest(
    hub: LocalHub, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    """Return the status and the body of an answer; 0 while nobody listens."""
    given = {"Authorization": f"Bearer {hub.token}", **headers}
    try:
        async with (
            aiohttp.ClientSession(headers=given) as session,
            session.request(method, f"{hub.url}/api/v1{path}", data=body, ssl=False) as answer,
        ):
            said = await answer.read()
            is_json = answer.content_type == "application/json"
            return answer.status, json.loads(said) if is_json else said
    except aiohttp.ClientConnectionError:
        return 0, None


async def health(hub: LocalHub, state: str) -> dict[str, Any]:
    """Wait until the hub is in that state; returns its health."""

    async def told() -> Any:
        return (await rest(hub, "GET", "/health"))[1] or {}

    found = await until(told, lambda found: found.get("state") == state, timeout_s=40)
    return dict(found)


async def ready(hub: LocalHub) -> None:
    """Wait for the end of its first start, before which a signal interrupts that."""

    async def log() -> str:
        return hub.log()

    await until(log, lambda said: "is ready after" in said, timeout_s=40)


async def stopped(hub: LocalHub) -> int:
    assert hub.process is not None
    hub.process.terminate()
    return await asyncio.to_thread(hub.process.wait, 20)


async def broken(local: LocalSwarm, **options: Any) -> tuple[LocalHub, str]:
    """Return a gateway in recovery, and its configuration as it was before it was broken."""
    hub = local.start_gateway(**options)
    await ready(hub)
    assert await stopped(hub) == 0
    path = hub.folder / "configuration.yaml"
    good = path.read_text()
    path.write_text(good + MISTAKE)
    hub.start()
    return hub, good


async def test_it_is_mended_over_the_api_and_goes_on_with_its_jobs(
    local: LocalSwarm, modules: dict[str, bytes]
) -> None:
    hub = local.start_gateway(api={"host": "0.0.0.0"})
    await ready(hub)
    job = json.dumps(
        {"wasm_base64": base64.b64encode(modules["sum"]).decode(), "dataset": [1, 2, 3]}
    ).encode()
    status, body = await rest(hub, "POST", "/jobs", job, **{"Content-Type": "application/json"})
    assert status == 202, body
    assert await stopped(hub) == 0
    path = hub.folder / "configuration.yaml"
    good = path.read_text()
    path.write_text(good + MISTAKE)
    line = good.count("\n") + 2
    stored = _sums(hub.folder)
    hub.start()
    found = await health(hub, "recovery")
    (problem,) = found["recovery"]
    assert (problem["file"], problem["line"]) == ("configuration.yaml", line)
    assert problem["path"] == "gatway"
    assert "did you mean gateway?" in problem["message"]
    assert found["ok"] is False
    assert (await rest(hub, "GET", "/health"))[0] == 503
    assert (await rest(hub, "GET", "/jobs"))[1]["code"] == "no_gateway"
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.2", int(hub.url.rpartition(":")[2]))
    done = await asyncio.to_thread(run_process, "open", "--print", "-c", hub.folder)
    assert done.out.startswith(f"{hub.url}/#code="), done.err
    # Nobody else may use the directory meanwhile.
    done = await asyncio.to_thread(run_process, "run", "-c", hub.folder)
    assert done.code == 1
    assert "already runs on this directory" in done.err
    pid = hub.pid

    status, text = await rest(hub, "GET", "/config/files/configuration.yaml")
    assert (status, text.decode()) == (200, good + MISTAKE)
    status, body = await rest(hub, "POST", "/config/start")
    assert (status, body["code"]) == (422, "invalid_configuration")
    version = await _version(hub)
    put = ("PUT", "/config/files/configuration.yaml")
    status, body = await rest(hub, *put, (good + "gc: 5\n").encode(), **YAML, **version)
    assert (status, body["valid"]) == (200, False)
    assert "gc" in {each["path"] for each in body["problems"]}
    status, body = await rest(hub, *put, good.encode(), **YAML, **version)
    assert (status, body["code"]) == (409, "changed")
    status, body = await rest(hub, *put, good.encode(), **YAML, **await _version(hub))
    assert (status, body["valid"]) == (200, True)
    assert (hub.folder / body["copy"]).read_text() == good + "gc: 5\n"
    assert _sums(hub.folder) == stored
    assert (await health(hub, "recovery"))["recovery"] == []
    done = await asyncio.to_thread(run_process, "check", "-c", hub.folder)
    assert done.code == 0, done.err
    status, body = await rest(hub, "POST", "/config/start")
    assert (status, body["valid"]) == (202, True)
    assert (await health(hub, "running"))["ok"] is True
    assert hub.pid == pid
    assert ask(hub.folder, "status")["hub"]["process_id"] == pid
    _, body = await rest(hub, "GET", "/jobs")
    assert [each["state"] for each in body["jobs"]] == ["queued"]
    assert not (hub.folder / STORAGE_DIR / "recovery").exists()


async def test_a_start_that_fails_for_another_reason_comes_back_to_the_recovery(
    local: LocalSwarm,
) -> None:
    hub, good = await broken(local)
    await health(hub, "recovery")
    key = hub.folder / STORAGE_DIR / SIGNER_KEY_FILE
    key.chmod(0o644)
    (hub.folder / "configuration.yaml").write_text(good)
    assert (await rest(hub, "POST", "/config/start"))[0] == 202

    async def why() -> str:
        told = (await rest(hub, "GET", "/health"))[1] or {}
        return "".join(each["message"] for each in told.get("recovery", []))

    assert f"chmod 600 {key}" in await until(why, bool, timeout_s=40)
    key.chmod(0o600)
    assert (await rest(hub, "POST", "/config/start"))[0] == 202
    await health(hub, "running")


async def test_it_keeps_the_tls_that_the_api_had(local: LocalSwarm) -> None:
    hub, _ = await broken(local, api={"tls": "{self_signed: true}"})
    hub.url = hub.url.replace("http:", "https:")
    assert (await health(hub, "recovery"))["recovery"][0]["path"] == "gatway"


async def test_a_signal_ends_a_recovery_a_kill_is_in_nobodys_way_and_none_may_be_wanted(
    local: LocalSwarm,
) -> None:
    hub, good = await broken(local)
    await health(hub, "recovery")
    hub.kill()
    hub.start()
    await health(hub, "recovery")
    assert await stopped(hub) == 0
    # Without recovery it ends with the words and the code of a hub that never had one.
    done = await asyncio.to_thread(run_process, "run", "--no-recovery", "-c", hub.folder)
    assert done.code == 1
    line = next(each for each in done.err.splitlines() if each.startswith("swarm-hub: "))
    assert "gatway: there is no such component; did you mean gateway?" in line
    # So it is where no hub with an API ever started.
    last_good = hub.folder / STORAGE_DIR / LAST_GOOD_FILE
    last_good.unlink()
    again = await asyncio.to_thread(run_process, "run", "-c", hub.folder)
    assert (again.code, again.err) == (1, done.err)
    last_good.write_text('{"name": "x", "api": null}')
    again = await asyncio.to_thread(run_process, "run", "-c", hub.folder)
    assert (again.code, again.err) == (1, done.err)
    (hub.folder / "configuration.yaml").write_text(good)
    hub.start()
    await health(hub, "running")


async def test_a_hub_whose_api_is_taken_away_keeps_a_record_of_that(swarm: Swarm) -> None:
    await swarm.gateway()
    worker = await swarm.worker("worker")
    kept = worker.hub.storage_path(LAST_GOOD_FILE)
    assert not kept.exists()
    await swarm.stop(worker)
    worker = await swarm.worker("worker", extra="api: {port: 0}\n")
    told = {"name": "worker", "api": {"host": "127.0.0.1", "port": 0, "tls": None}}
    assert json.loads(kept.read_text()) == told
    await swarm.stop(worker)
    await swarm.worker("worker")
    assert json.loads(kept.read_text()) == {**told, "api": None}


async def test_files_are_read_and_written_in_a_hub_that_runs_too(
    swarm: Swarm, tmp_path: Path
) -> None:
    swarm.keys("gateway")
    packages = tmp_path / "gateway" / "packages"
    packages.mkdir()
    (packages / "gc.yaml").write_text("gc: {keep: 3d}\n")
    (packages / "gc.yaml").chmod(0o640)
    hub = await swarm.gateway()
    (hub.folder / "secrets.yaml").write_text("a: b\n")
    _, body = await call(hub, "GET", "/config/files")
    names = [each["name"] for each in body["files"]]
    assert names == ["configuration.yaml", "packages/gc.yaml", "secrets.yaml"]
    etag = body["files"][1]["etag"]
    path = "/config/files/packages%2Fgc.yaml"
    assert (await call(hub, "GET", path))[1] == b"gc: {keep: 3d}\n"
    headers = {**YAML, "If-Match": f'"{etag}"'}
    status, body = await call(hub, "PUT", path, data=b"gc: {keep: 4d}\n", headers=headers)
    assert (status, body["name"], body["valid"]) == (200, "packages/gc.yaml", True)
    assert (packages / "gc.yaml").read_text() == "gc: {keep: 4d}\n"
    assert (packages / "gc.yaml").stat().st_mode & 0o777 == 0o640
    status, body = await call(hub, "POST", "/config/check")
    assert (status, body) == (200, {"valid": True, "problems": []})
    assert (await call(hub, "POST", "/config/start"))[1]["code"] == "not_in_recovery"


NAMES_THAT_LEAD_OUT = (
    "..%2Fother.yaml", "%2Fetc%2Fpasswd", "..%2F..%2Fetc%2Fpasswd", "..%252Fother.yaml",
    "custom_components%2Fmine%2Fservices.yaml", "custom_components%2Fmine%2F__init__.py",
    ".storage%2Ftokens.json", ".storage%2Fhidden.yaml", "link_out.yaml", "folder_out%2Fx.yaml",
    "packages%2F..%2F..%2Fother.yaml", "new.yaml", "hub.log", "packages", "a%00b.yaml",
)  # fmt: skip


async def test_no_name_leads_out_of_the_configuration(swarm: Swarm, tmp_path: Path) -> None:
    swarm.keys("gateway")
    folder = tmp_path / "gateway"
    outside = folder.parent / "outside"
    for each in (folder / "packages", folder / "custom_components" / "mine", outside):
        each.mkdir(parents=True)
    for each in (
        folder.parent / "other.yaml", outside / "x.yaml", folder / STORAGE_DIR / "hidden.yaml",
        folder / "custom_components" / "mine" / "services.yaml", folder / "hub.log",
        folder / "custom_components" / "mine" / "__init__.py",
    ):  # fmt: skip
        each.write_text("x: 1\n")
    (folder / "link_out.yaml").symlink_to(outside / "x.yaml")
    (folder / "folder_out").symlink_to(outside)
    hub = await swarm.gateway()
    before = _tree(folder.parent)
    headers = {"Authorization": f"Bearer {hub.token}", **YAML, "If-Match": '"*"'}
    async with aiohttp.ClientSession(headers=headers) as session:
        for name in NAMES_THAT_LEAD_OUT:
            url = URL(f"{hub.url}/api/v1/config/files/{name}", encoded=True)
            for method, body in (("GET", None), ("PUT", b"y: 2\n")):
                async with session.request(method, url, data=body) as answer:
                    assert answer.status == 404, f"{method} {name}: {await answer.text()}"
            assert _tree(folder.parent) == before, name


async def test_a_link_inside_the_directory_is_read_but_not_written(
    swarm: Swarm, tmp_path: Path
) -> None:
    swarm.keys("gateway")
    folder = tmp_path / "gateway"
    (folder / "real.yaml").write_text("gc: {}\n")
    (folder / "link.yaml").symlink_to(folder / "real.yaml")
    hub = await swarm.gateway()
    files = (await call(hub, "GET", "/config/files"))[1]["files"]
    etag = next(each["etag"] for each in files if each["name"] == "link.yaml")
    headers = {**YAML, "If-Match": etag}
    answer = await call(hub, "PUT", "/config/files/link.yaml", data=b"gc:\n", headers=headers)
    assert answer[1]["code"] == "a_link"
    assert (folder / "link.yaml").is_symlink()


async def test_what_is_no_yaml_file_is_refused(swarm: Swarm) -> None:
    hub = await swarm.gateway()
    before = (hub.folder / "configuration.yaml").read_bytes()
    path = "/config/files/configuration.yaml"
    for body, headers, status, code in (
        (b"a: \xff\n", YAML, 422, "not_utf8"),
        (b"a: \0\n", YAML, 422, "not_text"),
        (b"a: 1\n" * 300_000, YAML, 413, "request_too_large"),
        (b"a: 1\n", {"Content-Type": "image/png"}, 415, "unsupported_media_type"),
    ):
        given = {**headers, "If-Match": '"x"'}
        answer = await call(hub, "PUT", path, data=body, headers=given)
        assert (answer[0], answer[1]["code"]) == (status, code)
        assert (hub.folder / "configuration.yaml").read_bytes() == before
    without = await call(hub, "PUT", path, data=b"a: 1\n", headers=YAML)
    assert (without[0], without[1]["code"]) == (400, "no_version")
    assert (hub.folder / "configuration.yaml").read_bytes() == before


@pytest.mark.parametrize("options", ["host: 0.0.0.0", "trusted_proxies: [10.0.0.1]"])
async def test_no_token_writes_from_afar_what_a_device_runs(swarm: Swarm, options: str) -> None:
    port = free_port()
    hub = await swarm.start("gateway", f"gateway:\napi: {{port: {port}, {options}}}\n", port)
    path = "/config/files/configuration.yaml"
    before = (hub.folder / "configuration.yaml").read_bytes()
    for method, each in (("GET", "/config/files"), ("GET", path), ("PUT", path)):
        sent = (
            {"data": b"gateway:\n", "headers": {**YAML, "If-Match": '"x"'}}
            if method == "PUT"
            else {}
        )
        status, body = await call(hub, method, each, **sent)
        assert (status, body["code"]) == (403, "only_on_this_device")
    assert (hub.folder / "configuration.yaml").read_bytes() == before
    assert (await call(hub, "POST", "/config/check"))[0] == 200


async def test_only_an_administrator_sees_and_changes_files(swarm: Swarm) -> None:
    hub = await swarm.gateway()
    tokens = TokenFile(hub.folder / STORAGE_DIR / TOKENS_FILE)
    _, token = tokens.create("ci", "submit", 0.0)
    for method, path in (
        ("GET", "/config/files"), ("GET", "/config/files/configuration.yaml"),
        ("PUT", "/config/files/configuration.yaml"), ("POST", "/config/check"),
        ("POST", "/config/start"),
    ):  # fmt: skip
        assert (await call(hub, method, path, token=token))[0] == 403
        assert (await call(hub, method, path, token=None))[0] == 401


async def _version(hub: LocalHub) -> dict[str, str]:
    _, body = await rest(hub, "GET", "/config/files")
    (found,) = (each for each in body["files"] if each["name"] == "configuration.yaml")
    return {"If-Match": f'"{found["etag"]}"'}


def _sums(folder: Path) -> dict[str, str]:
    """Return the hash of each file of the store."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("swarm_hub.db*"))
    }


def _tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.yaml"))
    }
