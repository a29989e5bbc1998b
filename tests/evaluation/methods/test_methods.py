"""Every method is the settings that its source describes, and does through the loop what they say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from pydantic import TypeAdapter

from stars_guard import ConfigurationError, GuardConfig, SamplingParams, StarsGuardedLLM
from stars_guard.algorithm.rules import Constant, LinearInTokens, Soft
from stars_guard.evaluation.methods import AnyMethod, Method
from stars_guard.evaluation.methods.best_of_n import BestOfN
from stars_guard.evaluation.methods.cards import Cards
from stars_guard.evaluation.methods.costs import Costs
from stars_guard.evaluation.methods.published import Published
from stars_guard.evaluation.methods.self_judged import SelfJudged
from stars_guard.models import TransformersModel
from stars_guard.models.local.sampling import entropy
from stars_guard.prompts import Prompt
from stars_guard.result import GuardedResult
from stars_guard.rewards.function import FunctionReward
from stars_guard.testing import KeywordReward, ScriptedModel, TabularModel
from tests.support.tiny import tiny_llama, tiny_tokenizer

RAMP = GuardConfig(threshold=LinearInTokens(target=2.0), acceptance=Soft(beta=0.25), floor=0.0)
BASE = GuardConfig(threshold=Constant(target=1.0))
SOFT = BASE.changed(acceptance=Soft(beta=0.25))
SAMPLING = SamplingParams(max_tokens=64, seed=3)
KINDS = (
    *("plain", "published", "cards", "token_level", "self_judged", "whole_answer", "informed_retry"),
    *("backtracking", "constant_bar", "front_loaded_bar", "guarded"),
)


SOFT_ONLY = ("published", "cards")
"""Kinds that are soft rules: the hard rule of a reward's settings has no beta for them."""


def of_kind(kind: object) -> Method:
    method: Method = TypeAdapter(AnyMethod).validate_python(kind)
    return method


def answered(
    method: Method, model: object, score: Callable[[str, str], float] | None = None, base: GuardConfig = BASE
) -> GuardedResult:
    reward = FunctionReward(score) if score else KeywordReward(["bad"])
    guard = StarsGuardedLLM(
        model, reward, method.guard(base, method.sampling(SAMPLING)), sampling=method.sampling(SAMPLING)
    )
    return guard.generate("Tell me.")


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        *(pytest.param(kind, RAMP, id=f"soft ramp-{kind}") for kind in KINDS),
        *(pytest.param(kind, BASE, id=f"hard constant-{kind}") for kind in KINDS if kind not in SOFT_ONLY),
    ],
)
def test_a_kind_needs_no_more_than_its_name(kind, base):
    method = of_kind(kind)
    assert method.kind == kind
    assert isinstance(method.guard(base, method.sampling(SAMPLING)), GuardConfig)
    assert method.guided == (kind != "plain")


@pytest.mark.parametrize("kind", SOFT_ONLY)
def test_no_number_takes_the_place_of_a_beta_that_is_not_there(kind):
    with pytest.raises(ConfigurationError, match=r"is 'hard', which has no beta.*give beta"):
        of_kind(kind).guard(BASE, SAMPLING)
    assert of_kind(kind).guard(SOFT, SAMPLING).acceptance == SOFT.acceptance
    assert Published(beta=3.0).guard(BASE, SAMPLING).acceptance == Soft(beta=3.0)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="best_of_n"):
        of_kind("best_of_m")


def test_plain_shows_the_first_candidate_whatever_it_is():
    result = answered(of_kind("plain"), ScriptedModel([["bad", "good"]]))
    assert (result.text, result.trace.attempts) == ("bad", 1)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 64])
def test_best_of_n_draws_n_whole_answers_and_shows_the_best(n):
    values = {"a": 0.3, "b": 0.1, "c": 0.9, "d": 0.95, "e": 0.2}
    model = ScriptedModel([list(values)])
    result = answered(
        of_kind({"kind": "best_of_n", "n": n}), model, lambda _prompt, text: values.get(text, 0.0)
    )
    assert result.text == max(list(values)[:n], key=values.__getitem__)
    assert result.usage.proposed_tokens == n
    assert len(result.trace.segments) == 1


def test_best_of_n_shows_the_best_even_where_all_are_bad():
    result = answered(of_kind({"kind": "best_of_n", "n": 2}), ScriptedModel([["bad", "bad"]]))
    assert result.text == "bad"


@pytest.mark.parametrize("given", [{}, {"n": 2, "match": "guarded"}])
def test_best_of_n_is_told_how_many_in_one_way(given):
    with pytest.raises(ConfigurationError, match="either n"):
        BestOfN(**given)


def costs(tokens: float, seconds: float | None = None) -> Costs:
    return Costs(
        answers=1,
        proposed_tokens=tokens,
        kept_tokens=1,
        reward_calls=1,
        forward_passes=1,
        proposed_per_kept=1,
        forced_segments=0,
        seconds=seconds,
    )


@pytest.mark.parametrize(
    ("by", "other", "n"),
    [
        ("tokens", costs(79), 4),
        ("tokens", costs(71), 4),
        ("tokens", costs(5), 1),
        ("tokens", costs(20_000), 64),
        ("seconds", costs(20, 9.0), 3),
    ],
)
def test_best_of_n_spends_as_nearly_as_it_can_what_another_method_spends(by, other, n):
    known = {"plain": costs(20, 3.0), "guarded": other}
    settled = BestOfN(match="guarded", by=by).settled(known.__getitem__)
    assert (settled.n, settled.match) == (n, None)


def test_best_of_n_cannot_be_matched_to_what_was_not_timed():
    with pytest.raises(ConfigurationError, match="'plain' was not timed"):
        BestOfN(match="guarded", by="seconds").settled(
            lambda name: costs(20, 3.0 if name == "guarded" else None)
        )


def test_published_is_the_rule_of_the_paper():
    base = GuardConfig(threshold=LinearInTokens(target=3.0), acceptance=Soft(beta=0.5))
    assert Published(alpha=0.2).guard(base, SAMPLING) == GuardConfig.paper(target=3.0, beta=0.5, alpha=0.2)
    assert Published(beta=2.0).guard(base, SAMPLING).acceptance == Soft(beta=2.0)


def test_cards_ends_segments_where_the_model_is_unsure():
    segments = Cards(entropy=2.0).guard(SOFT, SAMPLING).segments
    assert (segments.min_tokens, segments.max_tokens) == (4, 64)
    assert [segments.ends_before(tokens, 2.5) for tokens in (3, 4)] == [False, True]
    assert not segments.ends_before(4, 1.9)


def test_cards_draws_from_the_forty_likeliest_and_forces_the_best_seen():
    assert Cards().sampling(SAMPLING).top_k == 40
    result = answered(
        Cards(), ScriptedModel([["awful", "bad"]]), lambda _prompt, text: -40.0 + len(text), SOFT
    )
    assert (result.text, result.forced) == ("awful", 1)


def test_token_level_judges_every_token():
    model = TabularModel(lambda ids: [0.9, 0.1], ["a", "b"])
    result = answered(of_kind("token_level"), model, lambda _prompt, text: -1.0 if "b" in text[-1:] else 1.0)
    assert [segment.max_tokens for segment in result.trace.segments] == [1] * 64
    assert set(result.text) == {"a"}


def test_whole_answers_are_drawn_anew_until_they_pass():
    script = ScriptedModel([["so bad", "so bad", "so good"]])
    result = answered(of_kind("whole_answer"), script)
    assert (result.text, result.trace.attempts) == ("so good", 3)
    assert result.trace.segments[0].max_tokens == SAMPLING.max_tokens


def test_informed_retry_puts_the_hint_in_the_prompt_of_later_attempts():
    model = ScriptedModel(
        lambda prompt: [["fine"]] if "be kind" in prompt.as_text() else [["bad", "bad", "bad", "bad"]]
    )
    result = answered(of_kind({"kind": "informed_retry", "hint": {"after": 2, "text": "be kind"}}), model)
    assert result.text == "fine"
    proposals = [attempt.proposal for attempt in result.trace.segments[0].attempts]
    assert proposals == ["model", "model", "safety hint"]


def test_backtracking_withdraws_what_cannot_be_continued():
    model = ScriptedModel([["dead end, ", "way, "], ["bad"], ["way, "], ["on"]])
    result = answered(of_kind("backtracking"), model)
    assert result.trace.withdrawn == 1
    assert result.text == "way, on"


def test_the_bar_may_start_high_and_fall():
    threshold = of_kind({"kind": "front_loaded_bar", "excess": 2.0}).guard(BASE, SAMPLING).threshold
    assert (threshold.kind, threshold.start, threshold.target) == ("front_loaded", 3.0, 1.0)
    assert of_kind("constant_bar").guard(RAMP, SAMPLING).threshold == Constant(target=2.0)


def test_the_guard_takes_settings_of_its_own():
    strict = {"threshold": 2.0, "acceptance": {"kind": "soft", "beta": 0.1}}
    method = of_kind({"kind": "guarded", "guard_settings": strict})
    assert method.guard(BASE, SAMPLING).acceptance == Soft(beta=0.1)
    assert of_kind("guarded").guard(BASE, SAMPLING) is BASE


def test_self_judgement_needs_a_model_in_this_process():
    with pytest.raises(ConfigurationError, match="not scripted"):
        SelfJudged().scorer(ScriptedModel([["a"]]), KeywordReward(["bad"]))


def test_self_judgement_has_no_floor_and_a_bar_at_a_ratio_of_one():
    guard = SelfJudged(segment_tokens=4).guard(BASE, SAMPLING)
    assert (guard.threshold, guard.acceptance) == (Constant(target=0.0), Soft(beta=1.0))
    assert (guard.floor, guard.segments.max_tokens) == (-math.inf, 4)


def test_cards_cuts_where_the_next_token_is_uncertain():
    model = TransformersModel(tiny_llama(), tiny_tokenizer())
    model.eos_ids = frozenset()
    method = Cards(entropy=5.38, top_k=0)
    result = answered(method, model, lambda _prompt, text: 5.0, SOFT)
    before = [*model.encode(Prompt.of("Tell me.")), *result.token_ids]
    with torch.inference_mode():
        nats = entropy(model.model(torch.tensor([before])).logits[0])[-len(result.token_ids) - 1 :]
    segments = result.trace.segments
    assert 1 < len(segments) < 64 / 4
    for segment, following in itertools.pairwise(segments):
        length = following.prefix_tokens - segment.prefix_tokens
        inside = range(segment.prefix_tokens + 4, following.prefix_tokens)
        assert length >= 4
        assert nats[following.prefix_tokens] >= 5.38
        assert all(nats[place] < 5.38 for place in inside)


def test_published_takes_numbers_of_its_own():
    own = Published(target=0.0, alpha=0.9, beta=0.25).guard(BASE, SAMPLING)
    assert own.threshold == LinearInTokens(target=0.0, alpha=0.9, horizon="request")
    ramp = GuardConfig(threshold=LinearInTokens(target=3.0, alpha=0.1), acceptance=Soft(beta=0.5))
    assert Published().guard(ramp, SAMPLING) == GuardConfig.paper(target=3.0, beta=0.5, alpha=0.1)
