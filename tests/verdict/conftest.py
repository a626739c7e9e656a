"""Fixtures of the verdict's tests."""

from __future__ import annotations

from functools import cache

import pytest

from . import states


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> states.Judged:
    """A judgement in a state, by its name; each is made once."""

    @cache
    def make(state: str) -> states.Judgement:
        return states.judgement(tmp_path_factory.mktemp(state), state)

    return make
