"""Openings with inference engines: sent after what was accepted, by ids or by text."""

from __future__ import annotations

import pytest

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.openings import RefusalOpening
from stars_guard.algorithm.replay import verify
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import ConfigurationError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.prompts import Prompt
from stars_guard.rewards.function import FunctionReward
from tests.models.engines.test_by_text import CONFIG, SAMPLING, WORDS, bodies, generated, model_at, served
from tests.support.http_engine import PROMPT, HttpEngine

NO = "No!"
OPENING = RefusalOpening(after=1, openings=(NO,))
ROOM = {"segments": FixedLength(max_tokens=5), "drawing": Fixed(candidates=1), "max_attempts": 2}
RAW = Prompt.raw("Q")


def refusing(model, prompt=RAW):
    """An answer whose first attempt is rejected: it must begin with the opening."""
    reward = FunctionReward(lambda prompt, response: 1.0 if response.startswith(NO) else -1.0)
    llm = StarsGuardedLLM(model, reward, CONFIG.changed(escalation=(OPENING,), **ROOM))
    result = llm.generate(prompt, sampling=SAMPLING.changed(max_tokens=6))
    verify(result.trace)
    return result


@pytest.mark.parametrize("tokenizer", [WORDS, None], ids=["here", "the engine's"])
def test_by_token_ids(tokenizer):
    with HttpEngine(served()) as server, model_at(server, tokenizer=tokenizer) as model:
        result = refusing(model)
        sent = bodies(server, "/v1/completions")
    opening = [PROMPT + ord(one) for one in NO]
    after = next(body for body in sent if len(body["prompt"]) == 4)
    assert after["prompt"][1:] == opening
    assert after["max_tokens"] == 2
    assert result.text.startswith(NO)
    assert result.token_ids[:3] == opening
    assert result.usage.proposed_tokens - result.usage.ahead_wasted_tokens == 5 + 2 + 1
    assert result.usage.kept_tokens == 6


@pytest.mark.parametrize("tokenizer", [WORDS, None], ids=["counted", "guessed"])
def test_by_text(tokenizer):
    with HttpEngine(served()) as server:
        with model_at(server, "openai", guarantee="text", tokenizer=tokenizer) as model:
            result = refusing(model)
        sent = bodies(server, "/v1/completions")
    tokens = 3 if tokenizer else 1
    after = next(body for body in sent if body["prompt"].startswith(f"Q{NO}"))
    assert (after["prompt"], after["max_tokens"]) == (f"Q{NO}", 5 - tokens)
    assert result.text.startswith(NO)


def test_by_text_an_opening_that_is_too_long_is_cut():
    with HttpEngine(served()) as server, model_at(server, "openai", guarantee="text") as model:
        session = model.start(RAW, SAMPLING)
        branch, opening = model.opened(session, "x" * 40, 5)
    assert (opening.text, len(opening.token_ids)) == ("x" * 20, 5)
    assert (branch.text, session.text) == ("x" * 20, "")


def test_by_the_last_turn_of_a_chat():
    with HttpEngine(served()) as server:
        with model_at(server, "vllm", guarantee="prefill") as model:
            result = refusing(model, "Q")
        turns = [body["messages"][-1] for body in bodies(server)]
    assert {"role": "assistant", "content": NO} in turns
    assert result.text.startswith(NO)


def test_whole_answers_take_none():
    with (
        HttpEngine(served()) as server,
        model_at(server, "openai", guarantee="whole") as model,
        pytest.raises(ConfigurationError, match="cannot be made to go on with a text"),
    ):
        generated(model, escalation=(OPENING,))
