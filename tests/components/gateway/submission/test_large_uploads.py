"""A large dataset is never in the gateway's memory, not even one put together of many files."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[4] / "benchmarks" / "large_upload.py"
DATASET_MIB = 96
PEAK_MAX_MIB = 64


def test_it_is_read_and_put_together_on_disk() -> None:
    options = ["--json", "--mib", str(DATASET_MIB), "--ways", "form_many_lines"]
    done = subprocess.run(
        [sys.executable, BENCHMARK, *options],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (figure,) = map(json.loads, done.stdout.splitlines())
    assert figure["value"] < PEAK_MAX_MIB
