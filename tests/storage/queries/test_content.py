"""Which blobs of a store are results: those are announced and given out, and no others."""

from dataclasses import replace

from swarm_hub.models.messages import Result
from swarm_hub.storage import Store, Write
from swarm_hub.storage.queries import content, inbox
from swarm_hub.storage.queries.inbox import OutboxEntry
from swarm_hub.util.hashing import sha256_hex

LARGE = bytes(100_000)
SMALL = b"small"


def waiting(number: int, body: bytes, *, inline: bool) -> OutboxEntry:
    kept = body if inline else None
    result = Result(
        f"j.{number}.1", "ok", "", "0" * 64, sha256_hex(body), len(body), kept, 0.1, 0.1
    )
    return OutboxEntry(result, "gateway", float(number), "")


async def put(store: Store, body: bytes) -> Write:
    return (await store.blobs.put(body, 1.0))[1]


async def test_a_large_result_is_one_until_it_is_delivered(store: Store) -> None:
    attempt = waiting(1, LARGE, inline=False)
    await store.commit([*inbox.finish([attempt], []), await put(store, LARGE)])
    assert await store.read(content.result_blobs, 10) == {attempt.result.sha}
    assert await store.read(content.result_size, attempt.result.sha) == len(LARGE)
    await store.commit([inbox.delivered([attempt.result.assignment_id])])
    assert await store.read(content.result_blobs, 10) == set()
    assert await store.read(content.result_size, attempt.result.sha) is None


async def test_a_small_result_and_any_other_blob_are_none(store: Store) -> None:
    small = waiting(1, SMALL, inline=True)
    await store.commit(
        [*inbox.finish([small], []), await put(store, SMALL), await put(store, LARGE)]
    )
    assert await store.read(content.result_blobs, 10) == set()
    for body in (SMALL, LARGE):
        assert await store.read(content.result_size, sha256_hex(body)) is None


async def test_of_too_many_the_newest_are_taken(store: Store) -> None:
    entries = [waiting(number, bytes([number]) * 70_000, inline=False) for number in range(5)]
    again = replace(entries[4], result=replace(entries[4].result, assignment_id="j.9.1"))
    await store.commit(inbox.finish([*entries, again], []))
    newest = {entry.result.sha for entry in entries[3:]}
    found = await store.read(content.result_blobs, 3)
    assert found <= newest
    assert entries[4].result.sha in found
