"""The receipts of a job, checked by the client: a hub that lies about a result is found out."""

from collections.abc import Mapping
from typing import Any, Final

from swarm_hub.cli.options import echo, note, print_json
from swarm_hub.client import SwarmClient
from swarm_hub.models.call import call_sha
from swarm_hub.models.receipt import Claim, Receipt, objection, shortcomings

_INVALID: Final = "INVALID"
_WRONG_SHAPE: Final = (KeyError, TypeError, ValueError)


async def check_receipts(swarm: SwarmClient, job_id: str, as_json: bool) -> int:
    """Fetch, check and show a job's receipts; returns 1 if one proves nothing, else 0."""
    gathered: dict[str, list[Any]] = {"receipts": [], "results": []}
    verdicts: list[str] = []
    async for page in swarm.receipts(job_id):
        receipts = {each["sha"]: each for each in page["receipts"]}
        checked = judged(job_id, page, receipts)
        verdicts += [each["verdict"] for each in checked]
        if as_json:
            gathered["receipts"] += page["receipts"]
            gathered["results"] += checked
        elif checked:
            _print(checked, receipts, with_head=len(verdicts) == len(checked))
        elif not verdicts:
            note(f"Job {job_id} has no receipts: {page['why_none']}")
    n_invalid = sum(each.startswith(_INVALID) for each in verdicts)
    if as_json:
        print_json(gathered)
    elif verdicts:
        counted = sum(each.startswith("counted") for each in verdicts)
        note(f"{len(verdicts)} results, {counted} counted, {n_invalid} with an invalid receipt")
    return 1 if n_invalid else 0


def judged(
    job_id: str, page: Mapping[str, Any], receipts: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return results, each with its `verdict`: `counted`, `not counted` or `INVALID: why`.

    Whether a proven result counts is only the gateway's word; what else is, stands behind it.
    """
    call = page["call"]
    common = frozenset(page["gateways"]), call_sha(call["module_sha"], call["rest_sha"])
    read: dict[str, Receipt | str] = {}
    for sha, plain in receipts.items():
        try:
            read[sha] = Receipt.from_json(plain)
        except _WRONG_SHAPE as error:
            read[sha] = f"its receipt can't be read: {error}"
    return [{**each, "verdict": _verdict(job_id, each, read, *common)} for each in page["results"]]


def _verdict(
    job_id: str,
    result: Mapping[str, Any],
    receipts: Mapping[str, Receipt | str],
    gateways: frozenset[str],
    call: str,
) -> str:
    receipt = receipts.get(result["receipt"], "its receipt was not given")
    if isinstance(receipt, Receipt):
        claim = Claim(
            job_id, result["index"], str(result["assignment_id"]), result["node_id"],
            result["result_sha"], result["input_sha"], gateways, call,
        )  # fmt: skip
        why = objection(receipt, claim)
    else:
        why = receipt
    if why is not None or not isinstance(receipt, Receipt):
        return f"{_INVALID}: {why}"
    counted = "counted" if result["counted"] else "not counted"
    return ", ".join([counted, *shortcomings(receipt, claim)])


def _print(
    results: list[dict[str, Any]], receipts: Mapping[str, Mapping[str, Any]], *, with_head: bool
) -> None:
    if with_head:
        echo(f"{'shard':>7}  {'node':24}  {'result':12}  {'signed by':32}  verdict")
    for each in results:
        node = each["node"] or each["node_id"]
        kid = receipts.get(each["receipt"], {}).get("kid", "-")
        echo(
            f"{each['index']:>7}  {node[:24]:24}  {each['result_sha'][:12]}  {kid:32}  "
            f"{each['verdict']}"
        )
