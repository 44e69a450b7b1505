"""What a person should do about the keys of this hub and of those it obeys."""

from collections.abc import Iterable

from swarm_hub.components.signer.keybook import KeyBook
from swarm_hub.components.signer.revocations import Revocations
from swarm_hub.models.envelope import key_id
from swarm_hub.repairs import Repair


def of_keys(book: KeyBook, revocations: Revocations, own_kid: str) -> Iterable[Repair]:
    """Yield what is to be done about keys that no longer count."""
    if (revoked := revocations.of(own_kid)) is not None:
        why = f": {revoked.reason}" if revoked.reason else ""
        yield Repair(
            "key.own",
            "error",
            f"The signing key of this hub, {own_kid}, is revoked{why}",
            "Nobody heeds what this hub signs: no work is given out or taken.",
            "Stop the hub, delete signer.key in its .storage, start it, and let the others trust "
            "the new key.",
            since=revoked.revoked_at,
        )
    for old, new in book.retired():
        if new is None:
            said = "is revoked"
            fix = f"Take {old.hex()} out of signer: trust; ask the gateway's owner for a new key."
        else:
            said = "was replaced by its owner"
            fix = f"In signer: trust put {new.hex()} in place of {old.hex()}."
        yield Repair(
            f"key.retired.{key_id(old)}",
            "warning" if new is not None else "error",
            f"signer: trust names a retired key: {key_id(old)} {said}",
            "The new key is known from the store alone: without that this device obeys nobody."
            if new is not None
            else "This device takes no work from its owner.",
            fix,
        )
