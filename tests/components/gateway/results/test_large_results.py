"""A large result is never in the gateway's memory, neither as it comes nor as it goes."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[4] / "benchmarks" / "large_result.py"
RESULT_MIB = 128
PEAK_MAX_MIB = 64
# A call of the module's `reduce` needs two parts of 8 MiB at once, and gives a third.
MODULE_PEAK_MAX_MIB = 96


def test_it_is_folded_and_fetched_part_by_part() -> None:
    sizes = ["--mib", str(RESULT_MIB), "--shard-mib", "8"]
    done = subprocess.run(
        [sys.executable, BENCHMARK, "--json", *sizes],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    peaks = {line["figure"]: line["value"] for line in map(json.loads, done.stdout.splitlines())}
    assert peaks.pop("large_module_fold_peak_mib") < MODULE_PEAK_MAX_MIB
    assert peaks.keys() == {"large_fold_peak_mib", "large_fetch_peak_mib"}
    assert max(peaks.values()) < PEAK_MAX_MIB
