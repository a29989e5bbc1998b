"""Corrected rewards: monotone in the partial score at every position, and nothing is made up."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import Composite, RewardModel, ScoreRequest
from stars_guard.rewards.corrected import CorrectedReward, Correction, PositionMap
from stars_guard.rewards.veto import Veto
from stars_guard.testing import KeywordReward
from stars_guard.types import Reward

PROMPT = Prompt.of("How do I bake bread?")
EARLY = PositionMap(tokens=10, partial=(0.0, 1.0, 3.0), final=(-1.0, 0.0, 0.5))
LATE = PositionMap(tokens=30, partial=(0.0, 2.0), final=(0.0, 2.0))
CORRECTION = Correction(maps=(EARLY, LATE))
scores = st.floats(-1e9, 1e9)


class Fixed:
    """The reward that each response spells out."""

    name = "fixed"

    def __init__(self):
        self.released = []

    def score(self, requests):
        return [Reward(float(request.response), 3, {"inner": 7.0}) for request in requests]

    def release(self, run_id):
        self.released.append(run_id)


@st.composite
def corrections(draw):
    def knots(size):
        finite = st.floats(-1e6, 1e6)
        rising = draw(st.lists(finite, min_size=size, max_size=size, unique=True))
        return tuple(sorted(rising)), tuple(sorted(draw(st.lists(finite, min_size=size, max_size=size))))

    positions = sorted(draw(st.sets(st.integers(0, 200), min_size=1, max_size=4)))
    sizes = draw(st.lists(st.integers(1, 5), min_size=len(positions), max_size=len(positions)))
    maps = []
    for tokens, size in zip(positions, sizes, strict=True):
        partial, final = knots(size)
        maps.append(PositionMap(tokens=tokens, partial=partial, final=final))
    return Correction(maps=tuple(maps))


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0.0, -1.0),
        (0.5, -0.5),
        (1.0, 0.0),
        (2.0, 0.25),
        (3.0, 0.5),
        (4.0, 1.5),
        (-2.0, -3.0),
        (-1e6, -1000001.0),
    ],
)
def test_linear_between_knots_and_slope_one_beyond(score, expected):
    assert EARLY.final_of(score) == expected


@pytest.mark.parametrize(
    ("tokens", "expected"), [(0, -0.5), (10, -0.5), (15, -0.25), (20, 0.0), (30, 0.5), (99, 0.5)]
)
def test_between_positions_the_maps_are_mixed(tokens, expected):
    assert CORRECTION.final_of(0.5, tokens) == expected


@given(corrections(), st.integers(0, 250), scores, scores)
def test_a_higher_partial_score_is_never_worth_less(correction, tokens, score, other):
    low, high = sorted((score, other))
    assert correction.final_of(low, tokens) <= correction.final_of(high, tokens)


# Numbers near 2e6 are 2.3e-10 apart, and a difference of two of them may be small: some roundings, not more.
ROUNDING = 2e-9


@given(corrections(), st.integers(0, 250), st.floats(1, 1e6))
@example(
    Correction(maps=(PositionMap(tokens=0, partial=(524290.0,), final=(1.8217598549672402,)),)),
    0,
    1.8217598549672402,
)
def test_beyond_the_knots_order_and_distance_are_kept(correction, tokens, distance):
    top = max(position.partial[-1] for position in correction.maps)
    bottom = min(position.partial[0] for position in correction.maps)
    highest, lowest = correction.final_of(top, tokens), correction.final_of(bottom, tokens)
    assert correction.final_of(top + distance, tokens) == pytest.approx(highest + distance, abs=ROUNDING)
    assert correction.final_of(bottom - distance, tokens) == pytest.approx(lowest - distance, abs=ROUNDING)


@given(corrections())
def test_a_correction_survives_json(correction):
    assert Correction.model_validate_json(correction.model_dump_json()) == correction


def test_a_correction_can_be_written_in_toml():
    text = """
    [[maps]]
    tokens = 10
    partial = [0.0, 1.0, 3.0]
    final = [-1.0, 0.0, 0.5]

    [[maps]]
    tokens = 30
    partial = [0.0, 2.0]
    final = [0.0, 2.0]
    """
    assert Correction(**tomllib.loads(text)) == CORRECTION


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"partial": (1.0, 1.0), "final": (0.0, 0.0)}, "rise strictly"),
        ({"partial": (0.0, 1.0), "final": (1.0, 0.0)}, "must not fall"),
        ({"partial": (0.0, 1.0), "final": (1.0,)}, "2 partial scores but 1"),
        ({"partial": (), "final": ()}, "at least 1"),
        ({"tokens": -1}, "tokens=-1"),
    ],
)
def test_a_map_that_is_not_monotone_is_refused(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        PositionMap(**{"tokens": 1, "partial": (0.0,), "final": (0.0,), **wrong})


@pytest.mark.parametrize("maps", [(LATE, EARLY), (EARLY, EARLY)])
def test_positions_rise(maps):
    with pytest.raises(ConfigurationError, match="positions must rise strictly"):
        Correction(maps=maps)


def test_partial_texts_are_corrected_and_finished_ones_are_not():
    reward = CorrectedReward(Fixed(), CORRECTION)
    requests = [
        ScoreRequest(PROMPT, "0.5", finished=False, tokens=15),
        ScoreRequest(PROMPT, "0.5", finished=True, tokens=15),
    ]
    partial, finished = reward.score(requests)
    assert partial == Reward(-0.25, 3, {"inner": 7.0, "partial": 0.5})
    assert finished == Reward(0.5, 3, {"inner": 7.0, "partial": 0.5})


def test_a_veto_stays_a_veto_at_every_position():
    reward = CorrectedReward(Veto(["poison"]), CORRECTION)
    texts = [
        ScoreRequest(PROMPT, text, finished=False, tokens=tokens)
        for tokens in (1, 20, 40)
        for text in ("some poison", "some bread")
    ]
    values = [item.value for item in reward.score(texts)]
    assert max(values[::2]) < -999_000
    assert min(values[1::2]) >= 0


def test_it_is_a_reward_model_and_passes_release_on():
    inner = Fixed()
    reward = CorrectedReward(inner, CORRECTION)
    assert isinstance(reward, RewardModel)
    assert reward.name == "corrected(fixed)"
    # So that an inner reward that reads hidden states is still given them.
    assert isinstance(reward, Composite)
    assert reward.parts == [inner]
    assert reward.score([]) == []
    reward.release("run")
    assert inner.released == ["run"]


def test_what_is_no_number_is_not_corrected_into_one():
    with pytest.raises(ScoringError, match="finite"):
        CorrectedReward(Fixed(), CORRECTION).score([ScoreRequest(PROMPT, "nan", finished=False)])


def test_wrong_parts_are_refused():
    with pytest.raises(ConfigurationError, match="int is no reward model"):
        CorrectedReward(3, CORRECTION)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="dict is no Correction"):
        CorrectedReward(KeywordReward(["x"]), {})  # type: ignore[arg-type]
