"""Token commands side by side: none undoes what another has done."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from swarm_hub.helpers.tokens import TokenFile


def test_a_revoked_token_does_not_come_back_with_one_that_is_made_meanwhile(
    tmp_path: Path,
) -> None:
    path, count = tmp_path / ".storage" / "tokens.json", 40
    old = [TokenFile(path).create(f"old {number}", "read", 0.0) for number in range(count)]
    together = threading.Barrier(2)

    def create() -> list[str]:
        together.wait()
        return [TokenFile(path).create("new", "read", 0.0)[1] for _ in range(count)]

    def revoke() -> None:
        together.wait()
        for token, _ in old:
            assert TokenFile(path).revoke(token.id)

    with ThreadPoolExecutor(2) as threads:
        created, revoked = threads.submit(create), threads.submit(revoke)
        made = created.result()
        revoked.result()
    found = TokenFile(path)
    assert [found.find(secret, 0.0) for _, secret in old] == [None] * count
    assert None not in [found.find(secret, 0.0) for secret in made]
    assert len(found.all()) == count
