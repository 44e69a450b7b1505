"""The first thing a newcomer runs."""

import subprocess
import sys


def test_the_demo_exits_0_with_three_right_answers() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "swarm_hub", "demo"],
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All three answers are right" in done.stdout
    assert "148933, right" in done.stdout
    assert "kill -9" in done.stdout
    assert "went to another worker" in done.stdout
    assert "Traceback" not in done.stderr
