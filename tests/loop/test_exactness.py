"""The promise: answers follow the STARS law exactly. Enumerated on a tiny model and compared by chi-square.

Every test has fixed seeds, so it always gives the same result; ``ERROR_RATE`` is the chance that a correct
sampler would have been rejected when the seeds were picked. The last section shows that the same test rejects
the usual wrong samplers.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from functools import cache
from itertools import count

import pytest
from scipy.stats import chisquare

from stars_guard.algorithm.acceptance import AcceptanceKey
from stars_guard.algorithm.candidates import Adaptive, Fixed
from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.algorithm.random_numbers import ACCEPTANCE, uniform
from stars_guard.algorithm.rules import (
    Best,
    Constant,
    FrontLoaded,
    Hard,
    Last,
    LinearInSegments,
    LinearInTokens,
    Position,
    Refuse,
    Soft,
    Table,
)
from stars_guard.algorithm.segments import Boundary, FixedLength
from stars_guard.loop.events import Finished, Request
from stars_guard.loop.loop import Loop
from stars_guard.loop.request import RequestInFlight
from stars_guard.models.base import Order
from stars_guard.prompts import Prompt
from stars_guard.testing import TabularModel
from stars_guard.types import Candidate, Reward, StopReason

# Many draws; what they run is covered elsewhere.
pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

ERROR_RATE = 1e-4
UNCAPPED = 10**6
KEY = AcceptanceKey("what only the operator knows")
ANSWERS = 1200
MAX_TOKENS = 4

VOCABULARY = ("a", "b", ".")
EOS = len(VOCABULARY)
REFUSED = "refused"

WEIGHTS = ((4, 2, 2, 1), (1, 3, 2, 1), (3, 1, 1, 2), (2, 2, 3, 1))


def distribution(ids):
    """Next-token probabilities: they depend on the last token and on the length."""
    weights = WEIGHTS[(2 * len(ids) + (ids[-1] if ids else 0)) % len(WEIGHTS)]
    return [weight / sum(weights) for weight in weights]


@pytest.fixture(autouse=True)
def _quiet(caplog):
    """Thousands of answers are forced or refused on purpose; their warnings cost time."""
    caplog.set_level(logging.ERROR, "stars_guard")


MODEL = TabularModel(distribution, (*VOCABULARY, ""), eos=EOS)


def text_of(ids):
    return "".join(VOCABULARY[one] for one in ids if one != EOS)


@cache
def value(text):
    """A reward that depends on every character and its place; several texts share a value."""
    return round(sum((0.9, -0.8, 0.1)[VOCABULARY.index(one)] * (-1) ** n for n, one in enumerate(text)), 6)


class TableReward:
    name = "table"

    def score(self, requests):
        return [Reward(value(request.response)) for request in requests]

    def release(self, run_id):
        """Nothing is kept."""


def guard(**changes):
    parts = {
        "threshold": Constant(target=0.7),
        "acceptance": Soft(beta=0.8),
        "segments": FixedLength(max_tokens=2),
        "drawing": Fixed(candidates=2),
        "max_attempts": UNCAPPED,
        "exhaustion": Refuse(),
        "refusal_text": REFUSED,
        **changes,
    }
    return GuardConfig(**parts)


class Answer:
    """What the tests look at in a result; results in full would fill the memory."""

    def __init__(self, result):
        segments = result.trace.segments
        self.whole = (tuple(result.token_ids), result.stop_reason)
        self.draws = [tuple(attempt.uniform for attempt in segment.attempts) for segment in segments]
        self.candidates = [segment.candidates for segment in segments]
        end = segments[1].prefix_tokens if len(segments) > 1 else None
        self.first = REFUSED if segments[0].chosen is None else tuple(result.token_ids[:end])


@cache
def answer_all(config, answers=ANSWERS, model=MODEL, safer_model=None, key=None, **drawn):
    """Guarded answers with the seeds 0, 1, 2, ... in batches, by the guard's own rounds."""
    rounds = Loop(model, TableReward(), safer_model=safer_model, max_rows=10**9).rounds
    found = {}

    def submitted(seed):
        def keep(event):
            if isinstance(event, Finished):
                found[seed] = Answer(event.result)

        sampling = SamplingParams(seed=seed, max_tokens=MAX_TOKENS, **drawn)
        return RequestInFlight(Request(Prompt.of("x"), sampling, config, Budget(), key), keep)

    for start in range(0, answers, 100):
        requests = [submitted(seed) for seed in range(start, min(start + 100, answers))]
        while requests:
            rounds.step(requests)
            requests = [request for request in requests if not request.ended]
    return [found[seed] for seed in range(answers)]


# The closed form, by enumeration. Nothing here comes from the package but thresholds and probabilities.


def proposals(prefix, ends):
    """{segment ids: pi(segment | prefix)} for every segment that can follow ``prefix``."""
    found = {}

    def extend(ids, mass):
        for token, probability in enumerate(distribution(prefix + ids)):
            longer = (*ids, token)
            full = len(prefix) + len(longer) == MAX_TOKENS
            if token == EOS or full or ends(longer):
                found[longer] = mass * probability
            else:
                extend(longer, mass * probability)

    extend((), 1.0)
    assert sum(found.values()) == pytest.approx(1)
    return found


def two_tokens(segment):
    return len(segment) == 2


def stopping(prefix, segment):
    if segment[-1] == EOS:
        return StopReason.EOS
    return StopReason.LENGTH if len(prefix + segment) == MAX_TOKENS else None


def floor_of(config):
    if config.floor is not None:
        return config.floor
    if isinstance(config.exhaustion, Best) and config.exhaustion.floor is not None:
        return config.exhaustion.floor
    soft = isinstance(config.acceptance, Soft)
    return config.threshold.target - (5 * config.acceptance.beta if soft else 0)


def acceptance(config, prefix, number, segment):
    """``a_k``: 0 under the floor; a segment that completes the answer is held against the target."""
    ids = prefix + segment
    reward, floor = value(text_of(ids)), floor_of(config)
    tokens = len(ids)
    if config.final_at_target and segment[-1] != EOS and len(ids) == MAX_TOKENS:
        tokens = len(prefix) + config.segments.max_tokens  # cut: as if its segment were whole
    at = Position(tokens, number, MAX_TOKENS, base_reward=value(""), floor=floor)
    bar = config.threshold.threshold(at)
    if config.final_at_target and segment[-1] == EOS and not isinstance(config.threshold, Table):
        bar = max(bar, config.threshold.target)
    return config.acceptance.probability(reward, bar) if reward >= floor else 0.0


def segment_law(config, prefix, number, ends):
    """{chosen segment or REFUSED: probability} under the rule and the exhaustion policy."""
    pi = proposals(prefix, ends)
    a = {one: acceptance(config, prefix, number, one) for one in pi}
    p = sum(pi[one] * a[one] for one in pi)
    exhausted = (1 - p) ** config.max_attempts
    law = Counter({one: (1 - exhausted) * pi[one] * a[one] / p if p else 0.0 for one in pi})
    if exhausted < 1e-12:
        return law
    # Every draw that was rejected has this law; exhaustion means max_attempts independent ones.
    rejected = {one: pi[one] * (1 - a[one]) / (1 - p) for one in pi}
    reward = {one: value(text_of(prefix + one)) for one in pi}
    floor = floor_of(config)
    for one, mass in rejected.items():
        if isinstance(config.exhaustion, Last):
            law[one if reward[one] >= floor else REFUSED] += exhausted * mass
        elif isinstance(config.exhaustion, Best) and reward[one] >= floor:
            law[one] += exhausted * best_of(config.max_attempts, rejected, reward, one)
        elif isinstance(config.exhaustion, Best):
            law[REFUSED] += exhausted * best_of(config.max_attempts, rejected, reward, one)
        else:
            law[REFUSED] += exhausted * mass
    assert sum(law.values()) == pytest.approx(1)
    return law


def best_of(draws, law, reward, one):
    """Chance that ``one`` is the best of so many draws, the first of equals."""
    up_to = sum(mass for other, mass in law.items() if reward[other] <= reward[one])
    under = sum(mass for other, mass in law.items() if reward[other] < reward[one])
    return (up_to**draws - under**draws) * law[one] / (up_to - under) if law[one] else 0.0


def answer_law(config, ends=two_tokens, prefix=(), number=1):
    """{(ids, stop reason): probability} of whole answers."""
    law = Counter()
    for segment, mass in segment_law(config, prefix, number, ends).items():
        if segment == REFUSED:
            law[prefix, StopReason.REFUSED] += mass
        elif (reason := stopping(prefix, segment)) is not None:
            law[prefix + segment, reason] += mass
        else:
            for end, share in answer_law(config, ends, prefix + segment, number + 1).items():
                law[end] += mass * share
    return law


def p_value(seen, law):
    """Chi-square of observations against a law; cells with under five expected are merged."""
    counts, total = Counter(seen), len(seen)
    assert not [one for one in counts if not law.get(one)], "something impossible was drawn"
    observed, expected, rare = [], [], [0, 0.0]
    for one, mass in law.items():
        if mass * total >= 5:
            observed.append(counts[one])
            expected.append(mass * total)
        else:
            rare = [rare[0] + counts[one], rare[1] + mass * total]
    if rare[1] >= 5:
        observed.append(rare[0])
        expected.append(rare[1])
    else:
        observed[-1] += rare[0]
        expected[-1] += rare[1]
    assert len(observed) > 3, "too coarse to tell laws apart"
    scale = sum(observed) / sum(expected)
    return chisquare(observed, [one * scale for one in expected]).pvalue


FEW = {"max_attempts": 3}
CONFIGS = {
    "soft": guard(),
    "soft, strict": guard(threshold=Constant(target=1.2), acceptance=Soft(beta=0.4)),
    "hard": guard(acceptance=Hard(), threshold=Constant(target=-0.2)),
    "ramp in tokens": guard(threshold=LinearInTokens(target=1.2, alpha=0.3, horizon=4)),
    "ramp that a request ends early": guard(threshold=LinearInTokens(target=1.2, alpha=0.3, horizon=12)),
    "ramp from the floor": guard(threshold=LinearInTokens(target=1.2, alpha=0, horizon=4), floor=0.4),
    "floor": guard(floor=-0.2),
    "floor, last": guard(**FEW, exhaustion=Last(), floor=-0.2, acceptance=Soft(beta=0.3)),
    "floor, best": guard(**FEW, exhaustion=Best(), floor=-0.2, acceptance=Soft(beta=0.3)),
    "end not held against the target": guard(
        threshold=LinearInTokens(target=1.2, alpha=0, horizon=4), final_at_target=False
    ),
    "as published": GuardConfig.paper(
        target=1.2,
        beta=0.8,
        alpha=0,
        segments=FixedLength(max_tokens=2),
        drawing=Fixed(candidates=2),
        refusal_text=REFUSED,
        **FEW,
    ),
    "ramp in segments": guard(threshold=LinearInSegments(target=1.2, alpha=0, segments=3)),
    "front-loaded": guard(threshold=FrontLoaded(target=0, start=1.5, decay_tokens=2)),
    "table": guard(threshold=Table(positions=(1, 2, 4), thresholds=(0.2, 1.0, 0.4))),
    "last": guard(**FEW, exhaustion=Last()),
    "last, one attempt": guard(max_attempts=1, exhaustion=Last()),
    "last, hard": guard(**FEW, exhaustion=Last(), acceptance=Hard(), floor=-9),
    "best": guard(**FEW, exhaustion=Best(floor=-9)),
    "best, hard": guard(**FEW, exhaustion=Best(floor=-9), acceptance=Hard()),
    "best with a floor": guard(**FEW, exhaustion=Best(floor=-0.2)),
    "refuse": guard(**FEW, exhaustion=Refuse()),
    "refuse, ramp": guard(**FEW, threshold=LinearInTokens(target=1.2, alpha=0.3, horizon=4)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_whole_answers_follow_the_enumerated_law(name):
    config = CONFIGS[name]
    assert p_value([one.whole for one in answer_all(config)], answer_law(config)) > ERROR_RATE


@pytest.mark.parametrize("name", CONFIGS)
def test_first_segments_follow_the_closed_form(name):
    config = CONFIGS[name]
    law = segment_law(config, (), 1, two_tokens)
    assert p_value([one.first for one in answer_all(config)], law) > ERROR_RATE


@pytest.mark.parametrize("name", ["soft", "hard", "ramp from the floor", "floor, best", "as published"])
def test_keyed_draws_follow_the_same_law(name):
    config = CONFIGS[name]
    answers = answer_all(config, key=KEY)
    assert p_value([one.whole for one in answers], answer_law(config)) > ERROR_RATE
    assert [one.draws for one in answers] != [one.draws for one in answer_all(config)]


def test_the_same_key_and_seed_repeat_the_answers_and_another_key_gives_others():
    def draws(secret):
        return [one.draws for one in answer_all(CONFIGS["soft"], 200, key=AcceptanceKey(secret))]

    assert draws("0123456789abcdef") == draws(b"0123456789abcdef") != draws("another secret of the operator")


def test_under_a_floor_the_uncapped_soft_law_is_the_clipped_tilt_of_what_reaches_it():
    config, pi = CONFIGS["ramp from the floor"], proposals((), two_tokens)
    bars = {one: 1.2 if one[-1] == EOS else 0.4 + len(one) / 4 * 0.8 for one in pi}
    tilted = {
        one: mass * math.exp(min(value(text_of(one)), bars[one]) / 0.8 - bars[one] / 0.8)
        for one, mass in pi.items()
        if value(text_of(one)) >= 0.4
    }
    law = {one: mass / sum(tilted.values()) for one, mass in tilted.items()}
    assert law == pytest.approx({one: p for one, p in segment_law(config, (), 1, two_tokens).items() if p})
    assert p_value([one.first for one in answer_all(config)], law) > ERROR_RATE


def test_the_uncapped_soft_law_is_the_tilt_with_the_reward_clipped_at_the_threshold():
    pi = proposals((), two_tokens)
    tilted = {one: mass * math.exp(min(value(text_of(one)), 0.7) / 0.8) for one, mass in pi.items()}
    law = {one: mass / sum(tilted.values()) for one, mass in tilted.items()}
    assert law == pytest.approx(dict(segment_law(guard(), (), 1, two_tokens)))
    assert p_value([one.first for one in answer_all(guard())], law) > ERROR_RATE


def test_the_uncapped_hard_law_is_the_model_given_that_the_threshold_is_reached():
    config = CONFIGS["hard"]
    reached = {one: mass for one, mass in proposals((), two_tokens).items() if value(text_of(one)) >= -0.2}
    law = {one: mass / sum(reached.values()) for one, mass in reached.items()}
    assert p_value([one.first for one in answer_all(config)], law) > ERROR_RATE


@pytest.mark.parametrize("name", ["soft", "soft, strict", "last", "best", "refuse"])
def test_the_expected_number_of_attempts_is_that_of_a_truncated_geometric_law(name):
    config = CONFIGS[name]
    pi = proposals((), two_tokens)
    p = sum(mass * acceptance(config, (), 1, one) for one, mass in pi.items())
    most = min(config.max_attempts, 2000)
    chances = [p * (1 - p) ** (n - 1) for n in range(1, most)] + [(1 - p) ** (most - 1)]
    mean = sum(n * chance for n, chance in enumerate(chances, start=1))
    assert mean == pytest.approx((1 - (1 - p) ** config.max_attempts) / p)
    variance = sum((n - mean) ** 2 * chance for n, chance in enumerate(chances, start=1))
    judged = [len(one.draws[0]) for one in answer_all(config)]
    z = (sum(judged) / ANSWERS - mean) / math.sqrt(variance / ANSWERS)
    assert abs(z) < 3.9  # two-sided 1e-4


@pytest.mark.parametrize("name", ["soft", "soft, strict", "best", "last", "refuse, ramp"])
def test_candidates_drawn_at_once_give_the_very_same_answers(name):
    def decided(drawing):
        results = answer_all(CONFIGS[name].model_copy(update={"drawing": drawing}), 200)
        return [(one.whole, one.draws) for one in results]

    alone = decided(Fixed(candidates=1))
    for several in (Fixed(candidates=2), Fixed(candidates=4), Fixed(candidates=8), Adaptive(row_cost=0.05)):
        assert decided(several) == alone


def test_adapting_the_number_of_candidates_leaves_the_law_alone():
    config = guard(drawing=Adaptive(row_cost=0.2), acceptance=Soft(beta=0.5))
    results = answer_all(config)
    assert len({number for one in results for number in one.candidates}) > 2
    assert p_value([one.whole for one in results], answer_law(config)) > ERROR_RATE


def test_segments_cut_at_boundaries_of_the_text_follow_their_law():
    config = guard(segments=Boundary(min_tokens=1, max_tokens=3), **FEW, exhaustion=Best(floor=-0.5))

    def ends(segment):
        return text_of(segment)[-1:] == "." or len(segment) == 3

    results = answer_all(config)
    assert {len(one.first) for one in results if one.first != REFUSED} == {1, 2, 3}
    assert p_value([one.first for one in results], segment_law(config, (), 1, ends)) > ERROR_RATE
    assert p_value([one.whole for one in results], answer_law(config, ends)) > ERROR_RATE


# Teeth: samplers that look alike and are not. Each draws its rounds with the same model and the same numbers.


class OpenSession:
    def __init__(self, seed):
        self.session = MODEL.start(Prompt.of("x"), SamplingParams(seed=seed, max_tokens=MAX_TOKENS))

    def rounds(self, size):
        """Rounds of (attempt index, candidate), for ever."""
        for number in count():
            order = Order(
                self.session, 0, number * size, size, FixedLength(max_tokens=2), False, lambda: True
            )
            (proposal,) = MODEL.propose([order])
            yield list(enumerate(proposal.candidates, start=number * size))


def in_index_order(accepted):
    return accepted[0]


def highest_reward(accepted):
    return max(accepted, key=lambda candidate: value(candidate.text))


def first_to_finish(accepted):
    return min(accepted, key=lambda candidate: len(candidate.token_ids))


def sample(seed, choose, *, shared_draw=False, size=8):
    """The first segment, chosen by ``choose`` among the accepted of a round."""
    for candidates in OpenSession(seed).rounds(size):
        accepted = []
        for attempt, candidate in candidates:
            draw = uniform(seed, 0, candidates[0][0] if shared_draw else attempt, ACCEPTANCE)
            if draw < acceptance(guard(), (), 1, candidate.token_ids):
                accepted.append(candidate)
        if accepted:
            return choose(accepted).token_ids
    raise AssertionError


def p_value_of(**sampler):
    law = segment_law(guard(), (), 1, two_tokens)
    return p_value([sample(seed, **sampler) for seed in range(2 * ANSWERS)], law)


def test_the_first_accepted_in_index_order_passes():
    assert p_value_of(choose=in_index_order) > ERROR_RATE


@pytest.mark.parametrize(
    "wrong",
    [
        {"choose": highest_reward},
        {"choose": highest_reward, "size": 2},
        {"choose": first_to_finish},
        {"choose": first_to_finish, "size": 2},
        {"choose": in_index_order, "shared_draw": True},
    ],
    ids=["best of 8", "best of 2", "first to finish of 8", "first to finish of 2", "one draw for all"],
)
def test_wrong_samplers_are_rejected(wrong):
    assert p_value_of(**wrong) < ERROR_RATE


@pytest.mark.parametrize(
    "other",
    [
        {"threshold": Constant(target=1.7)},
        {"threshold": LinearInTokens(target=2, alpha=0)},
        {"threshold": FrontLoaded(target=0.7, start=3, decay_tokens=2)},
        {"acceptance": Soft(beta=1.3)},
        {"max_attempts": 2},
        {"max_attempts": 2, "exhaustion": Best(floor=-9)},
    ],
    ids=repr,
)
def test_the_law_of_other_settings_is_rejected(other):
    law = answer_law(guard(**other))
    seen = [one.whole for one in answer_all(guard())]
    assert p_value(seen, law) < ERROR_RATE


@pytest.mark.parametrize(
    "other",
    [
        {"floor": -9.0},
        {"floor": 0.8},
        {"final_at_target": False},
        {"threshold": LinearInTokens(target=1.2, alpha=0, horizon=12)},
    ],
    ids=repr,
)
def test_a_law_with_another_floor_end_or_horizon_is_rejected(other):
    config = guard(**FEW, threshold=LinearInTokens(target=1.2, alpha=0, horizon=4), floor=-0.2)
    seen = [one.whole for one in answer_all(config)]
    assert p_value(seen, answer_law(config)) > ERROR_RATE
    with pytest.raises(AssertionError):  # or something that this law has no place for was drawn
        assert p_value(seen, answer_law(config.changed(**other))) > ERROR_RATE


class ForgetsTheAttempt(AcceptanceKey):
    def draws(self, prompt, sampling, segments):
        draw = super().draws(prompt, sampling, segments)
        return lambda segment, attempt, candidate: draw(segment, 0, Candidate((), ""))


class ForgetsTheSeed(AcceptanceKey):
    def draws(self, prompt, sampling, segments):
        draw = super().draws(prompt, sampling.changed(seed=0), segments)
        return lambda segment, attempt, candidate: draw(segment, attempt, Candidate((), ""))


@pytest.mark.parametrize("wrong", [ForgetsTheAttempt, ForgetsTheSeed])
def test_keyed_draws_that_are_not_independent_are_rejected(wrong):
    config = guard(**FEW, exhaustion=Refuse(), threshold=Constant(target=1.7))
    answers = answer_all(config, key=wrong("what only the operator knows"))
    assert p_value([one.whole for one in answers], answer_law(config)) < ERROR_RATE
