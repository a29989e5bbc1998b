"""Draws for calibration: independent candidates, the same in any batch, resumable to the same result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, Hard
from stars_guard.algorithm.segments import Boundary, FixedLength
from stars_guard.calibration.draw import DrawPlan, draw_answers
from stars_guard.calibration.samples import SampledAnswer
from stars_guard.calibration.storage import sampled
from stars_guard.errors import ConfigurationError, GenerationError, ScoringError
from stars_guard.models.base import Order, Proposal
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.testing import FailingReward, KeywordReward, ScriptedModel, TabularModel
from stars_guard.types import Candidate, HiddenStates, ModelIdentity, Reward
from tests.support.calibration_law import EOS, MAX_TOKENS, MODEL, REWARD, VOCABULARY, distribution

# Many draws; what they run is covered elsewhere.
pytestmark = pytest.mark.no_cover

PROMPTS = [Prompt.of(f"prompt {n}") for n in range(5)]
PLAN = DrawPlan(
    sampling=SamplingParams(max_tokens=MAX_TOKENS, seed=1),
    segments=FixedLength(max_tokens=2),
    candidates=3,
    samples_per_prompt=2,
)
GUARD = GuardConfig(threshold=Constant(target=1), acceptance=Hard())


def by_place(answers: Sequence[SampledAnswer]) -> list[SampledAnswer]:
    return sorted(answers, key=lambda one: (one.prompt, one.seed))


def test_answers_do_not_depend_on_the_batch() -> None:
    alone = list(draw_answers(MODEL, REWARD, PROMPTS, PLAN, max_rows=1))
    together = list(draw_answers(MODEL, REWARD, PROMPTS, PLAN, max_rows=1000))
    assert by_place(alone) == by_place(together)
    assert len(alone) == 10
    assert len({one.seed for one in alone}) == 10


def test_positions_follow_the_answer() -> None:
    for answer in draw_answers(MODEL, REWARD, PROMPTS, PLAN):
        assert answer.base_reward == 0
        tokens = 0
        for number, position in enumerate(answer.positions):
            assert (position.segment, position.prefix_tokens) == (number, tokens)
            assert len(position.rewards) == len(position.tokens) == 3
            assert position.chosen == 0
            tokens = position.tokens[0]
        assert answer.finished == (tokens < MAX_TOKENS) or tokens == MAX_TOKENS


def test_an_answer_that_ends_by_itself_says_so() -> None:
    model = TabularModel(lambda ids: [1.0, 0.0] if len(ids) < 3 else [0.0, 1.0], ("a", ""), eos=1)
    (answer,) = draw_answers(model, KeywordReward(["x"]), PROMPTS[:1], PLAN.changed(samples_per_prompt=1))
    assert answer.finished
    cut = PLAN.changed(samples_per_prompt=1, sampling=SamplingParams(max_tokens=3))
    (answer,) = draw_answers(model, KeywordReward(["x"]), PROMPTS[:1], cut)
    assert not answer.finished


def test_the_rest_of_an_answer_may_be_shorter_than_a_rules_shortest_segment() -> None:
    plan = PLAN.changed(segments=Boundary(max_tokens=3, min_tokens=3), candidates=2)
    for answer in draw_answers(MODEL, REWARD, PROMPTS, plan):
        assert max(answer.positions[-1].tokens) <= MAX_TOKENS


def test_what_is_scored_is_told_in_full() -> None:
    reward = KeywordReward(["poison"])
    model = ScriptedModel([["ab", "abc"], ["de", "d"]])
    plan = PLAN.changed(samples_per_prompt=1, candidates=2)
    (answer,) = draw_answers(model, reward, PROMPTS[:1], plan)
    assert [(one.response, one.finished, one.tokens) for one in reward.seen] == [
        ("", False, 0),
        ("ab", False, 2),
        ("abc", False, 3),
        ("abde", True, 4),
        ("abd", True, 3),
    ]
    assert len({one.run_id for one in reward.seen}) == 1
    assert reward.released == [reward.seen[0].run_id]
    assert model.sessions[0].closed
    assert answer.path == [1.0, 1.0]


def test_a_guards_draw_goes_on_with_what_it_accepts_or_the_best() -> None:
    model = ScriptedModel([["poison ", "good ", "fine "], ["bad poison", "poison"]])
    plan = PLAN.changed(samples_per_prompt=1, config=GUARD)
    (answer,) = draw_answers(model, KeywordReward(["poison"]), PROMPTS[:1], plan)
    assert [position.chosen for position in answer.positions] == [1, 0]
    assert model.sessions[0].text == "good bad poison"


def test_rounds_have_seeds_of_their_own() -> None:
    assert set(PLAN.places(5)).isdisjoint(PLAN.changed(round=1).places(5))


def test_a_greedy_plan_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="temperature"):
        DrawPlan(sampling=SamplingParams(temperature=0))


@pytest.mark.parametrize("after", [0, 1, 4])
def test_sessions_are_closed_after_an_outage(after: int) -> None:
    model = ScriptedModel([["a"], ["b"]])
    with pytest.raises(ScoringError):
        list(draw_answers(model, FailingReward(ScoringError("away"), after=after), PROMPTS, PLAN, max_rows=6))
    assert model.sessions
    assert all(session.closed for session in model.sessions)


def test_a_model_that_draws_too_few_is_refused() -> None:
    class Lazy(ScriptedModel):
        def propose(self, orders: Sequence[Order]) -> list[Proposal]:
            return [Proposal(one.candidates[:1], 1) for one in super().propose(orders)]

    with pytest.raises(GenerationError, match="1 of 3 candidates"):
        list(draw_answers(Lazy([["a"]]), REWARD, PROMPTS, PLAN))


class Observed(TabularModel):
    """Hands out states whose ``mean`` is the text read so far."""

    identity = ModelIdentity("tabular", 4, 2, (1.0,))

    def states(self, text: str) -> HiddenStates:
        return HiddenStates(self.identity, (2,), len(text), None, text, None)

    def observe(self, prompt: Prompt, sampling: SamplingParams, layers: tuple[int, ...]):  # type: ignore[no-untyped-def]
        assert layers == (2,)
        session = self.start(prompt, sampling)
        session.hidden = self.states("")  # type: ignore[attr-defined]
        return session

    def propose(self, orders: Sequence[Order]) -> list[Proposal]:
        return [
            Proposal(
                tuple(
                    Candidate(one.token_ids, one.text, one.finish, hidden=self.states(one.text))
                    for one in proposal.candidates
                ),
                proposal.tokens,
            )
            for proposal in super().propose(orders)
        ]


class StateReward:
    name = "states"
    hidden_layers = (2,)

    def observes(self, model: ModelIdentity | None) -> bool:
        return model is not None

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        assert all(one.hidden is not None and one.hidden.mean == one.response for one in requests)
        return REWARD.score(requests)

    def release(self, run_id: str) -> None:
        """Nothing is kept."""


def test_a_reward_that_reads_states_gets_them() -> None:
    model = Observed(distribution, (*VOCABULARY, ""), eos=EOS)
    assert list(draw_answers(model, StateReward(), PROMPTS, PLAN)) == list(
        draw_answers(MODEL, REWARD, PROMPTS, PLAN)
    )


def test_a_run_that_was_cut_off_ends_with_the_same_answers(tmp_path: Path) -> None:
    whole = sampled(tmp_path / "whole.jsonl", MODEL, REWARD, PROMPTS, PLAN)
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 11
    for kept in range(len(lines)):
        for torn in ("", lines[kept][:20]):
            part = tmp_path / "part.jsonl"
            part.write_text("".join(lines[:kept]) + torn)
            told: list[tuple[int, int]] = []
            again = sampled(part, MODEL, REWARD, PROMPTS, PLAN, lambda a, b: told.append((a, b)))  # noqa: B023
            assert again == whole
            assert sorted(part.read_text().splitlines()) == sorted(line.strip() for line in lines)
            assert told == [(n, 10) for n in range(max(0, kept - 1), 11)]


@pytest.mark.parametrize(
    ("plan", "prompts", "words"),
    [
        (PLAN.changed(candidates=4), PROMPTS, "candidates: 3 there, 4 now"),
        (PLAN.changed(sampling=SamplingParams(max_tokens=9, seed=1)), PROMPTS, "max_tokens: 4 there, 9 now"),
        (PLAN.changed(round=1), PROMPTS, "round: 0 there, 1 now"),
        (PLAN.changed(config=GUARD), PROMPTS, "config: None there, "),
        (PLAN, PROMPTS[::-1], "prompts: "),
    ],
)
def test_samples_of_another_run_are_not_mixed_in(
    tmp_path: Path, plan: DrawPlan, prompts: list[Prompt], words: str
) -> None:
    sampled(tmp_path / "s.jsonl", MODEL, REWARD, PROMPTS, PLAN)
    with pytest.raises(ConfigurationError, match=words):
        sampled(tmp_path / "s.jsonl", MODEL, REWARD, prompts, plan)


def test_another_reward_or_model_is_named(tmp_path: Path) -> None:
    sampled(tmp_path / "s.jsonl", MODEL, REWARD, PROMPTS, PLAN)
    with pytest.raises(ConfigurationError, match="model: 'tabular' there, 'scripted' now"):
        sampled(tmp_path / "s.jsonl", ScriptedModel([["a"]]), KeywordReward(["x"]), PROMPTS, PLAN)
    (tmp_path / "s.jsonl").write_text("{}\n")
    with pytest.raises(ConfigurationError, match="not a file of samples"):
        sampled(tmp_path / "s.jsonl", MODEL, REWARD, PROMPTS, PLAN)
