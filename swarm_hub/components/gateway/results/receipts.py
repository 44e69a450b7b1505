"""For which jobs the signed envelopes of results are kept, and how clients see them; pure."""

from enum import StrEnum
from typing import cast

from swarm_hub.components.gateway.shapes import Receipts, ReceiptShape
from swarm_hub.models.call import ModuleCall
from swarm_hub.models.job import Job
from swarm_hub.models.receipt import Receipt
from swarm_hub.storage.queries.receipts import ReceiptPage


class ReceiptPolicy(StrEnum):
    """`gateway: receipts`; an envelope repeats the results in it, so not every job's are kept."""

    REDUNDANT = "redundant"
    ALL = "all"
    NONE = "none"

    def keeps(self, job: Job) -> bool:
        """Whether the envelopes of a job's results are kept."""
        return self is ReceiptPolicy.ALL or (self is ReceiptPolicy.REDUNDANT and job.spec.compares)


class ReceiptRule:
    """The policy in force, which a reload may change."""

    def __init__(self, policy: ReceiptPolicy) -> None:
        self.policy = policy

    def keeps(self, job: Job) -> bool:
        """Whether the envelopes of a job's results are kept."""
        return self.policy.keeps(job)


def why_none(policy: ReceiptPolicy, job: Job) -> str:
    """Return why a job has no receipt."""
    if policy is ReceiptPolicy.NONE:
        return "this job's gateway keeps no receipts; set gateway: receipts: redundant, or all"
    if not policy.keeps(job):
        return (
            "this job's gateway keeps receipts of redundant jobs only; set gateway: receipts: all"
        )
    return "none of its results has come since receipts are kept"


def described(
    page: ReceiptPage, why: str | None, gateways: list[str], call: ModuleCall
) -> Receipts:
    """Return receipts, and the results they belong to, as clients see them."""
    return {
        "receipts": [_receipt(sha, each) for sha, each in page.receipts.items()],
        "results": [
            {
                "assignment_id": each.assignment_id,
                "index": each.index,
                "first_item": each.first_item,
                "n_items": each.n_items,
                "node_id": each.node_id,
                "node": each.node_name or None,
                "result_sha": each.sha,
                "input_sha": _input_sha(page.receipts[each.receipt], each.assignment_id, each.sha),
                "counted": each.counted,
                "receipt": each.receipt,
            }
            for each in page.results
        ],
        "cursor": page.results[-1].assignment_id if page.more else None,
        "why_none": why,
        "gateways": gateways,
        "call": {"module_sha": call.module_sha, "rest_sha": call.rest_sha},
    }


def _receipt(sha: str, receipt: Receipt) -> ReceiptShape:
    return cast(ReceiptShape, {"sha": sha, **receipt.to_json()})


def _input_sha(receipt: Receipt, assignment_id: str, sha: str) -> str | None:
    """Return the input hash that a node signed; only results of the right input were taken.

    None if the envelope was damaged since: whoever checks it is told what is wrong with it.
    """
    signed = receipt.testimony.results.get(assignment_id, ())
    return next((each.input_sha for each in signed if each.sha == sha), None)
