from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.registry.loopback import LoopbackRegistry


@pytest.fixture
def site() -> Iterator[LoopbackRegistry]:
    """A registry of this test's own."""
    registry = LoopbackRegistry()
    yield registry
    registry.close()
