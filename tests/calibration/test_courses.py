"""What becomes of the attempts at a segment, against the law with patience by enumeration."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.patience import FixedPatience, Patience, PosteriorPatience
from stars_guard.algorithm.rules import Constant, Hard, Refuse, Soft
from stars_guard.algorithm.segments import FixedLength
from stars_guard.calibration.courses import Course, attempts_in_vain, attempts_made, course
from stars_guard.calibration.draw import DrawPlan, draw_answers
from stars_guard.calibration.procedure import measure_delivery
from stars_guard.calibration.promises import Drawn, Pool
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.prompts import Prompt
from tests.support.calibration_law import MAX_TOKENS, MODEL, REWARD

SOON = PosteriorPatience(at_least=1, chance=0.5, prior_weight=0.4)
SOFT = {0.0: 0.5, 0.3: 0.3, 1.0: 0.2}
HARD = {0.0: 0.7, 1.0: 0.3}
Law = dict[float, float]


def enumerated(law: Law, patience: Patience, most: int) -> tuple[list[float], float]:
    """The chance that each attempt is made, and that one is accepted, over everything that may be drawn."""
    made, accepted = [0.0] * most, 0.0
    going: dict[tuple[float, ...], float] = {(): 1.0}
    for number in range(most):
        made[number] = sum(going.values())
        then: dict[tuple[float, ...], float] = {}
        for seen, mass in going.items():
            for chance, share in law.items():
                accepted += mass * share * chance
                now, left = (*seen, chance), most - number - 1
                if not (left and patience.gives_up(now, left)):
                    then[now] = mass * share * (1 - chance)
        going = then
    return made, accepted


def mean_course(law: Law, patience: Patience, drawn: int, most: int) -> Course:
    """The mean over all candidates that may be drawn: what is unbiased is then exact."""
    total = Course([0.0] * (min(drawn, most) + 1), [0.0] * most)
    for likely in product(law, repeat=drawn):
        total = total.plus(course(likely, patience, most), prod(law[chance] for chance in likely))
    return total


@pytest.mark.parametrize("patience", [FixedPatience(), SOON, PosteriorPatience(at_least=2, chance=0.6)])
@pytest.mark.parametrize("law", [SOFT, HARD])
@pytest.mark.parametrize("most", [1, 3, 5])
def test_with_enough_candidates_nothing_is_guessed(patience: Patience, law: Law, most: int) -> None:
    mean = mean_course(law, patience, 5, most)
    made, accepted = enumerated(law, patience, most)
    assert mean.made_chances == pytest.approx(made)
    assert mean.accepted == pytest.approx(accepted)


@pytest.mark.parametrize("most", [6, 9])
def test_by_the_hard_rule_patience_is_foretold_beyond_the_candidates_that_were_drawn(most: int) -> None:
    patience = PosteriorPatience(at_least=5, chance=0.3)
    made, accepted = enumerated(HARD, patience, most)
    assert made[5] == 0 or most == 9
    mean = mean_course(HARD, patience, 4, most)
    assert mean.made_chances == pytest.approx(made)
    assert mean.accepted == pytest.approx(accepted)


def test_hopeless_candidates_are_given_up_where_the_guard_gives_them_up() -> None:
    patience = PosteriorPatience()
    assert sum(course([0.0] * 8, patience, 20).made_chances) == 13
    assert sum(course([0.0] * 8, FixedPatience(), 20).made_chances) == 20
    assert attempts_made([0.0] * 20, patience, 20) == attempts_in_vain([0.0, 1.0], patience, 20) == 13
    assert attempts_made([0.0] * 20, FixedPatience(), 6) == attempts_in_vain([1.0], FixedPatience(), 6) == 6
    assert attempts_in_vain([0.1, 0.3], SOON, 20) > attempts_in_vain([0.0, 1.0], SOON, 20)


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("rule", [Hard(), Soft(beta=0.3)])
def test_what_is_foretold_is_what_the_guard_does(rule: Hard | Soft) -> None:
    config = GuardConfig(
        threshold=Constant(target=0.5),
        acceptance=rule,
        segments=FixedLength(max_tokens=2),
        max_attempts=12,
        exhaustion=Refuse(),
        patience=PosteriorPatience(at_least=2, chance=0.7),
    )
    sampling = SamplingParams(max_tokens=MAX_TOKENS, temperature=1.0, top_p=1.0, seed=3)
    plan = DrawPlan(
        sampling=sampling, segments=config.segments, candidates=12, samples_per_prompt=400, config=config
    )
    drawn = list(draw_answers(MODEL, REWARD, [Prompt.of("x")], plan))
    foretold = Pool(Drawn(drawn, config)).promise(config)
    llm = StarsGuardedLLM(MODEL, REWARD, config, sampling=sampling)
    delivered = measure_delivery(llm, [Prompt.of("x")] * 400, 10**6)
    assert foretold.attempts == pytest.approx(delivered.attempts, rel=0.1)
    assert foretold.forced == pytest.approx(delivered.forced, abs=0.04)
    assert foretold.made[: len(delivered.made)] == pytest.approx(delivered.made, abs=0.05)
    for_all = Pool(Drawn(drawn, config)).promise(config.changed(patience="fixed"))
    assert for_all.attempts > foretold.attempts + 0.1
