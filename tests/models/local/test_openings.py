"""Openings with local models: read after the cache of the answer, which stays as it is."""

from __future__ import annotations

import pytest
import torch

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.openings import RefusalOpening, WriteRefusal
from stars_guard.algorithm.replay import verify
from stars_guard.algorithm.segments import FixedLength
from stars_guard.models.base import TakesOpenings
from stars_guard.prompts import Prompt
from stars_guard.rewards.function import FunctionReward
from tests.models.local.test_observing import BUILDS, LAYERS, expected, local, order
from tests.support.guards import guarded, hard

PROMPT = Prompt.of("The quick brown fox")
SAMPLING = SamplingParams(max_tokens=24, seed=3)
OPENING = "I will not"


def spelled(model, text):
    return tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("build", BUILDS)
def test_what_is_drawn_after_an_opening_is_drawn_from_the_model_given_it(build):
    model = local(build)
    assert isinstance(model, TakesOpenings)
    session = model.observe(PROMPT, SAMPLING, LAYERS)
    (first,) = model.propose([order(session)])[0].candidates
    session.accept(first)
    passes = session.forward_passes
    branch, opening = model.opened(session, OPENING, 99)
    assert opening.token_ids == spelled(model, OPENING)
    (drawn,) = model.propose([order(branch, segment=1)])[0].candidates
    assert session.token_ids == list(first.token_ids)
    assert (session.forward_passes, branch.forward_passes > 0) == (passes, True)
    ids = [*first.token_ids, *opening.token_ids]
    with torch.inference_mode():
        logits = model.model(torch.tensor([[*model.encode(PROMPT), *ids]])).logits[0, -1]
    torch.testing.assert_close(branch.known_logits, logits, atol=1e-4, rtol=1e-4)
    mean, last, _ = expected(model, PROMPT, [*ids, *drawn.token_ids])
    torch.testing.assert_close(drawn.hidden.mean, mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(drawn.hidden.last, last, atol=1e-4, rtol=1e-4)


def test_an_opening_is_cut_to_its_room():
    model = local()
    session = model.start(PROMPT, SAMPLING)
    _, opening = model.opened(session, OPENING, 2)
    assert opening.token_ids == spelled(model, OPENING)[:2]
    assert model.opened(session, OPENING, 0)[1].token_ids == ()


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("policies", ["opening", "refusal"])
def test_an_answer_goes_on_as_if_the_model_had_written_the_opening(build, policies):
    model = local(build)
    opening, refusal = RefusalOpening(after=1, openings=(OPENING,)), WriteRefusal(openings=(OPENING,))
    parts = {"escalation": (opening,)} if policies == "opening" else {"exhaustion": refusal}
    reward = FunctionReward(lambda prompt, response: 1.0 if OPENING in response else -1.0)
    config = hard(segments=FixedLength(max_tokens=12), drawing=Fixed(candidates=2), max_attempts=3, **parts)
    result = guarded(model, reward, config).generate(PROMPT, sampling=SAMPLING)
    verify(result.trace)
    ids = spelled(model, OPENING)
    assert tuple(result.token_ids[: len(ids)]) == ids
    assert len(result.token_ids) == result.usage.kept_tokens > len(ids)
    assert result.refused == (policies == "refusal")
    assert model.prefills == 1
    # The next segment is what is drawn after the same ids, accepted without a cache of theirs.
    fresh = model.start(PROMPT, SAMPLING)
    branch, whole = model.opened(fresh, model.tokenizer.decode(result.token_ids[:12]), 99)
    if whole.token_ids == tuple(result.token_ids[:12]):
        place = result.trace.segments[-1].index
        (again,) = model.propose([order(branch, segment=place, cut=FixedLength(max_tokens=12))])[0].candidates
        assert list(again.token_ids) == result.token_ids[12:]
