"""Fakes in the place of named models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stars_guard.evaluation import cells, run
from tests.support import evaluations


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every name of a language model is that of the scripted one."""
    monkeypatch.setattr(cells, "load_model", evaluations.model)
    cells._model.cache_clear()
    cells._reward.cache_clear()
    evaluations.judging.asked.clear()
    yield
    cells._model.cache_clear()
    cells._reward.cache_clear()


@pytest.fixture
def nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing anything fails the test."""

    def drawing(*arguments: object, **options: object) -> None:
        pytest.fail("something was drawn")

    monkeypatch.setattr(run, "answer_cell", drawing)
    monkeypatch.setattr(run, "plain_draws", drawing)
