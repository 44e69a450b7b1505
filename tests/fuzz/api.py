"""Requests made by schemathesis from the hub's own description, against a throw-away hub.

    python -m tests.fuzz.api [--examples N] [--seed N]
    (or script/fuzz api …, which sets up first)

Whatever is no documented answer is a finding, and so is any 5xx. Exit code 1 on a finding; the same
seed makes the same requests.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import schemathesis

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.components.sandbox import Sandbox
from tests.conftest import RunningHub, Swarm
from tests.helpers.modules import range_module
from tests.helpers.rest import finished, submit

_ROOT: Final = Path(__file__).parents[2]
_PHASES: Final = ("examples", "coverage", "fuzzing", "stateful")
_EXAMPLES: Final = 300
_LEAST: Final = 5000
_STOP_WITHIN_S: Final = 10
# A value that a schema can't tell from a good one, by the operations that take such, and why.
_CAN_NOT_SAY: Final = {
    "post_jobs": "a module is any bytes, and decides what fits it",
    "post_invites": "an address of libp2p has no pattern",
    "post_networks_ban": "a network has no format",
    "post_networks_unban": "a network has no format",
    "get_job_receipts": "a cursor is one of this job's",
    "get_jobs": "a time is after 1970, and labels are sixteen at most",
    "post_jobs_cancel": "which jobs are named one way or the other, by values as in a list",
    "post_modules_inspect": "a module is any bytes",
    "put_config_files_name": "a file is named by its version, and its text is UTF-8",
    "put_logger": "a level is of a component or logger that there is",
    "put_blobs_sha256": "a hash is that of the bytes, a piece within its size",
    "post_job_resubmit": "another spec has to fit the module",
    "patch_job": "something has to be changed, of a job that has not ended",
}
# What is deleted stays: a job is cancelled, an invitation revoked.
_NOT_CHECKED: Final = "use_after_free"
_CHECKS: Final = """\
max-stream-events = 1

[checks]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 413, 415, 422, 429]
positive_data_acceptance.expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 410, 416, 429]
"""
_LENIENT: Final = """
# {why}
[[operations]]
include-operation-id = "{name}"
checks.positive_data_acceptance.expected-statuses = [
  "2xx", 400, 401, 403, 404, 409, 413, 415, 422, 429
]
"""


@dataclass(frozen=True)
class Outcome:
    """What a run found."""

    cases: int
    findings: Sequence[str]
    said: str

    def __str__(self) -> str:
        return f"{self.cases} requests, {len(self.findings)} findings"


async def hunt(
    hub: RunningHub,
    folder: Path,
    *,
    seed: int,
    examples: int,
    phases: Sequence[str] = _PHASES,
) -> Outcome:
    """Let schemathesis try what a hub describes, with so many examples for each operation."""
    report = folder / "report.json"
    lenient = (_LENIENT.format(why=why, name=name) for name, why in _CAN_NOT_SAY.items())
    (folder / "schemathesis.toml").write_text(_CHECKS + "".join(lenient), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml",
        "run", f"{hub.url}/api/v1/openapi.json",
        "--header", f"Authorization: Bearer {hub.token}", "--checks", "all",
        "--exclude-checks", _NOT_CHECKED,
        "--phases", ",".join(phases), "--max-examples", str(examples), "--seed", str(seed),
        "--exclude-path", "/api/websocket", "--continue-on-failure", "--no-color",
        "--generation-database", "none", "--request-timeout", "90", "--max-response-time", "90",
        "--suppress-health-check", "all",
        "--report", "json", "--report-json-path", str(report),
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.fuzz.api_hooks", "PYTHONPATH": str(_ROOT)},
    )  # fmt: skip
    try:
        raw, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), _STOP_WITHIN_S)
    said = raw.decode("utf-8", "replace")
    if not report.exists():
        return Outcome(0, [f"it ended with code {process.returncode}"], said)
    told: dict[str, Any] = json.loads(report.read_bytes())
    findings = [
        f"{each['title']}: {', '.join(each['operations'])}" for each in told["failures"]
    ] + [each["title"] for each in told["errors"]]
    return Outcome(told["test_cases"]["generated"], findings, said)


async def small_swarm(swarm: Swarm, module: bytes) -> RunningHub:
    """Start a gateway and a worker, with a job that has ended and one that waits."""
    gateway = await swarm.gateway(extra="content:\n")
    await swarm.worker("one")
    code, taken = await submit(gateway, module, b"0:100", {"split": "range", "reduce": "sum"})
    assert code == 202, taken
    await finished(gateway, taken["job_id"])
    # No node has this label.
    waits = {"split": "range", "constraints": {"node_labels": {"room": "none"}}}
    code, taken = await submit(gateway, module, b"0:100", waits)
    assert code == 202, taken
    return gateway


async def _campaign(seed: int, examples: int) -> Outcome:
    module = await with_sandbox(_assemble)
    with tempfile.TemporaryDirectory(prefix="swarm-hub-fuzz-") as name:
        folder = Path(name)
        swarm = Swarm(folder)
        try:
            hub = await small_swarm(swarm, module)
            return await hunt(hub, folder, seed=seed, examples=examples)
        finally:
            await swarm.stop_all()


async def _assemble(sandbox: Sandbox) -> bytes:
    return await sandbox.assemble(range_module("(i64.sub (local.get 1) (local.get 0))"))


def main() -> int:
    """Run the campaign of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="fuzz api", description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=_EXAMPLES, help="for each operation")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same requests")
    asked = parser.parse_args()
    outcome = asyncio.run(_campaign(asked.seed, asked.examples))
    if outcome.findings:
        # A line may hold a whole body.
        print("\n".join(line[:500] for line in outcome.said.splitlines()))
    print(f"seed {asked.seed}, schemathesis {schemathesis.__version__}: {outcome}")
    for finding in outcome.findings:
        print(f"finding: {finding}")
    if outcome.cases < _LEAST and asked.examples >= _EXAMPLES:
        print(f"finding: fewer than {_LEAST} requests")
        return 1
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())
