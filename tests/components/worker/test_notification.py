"""The notification of a phone says what its worker does, and its buttons pause and resume it."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from swarm_hub.components.worker import notification
from swarm_hub.control import client
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.programs import Programs, first_on_path

pytestmark = pytest.mark.process

WORKER = "worker: {charging_only: false, min_battery: 0}\n"
NOTIFY = "termux-notification"


class Screen:
    """What the notifications of a phone were, as `termux-notification` was told to show them."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self.programs = programs
        self._shown = folder / "shown"
        programs.add(
            NOTIFY, f'printf "%s\\n" "$@" > {self._shown}.new; mv {self._shown}.new {self._shown}'
        )
        programs.add("termux-notification-remove", f"rm {self._shown}")

    async def options(self) -> dict[str, str]:
        """Return the options of the notification that is shown; {} without one."""
        if not self._shown.exists():
            return {}
        words = [w for w in self._shown.read_text().splitlines() if w not in FLAGS]
        return dict(zip(words[::2], words[1::2], strict=True))

    async def until(self, text: str) -> dict[str, str]:
        return await until(self.options, lambda shown: text in shown.get("--content", ""))

    def press(self, shown: dict[str, str], label: str) -> None:
        """Do what Termux does when a button is pressed."""
        (number,) = (name for name, text in shown.items() if text == label)
        subprocess.run(["sh", "-c", shown[f"{number}-action"]], check=True, capture_output=True)


FLAGS = ("--ongoing", "--alert-once")


@pytest.fixture
def screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setattr(notification, "_APART_S", 0.0)
    return Screen(first_on_path(tmp_path / "programs", monkeypatch), tmp_path)


async def refuses(worker: RunningHub) -> str | None:
    found = await asyncio.to_thread(client.ask, worker.folder, "status")
    reason: str | None = found["worker"]["refuses"]
    return reason


async def test_its_buttons_pause_and_resume_the_worker(swarm: Swarm, screen: Screen) -> None:
    phone = await swarm.worker("phone", extra=WORKER)
    shown = await screen.until("Takes work")
    assert shown["--title"] == "swarm-hub: phone"
    await asyncio.to_thread(screen.press, shown, "Pause 2 h")
    shown = await screen.until("Takes no work: paused by the owner until ")
    assert (await refuses(phone) or "").startswith("paused by the owner until ")
    await asyncio.to_thread(screen.press, shown, "Resume")
    shown = await screen.until("Takes work")
    assert await refuses(phone) is None
    assert shown["--button2"] == "Pause"
    await swarm.stop(phone)
    assert await screen.options() == {}


async def test_it_is_changed_only_when_something_changes(swarm: Swarm, screen: Screen) -> None:
    phone = await swarm.worker("phone", extra=WORKER)
    await screen.until("Takes work")
    for _ in range(3):
        await asyncio.to_thread(client.ask, phone.folder, "resume")
    await asyncio.to_thread(client.ask, phone.folder, "pause")
    await screen.until("paused by the owner")
    assert len(screen.programs.asked(NOTIFY)) == 2


async def test_one_that_can_not_be_shown_keeps_nobody_from_working(
    swarm: Swarm, screen: Screen, caplog: pytest.LogCaptureFixture
) -> None:
    screen.programs.add(NOTIFY, "exit 1")
    phone = await swarm.worker("phone", extra=WORKER)

    async def logged() -> str:
        return caplog.text

    await until(logged, lambda text: "can't be shown: termux-notification ended with 1" in text)
    await asyncio.to_thread(client.ask, phone.folder, "pause")
    await until(lambda: refuses(phone), lambda reason: reason == "paused by the owner")


async def test_an_owner_who_wants_none_gets_none(swarm: Swarm, screen: Screen) -> None:
    quiet = WORKER.replace("{", "{notification: false, ")
    phone = await swarm.worker("phone", extra=quiet)
    await asyncio.to_thread(client.ask, phone.folder, "pause")
    await swarm.stop(phone)
    assert screen.programs.asked(NOTIFY) == []
