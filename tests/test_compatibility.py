"""How exactly a language model continues: declared, demanded, and said in the result."""

from __future__ import annotations

import itertools

import pytest

from stars_guard import Constant, Guarantee, GuardConfig
from stars_guard.errors import ConfigurationError
from stars_guard.models.base import guarantee_of
from stars_guard.testing import ScriptedModel
from tests.support.guards import guarded

CONFIG = GuardConfig(threshold=Constant(target=0.0))


class TextModel(ScriptedModel):
    """A fake engine that takes texts only."""

    guarantee = Guarantee.TEXT


def guard(model, config=CONFIG, **parts):
    return guarded(model, config=config, **parts)


def test_levels_are_ordered():
    ranks = {level: max(1, rank) for rank, level in enumerate(Guarantee)}  # the first two are equally strong
    for (level, rank), (least, least_rank) in itertools.product(ranks.items(), repeat=2):
        assert level.covers(least) == (rank <= least_rank)


def test_a_model_that_declares_nothing_is_held_to_token_ids():
    assert guarantee_of(ScriptedModel([["ok"]])) is Guarantee.TOKEN_IDS


def test_the_level_is_in_trace_and_summary():
    result = guard(TextModel([["ok"]])).generate("Hi")
    assert result.trace.guarantee is Guarantee.TEXT
    assert result.summary["guarantee"] == "text"


def test_a_weaker_level_than_demanded_is_refused_at_construction():
    demanding = CONFIG.changed(min_guarantee=Guarantee.TOKEN_IDS)
    with pytest.raises(ConfigurationError, match=r"level 'text'.*min_guarantee is 'token_ids'"):
        guard(TextModel([["ok"]]), demanding)
    assert guard(TextModel([["ok"]]), CONFIG.changed(min_guarantee=Guarantee.PREFILL)).generate("Hi").text


def test_a_request_may_demand_more_than_the_guard():
    llm = guard(TextModel([["ok"]]))
    with pytest.raises(ConfigurationError, match="min_guarantee"):
        llm.generate("Hi", config=CONFIG.changed(min_guarantee=Guarantee.TOKEN_IDS))


def test_the_weakest_of_two_models_counts():
    llm = guard(ScriptedModel([["ok"]]), safer_model=TextModel([["ok"]]))
    assert llm.generate("Hi").trace.guarantee is Guarantee.TEXT
