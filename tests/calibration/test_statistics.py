"""What calibration says about rewards: that good ones pass, and each kind of bad one is named."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from stars_guard.calibration.samples import SampledAnswer
from stars_guard.calibration.statistics import Description, Estimate, describe
from stars_guard.errors import ConfigurationError
from tests.support import calibration_answers as law
from tests.support.calibration_answers import answers

# Many draws; what they run is covered elsewhere.
pytestmark = [pytest.mark.no_cover, pytest.mark.slow]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("each", [1, 3])
def test_a_good_reward_is_not_doubted(seed, each):
    assert describe(answers(law.random_walk, each=each, seed=seed)).warnings == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("prompts", [8, 20, 60, 200])
def test_a_random_reward_is_flagged_however_few_the_answers(seed, prompts):
    warnings = describe(answers(law.noise, prompts=prompts, seed=seed)).warnings
    assert any("predict the final reward" in one for one in warnings)


def test_a_random_reward_is_called_blind_once_there_are_enough_answers():
    (warning,) = describe(answers(law.noise, prompts=200)).warnings
    assert "do not predict the final reward" in warning
    assert "choose by noise" in warning


def test_a_reward_that_reads_only_the_prompt_is_flagged():
    (warning,) = describe(answers(law.prompt_only)).warnings
    assert "Candidates of one prefix differ by 0 " in warning
    assert "not only the prompt" in warning


def test_telling_prompts_apart_is_not_enough():
    (warning,) = describe(answers(law.prompt_and_noise, each=4)).warnings
    assert "tell prompts apart, but not the answers to one prompt" in warning


def test_a_constant_reward_gets_one_warning():
    found = describe(answers(law.constant))
    assert len(found.warnings) == 1
    assert "rewards are 0.25" in found.warnings[0]
    assert found.early == Estimate(value=None)


def test_a_saturated_scale_is_flagged_at_either_end():
    upper = answers(law.squashed)
    assert any("at the upper end" in one and "logit" in one for one in describe(upper).warnings)
    turned = [_mapped(one, lambda reward: 1 - reward) for one in upper]
    assert any("at the lower end" in one for one in describe(turned).warnings)


def test_few_prompts_are_too_few():
    warnings = describe(answers(law.random_walk, prompts=5)).warnings
    assert "Only 5 prompts" in warnings[0]
    alone = describe(answers(law.random_walk, prompts=1, each=30))
    assert alone.early.value is not None
    assert alone.early.low is None
    assert any("Too few answers" in one for one in alone.warnings)


def test_one_answer_of_one_segment_is_described():
    found = describe(answers(law.random_walk, prompts=1, segments=1))
    (only,) = found.segments
    assert only.went_on == 0
    assert only.spearman == Estimate(value=None)
    assert Description.model_validate_json(found.model_dump_json()) == found


def test_the_measures_are_those_of_scipy_and_scikit_learn():
    own = answers(law.random_walk, each=2)
    at = describe(own).segments[2]
    partial = [one.path[2] for one in own if len(one.positions) > 3]
    final = [one.final_reward for one in own if len(one.positions) > 3]
    assert at.went_on == len(partial)
    assert at.pearson.value == pytest.approx(stats.pearsonr(partial, final).statistic)
    assert at.spearman.value == pytest.approx(stats.spearmanr(partial, final).statistic)
    assert at.auc.value == pytest.approx(roc_auc_score(np.array(final) > np.median(final), partial))


def test_answers_that_end_at_a_segment_say_nothing_about_what_it_predicts():
    found = describe(answers(law.noise, segments=3))
    assert found.segments[-1].went_on == 0
    assert found.segments[-1].spearman.value is None


def test_segments_are_described_in_order():
    own = answers(law.random_walk)
    found = describe(own)
    assert [at.segment for at in found.segments] == list(range(6))
    assert [at.tokens for at in found.segments] == [16, 32, 48, 64, 80, 96]
    for at in found.segments:
        rewards = [
            r for one in own if at.segment < len(one.positions) for r in one.positions[at.segment].rewards
        ]
        assert at.prefixes == len(rewards) / 4
        assert at.rewards.q50 == pytest.approx(np.median(rewards))
        assert at.within_prefix == pytest.approx(0.83, abs=0.15)


def test_intervals_hold_the_estimate_and_shrink_with_more_prompts():
    few, many = (describe(answers(law.random_walk, prompts=n)).segments[1].spearman for n in (25, 400))
    for one in (few, many):
        assert one.low < one.value < one.high
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_answers_to_one_prompt_are_not_counted_as_independent():
    once = answers(law.random_walk, prompts=30)
    copied = [one for one in once for _ in range(10)]
    alone, repeated = (describe(own).early for own in (once, copied))
    assert repeated.high - repeated.low == pytest.approx(alone.high - alone.low, rel=0.2)


def test_the_same_seed_gives_the_same_description():
    own = answers(law.random_walk, prompts=20)
    assert describe(own, seed=4) == describe(own, seed=4)
    assert describe(own, seed=4) != describe(own, seed=5)


def test_nothing_to_describe():
    with pytest.raises(ConfigurationError, match="draw some first"):
        describe([])
    (one,) = answers(law.random_walk, prompts=1)
    with pytest.raises(ConfigurationError, match="without segments"):
        describe([one.model_copy(update={"positions": ()})])


def _mapped(answer: SampledAnswer, change) -> SampledAnswer:
    positions = tuple(
        one.model_copy(update={"rewards": tuple(change(reward) for reward in one.rewards)})
        for one in answer.positions
    )
    return answer.model_copy(update={"positions": positions})
