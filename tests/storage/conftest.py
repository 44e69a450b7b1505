"""Fixtures of the storage tests: a disk that can be full and that can be read back."""

import pytest

from tests.helpers.faults import FaultFs


@pytest.fixture(scope="session")
def faultfs(tmp_path_factory: pytest.TempPathFactory) -> FaultFs:
    """Return the compiled faulty disk; tests/helpers/faults.py says how to use it."""
    return FaultFs.build(tmp_path_factory.mktemp("faultfs"))
