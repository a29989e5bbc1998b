"""The public fakes keep the contracts that they stand in for."""

from __future__ import annotations

from collections import Counter

import pytest
from scipy.stats import chisquare

from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.segments import Boundary, FixedLength
from stars_guard.errors import PromptError
from stars_guard.models.base import LanguageModel, Order
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel, ScoreRequest
from stars_guard.testing import FailingReward, KeywordReward, ScriptedModel, TabularModel, fake_session
from stars_guard.types import Candidate, Finish

PROMPT = Prompt.of("two words")
COIN = TabularModel(lambda ids: [0.5, 0.25, 0.25], ["a", "b", ""], eos=2)
ENDLESS = TabularModel(lambda ids: [0.5, 0.5], ["a", "b"])


def order(session, *, candidates=3, first=0, segment=0, cut=None, ends_answer=False, alive=lambda: True):
    return Order(session, segment, first, candidates, cut or FixedLength(max_tokens=4), ends_answer, alive)


def start(model, **sampling):
    return model.start(PROMPT, SamplingParams(seed=1, **sampling))


@pytest.mark.parametrize("model", [COIN, ScriptedModel([["x"]])])
def test_models_satisfy_the_protocol(model):
    assert isinstance(model, LanguageModel)
    session = start(model)
    assert session.prompt_tokens == 2
    assert session.forward_passes == 1
    session.close()
    session.close()
    assert session.closed


def test_rewards_satisfy_the_protocol():
    assert isinstance(KeywordReward(["x"]), RewardModel)
    assert isinstance(FailingReward(OSError()), RewardModel)


def test_tabular_draws_depend_on_the_address_only():
    session = start(COIN)
    (together,) = COIN.propose([order(session, candidates=6)])
    alone = [
        COIN.propose([order(session, candidates=1, first=attempt)])[0].candidates[0] for attempt in range(6)
    ]
    assert list(together.candidates) == alone
    assert together.tokens == sum(len(one.token_ids) for one in alone)
    assert COIN.propose([order(session, segment=1)])[0] != COIN.propose([order(session, segment=0)])[0]


def test_tabular_draws_follow_the_table():
    session = start(ENDLESS)
    (proposal,) = ENDLESS.propose([order(session, candidates=3000, cut=FixedLength(max_tokens=2))])
    counts = Counter(one.token_ids for one in proposal.candidates)
    assert len(counts) == 4
    assert chisquare(list(counts.values())).pvalue > 1e-4


def test_tabular_continues_from_what_was_accepted():
    model = TabularModel(lambda ids: [0, 1] if ids else [1, 0], ["a", "b"])
    session = start(model)
    session.accept(model.propose([order(session, cut=FixedLength(max_tokens=1))])[0].candidates[0])
    (proposal,) = model.propose([order(session, segment=1, candidates=1, cut=FixedLength(max_tokens=2))])
    assert proposal.candidates == (Candidate((1, 1), "abb"),)


def test_tabular_ends_at_eos_stop_string_length_and_cut():
    session = start(COIN, stop=("ab",))
    (proposal,) = COIN.propose([order(session, candidates=200, ends_answer=True)])
    for one in proposal.candidates:
        assert "ab" not in one.text
        if one.finish is Finish.EOS:
            assert one.token_ids[-1] == 2
            assert len(one.text) == len(one.token_ids) - 1
        elif one.finish is Finish.STOP:
            assert one.token_ids[-2:] == (0, 1)
        else:
            assert one.finish is Finish.LENGTH
            assert len(one.token_ids) == 4
    assert {one.finish for one in proposal.candidates} == set(Finish)
    cut = Boundary(marks="b", min_tokens=1, max_tokens=9)
    (proposal,) = ENDLESS.propose([order(start(ENDLESS), candidates=50, cut=cut)])
    assert all(one.text.find("b") in (-1, len(one.text) - 1) for one in proposal.candidates)


def test_a_dead_order_gets_no_candidates_and_those_already_drawn_are_counted():
    asked = iter([True] * 5 + [False] * 9)
    session = start(ENDLESS)
    dying = order(session, candidates=3, cut=FixedLength(max_tokens=4), alive=lambda: next(asked))
    (proposal,) = ENDLESS.propose([dying])
    assert proposal.candidates == ()
    assert proposal.tokens >= 4
    script = ScriptedModel([["x"]])
    assert script.propose([order(start(script), alive=lambda: False)])[0].candidates == ()


def test_scripted_gives_the_text_for_segment_and_attempt():
    model = ScriptedModel([["no", "yes"], ["end STOP here"]])
    session = start(model, stop=("STOP",))
    (first,) = model.propose([order(session)])
    assert [one.text for one in first.candidates] == ["no", "yes", "yes"]
    assert [one.finish for one in first.candidates] == [None] * 3
    assert first.candidates[0].token_ids == (ord("n"), ord("o"))
    session.accept(first.candidates[1])
    (last,) = model.propose([order(session, segment=1, candidates=1)])
    assert last.candidates[0].text == "yesend "
    assert last.candidates[0].finish is Finish.STOP
    assert model.sessions == [session]
    assert ScriptedModel([["x"]]).propose([order(session)])[0].candidates[0].finish is Finish.EOS


def requests(*responses):
    return [ScoreRequest(PROMPT, response, False, "r") for response in responses]


def test_keywords_are_found_in_any_case_and_calls_are_remembered():
    reward = KeywordReward(["Poison"], good=2.0, bad=-3.0)
    asked = requests("safe", "POISONOUS", "")
    assert [one.value for one in reward.score(asked)] == [2.0, -3.0, 2.0]
    assert reward.seen == asked
    reward.release("r")
    assert reward.released == ["r"]


def test_failing_reward_fails_after_so_many_calls_and_goes_on_failing():
    reward = FailingReward(OSError("down"), after=2)
    for _ in range(2):
        assert [one.value for one in reward.score(requests("a", "b"))] == [1.0, 1.0]
    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            reward.score(requests("a"))
    reward.release("r")


def test_sessions_of_other_models_are_refused():
    with pytest.raises(PromptError, match="another model was passed: object"):
        fake_session(object())
