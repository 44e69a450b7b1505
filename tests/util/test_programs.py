"""Programs that tell of the device: slow, mute, talkative and missing ones do no harm."""

import asyncio
import os
from pathlib import Path

import pytest

from swarm_hub.exceptions import HubError
from swarm_hub.util import programs
from swarm_hub.util.programs import OUTPUT_MAX_BYTES, Asked, said_by
from tests.conftest import until
from tests.helpers.programs import Programs, first_on_path


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    return first_on_path(tmp_path / "programs", monkeypatch)


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ask_for_number(clock: Clock) -> Asked[int]:
    return Asked(("tell", "--now"), int, clock)


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    # One that nobody has waited for yet is dead as well.
    return state != "Z"


async def until_gone(pid: int) -> None:
    async def still() -> bool:
        return runs(pid)

    await until(still, lambda found: not found)


async def test_a_program_says_what_it_writes(fake: Programs) -> None:
    fake.add("tell", 'echo "$LC_ALL $1"; echo aside >&2; cat')
    assert await said_by(("tell", "7")) == b"C 7\n"


async def test_a_program_that_hangs_is_ended_with_all_that_it_started(
    fake: Programs, tmp_path: Path
) -> None:
    noted = tmp_path / "pid"
    fake.add("tell", f"sleep 600 & echo $! > {noted}; wait")
    with pytest.raises(HubError, match=r"tell did not answer within 0.5 s"):
        await said_by(("tell",), within_s=0.5)
    await until_gone(int(noted.read_text()))


async def test_a_program_that_is_asked_by_somebody_who_leaves_is_ended(
    fake: Programs, tmp_path: Path
) -> None:
    noted = tmp_path / "pid"
    fake.add("tell", f"echo $$ > {noted}.new; mv {noted}.new {noted}; sleep 600")
    asking = asyncio.create_task(said_by(("tell",)))

    async def started() -> bool:
        return noted.exists()

    await until(started, bool)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until_gone(int(noted.read_text()))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "tell ended with 3"),
        ("kill -9 $$", "tell ended with -9"),
        ("yes", f"tell says more than {OUTPUT_MAX_BYTES} bytes"),
    ],
)
async def test_a_program_that_fails_is_named(fake: Programs, script: str, said: str) -> None:
    fake.add("tell", script)
    with pytest.raises(HubError, match=said):
        await said_by(("tell",))


async def test_a_program_that_is_none_is_named(fake: Programs) -> None:
    (fake.folder / "tell").write_text("no program")
    with pytest.raises(HubError, match="tell can't be started: Permission denied"):
        await said_by((str(fake.folder / "tell"),))


async def test_it_is_asked_once_a_minute_and_believed_for_five(fake: Programs) -> None:
    clock = Clock()
    tell = ask_for_number(clock)
    fake.says("tell", "5")
    assert await tell.ask()
    assert (tell.newest(), fake.asked("tell")) == (5, ["--now"])
    fake.says("tell", "6")
    clock.now += 59
    assert not await tell.ask()
    assert (tell.newest(), len(fake.asked("tell"))) == (5, 1)
    clock.now += 1
    assert await tell.ask()
    assert (tell.newest(), len(fake.asked("tell"))) == (6, 2)
    fake.add("tell", "exit 1")
    for minute in range(1, 6):
        clock.now += 60
        assert not await tell.ask()
        assert (minute, tell.newest()) == (minute, 6)
    clock.now += 1
    assert tell.newest() is None


async def test_a_failure_is_cached_and_logged_once_as_is_its_end(
    fake: Programs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    clock = Clock()
    tell = ask_for_number(clock)
    fake.says("tell", "garbage")
    for _ in range(3):
        await tell.ask()
        await tell.ask()
        clock.now += 60
    assert (tell.newest(), len(fake.asked("tell"))) == (None, 3)
    fake.says("tell", "7")
    await tell.ask()
    assert tell.newest() == 7
    said = [record.message for record in caplog.records if "tell" in record.message]
    assert len(said) == 2
    assert said[0].startswith("What tell tells is not known: invalid literal for int()")
    assert said[1] == "tell answers again"


async def test_one_that_is_being_asked_is_not_asked_again(fake: Programs, tmp_path: Path) -> None:
    clock = Clock()
    tell = ask_for_number(clock)
    go = tmp_path / "go"
    os.mkfifo(go)
    fake.add("tell", f"cat {go}")
    asking = asyncio.create_task(tell.ask())

    async def asked() -> int:
        return len(fake.asked("tell"))

    await until(asked, bool)
    clock.now += 60
    assert not await tell.ask()
    await asyncio.to_thread(go.write_text, "8")
    assert await asking
    assert (tell.newest(), await asked()) == (8, 1)


async def test_one_that_is_not_installed_is_not_started_until_it_is(
    fake: Programs, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def started(*_arguments: object) -> bytes:
        raise AssertionError("nothing is there to be started")

    clock = Clock()
    tell = Asked(("a-program-that-nobody-has",), int, clock)
    with monkeypatch.context() as patched:
        patched.setattr(programs, "said_by", started)
        assert not await tell.ask()
    assert caplog.text == ""
    fake.says("a-program-that-nobody-has", "9")
    clock.now += 60
    assert await tell.ask()
    assert tell.newest() == 9
