"""A real llama.cpp server behind the guard: the same decisions, candidates and counters as promised."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from stars_guard import embedded
from stars_guard.algorithm import replay
from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, Hard, Last
from stars_guard.algorithm.segments import Boundary, FixedLength
from stars_guard.algorithm.trace import Verdict
from stars_guard.errors import ConfigurationError, GenerationError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.engine_servers import load_engine_server
from stars_guard.loading.parts import load_model
from stars_guard.models.base import Order
from stars_guard.models.engines.local_tokenizer import LocalTokenizer
from stars_guard.prompts import Prompt
from stars_guard.rewards.function import FunctionReward
from stars_guard.types import Guarantee, StopReason

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(find_spec("xllamacpp") is None, reason="xllamacpp is not installed"),
]

QUESTION = "Name three colours, and say in a sentence what each of them reminds you of."
SAMPLING = SamplingParams(seed=11, max_tokens=16)


@pytest.fixture(scope="module")
def url():
    script = Path(__file__).parents[2] / "support" / "llamacpp_server.py"
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        yield process.stdout.readline().strip()
        process.stdin.close()


@pytest.fixture(scope="module")
def tokenizer():
    return LocalTokenizer.load(str(embedded.chat_model()), "smollm2").tokenizer


@pytest.fixture(scope="module")
def model(url, tokenizer):
    with load_engine_server(f"llamacpp@{url}", tokenizer=tokenizer) as model:
        yield model


def few_vowels(prompt, response):
    """Some texts are over it and some are not."""
    return -sum(one in "aeiou" for one in response) % 3


def guarded(model, **changes):
    parts = {
        "threshold": Constant(target=1.0),
        "acceptance": Hard(),
        "segments": FixedLength(max_tokens=8),
        "drawing": Fixed(candidates=3),
        "max_attempts": 6,
        "exhaustion": Last(),
        **changes,
    }
    return StarsGuardedLLM(model, FunctionReward(few_vowels), GuardConfig(**parts))


def test_the_engine_says_what_it_serves(model):
    assert model.name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert model._max_parallel == 4
    assert model.context_window == 512
    assert model.guarantee is Guarantee.TOKEN_IDS


def test_a_guarded_answer_replays_and_repeats(model, tokenizer):
    llm = guarded(model)
    first, again = (llm.generate(QUESTION, sampling=SAMPLING) for _ in range(2))
    replay.verify(first.trace)
    assert again.token_ids == first.token_ids
    assert first.text == tokenizer.decode(first.token_ids, skip_special_tokens=True)
    assert first.trace.guarantee is Guarantee.TOKEN_IDS
    assert {segment.drawn for segment in first.trace.segments} <= {3, 6}
    verdicts = {attempt.accepted for segment in first.trace.segments for attempt in segment.attempts}
    assert verdicts == {True, False}
    assert first.trace.segments[-1].verdict in (Verdict.ACCEPTED, Verdict.FORCED)


def test_candidates_do_not_depend_on_how_many_are_drawn_at_once(model):
    session = model.start(Prompt.of(QUESTION), SAMPLING)
    together = drawn(model, session, 0, 4)
    alone = [one for attempt in range(4) for one in drawn(model, session, attempt, 1)]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]
    assert len({one.token_ids for one in together}) == 4


def drawn(model, session, first_attempt, candidates):
    order = Order(session, 0, first_attempt, candidates, FixedLength(max_tokens=8), False, lambda: True)
    (proposal,) = model.propose([order])
    assert proposal.tokens == sum(len(one.token_ids) for one in proposal.candidates)
    return proposal.candidates


def test_rejected_candidates_cost_no_second_prefill(model):
    session = model.start(Prompt.of(QUESTION + " Be brief."), SAMPLING)
    drawn(model, session, 0, 4)
    hits, asked = model.cached_prompt_tokens()
    rounds = 3
    for number in range(1, rounds + 1):
        candidates = drawn(model, session, 4 * number, 4)
    new_hits, new_asked = model.cached_prompt_tokens()
    read = (new_asked - asked) - (new_hits - hits)
    assert new_asked - asked == rounds * session.prompt_tokens  # one prompt a call, whatever its choices
    assert read == rounds  # its last token, whose logits are needed
    session.accept(candidates[1])
    hits, asked = new_hits, new_asked
    drawn(model, session, 0, 1)
    new_hits, new_asked = model.cached_prompt_tokens()
    assert (new_asked - asked) - (new_hits - hits) <= len(candidates[1].token_ids)


def test_segments_end_at_sentences_and_answers_at_stop_strings(model):
    boundary = Boundary(min_tokens=2, max_tokens=12)
    result = guarded(model, segments=boundary).generate(QUESTION, sampling=SAMPLING.changed(stop="a"))
    assert result.stop_reason in (StopReason.STOP, StopReason.LENGTH, StopReason.EOS)
    assert "a" not in result.text
    replay.verify(result.trace)


def test_the_engines_own_tokenizer_gives_the_same_answer(url, model):
    with load_engine_server(f"llamacpp@{url}") as bare:
        assert bare.guarantee is Guarantee.TOKEN_IDS
        assert bare.start(Prompt.of(QUESTION), SAMPLING).opening == (
            model.start(Prompt.of(QUESTION), SAMPLING).opening
        )
        own, local = (guarded(one).generate(QUESTION, sampling=SAMPLING) for one in (bare, model))
    assert own.token_ids == local.token_ids
    assert own.text == local.text


@pytest.mark.parametrize("level", ["text", "prefill", "whole"])
def test_weaker_guarantees_answer_too_and_say_so(url, tokenizer, level):
    options = {"tokenizer": tokenizer} if level == "text" else {}
    with load_engine_server(f"llamacpp@{url}", guarantee=level, **options) as model:
        result = guarded(model).generate(QUESTION, sampling=SAMPLING)
        with pytest.raises(ConfigurationError, match="guarantee"):
            guarded(model, min_guarantee=Guarantee.TOKEN_IDS)
    replay.verify(result.trace)
    assert result.trace.guarantee == level
    assert len(result.token_ids) == 16 or result.stop_reason is StopReason.EOS
    assert (
        len(result.trace.segments) == (1 if level == "whole" else 2) or result.stop_reason is StopReason.EOS
    )


def test_what_the_engine_does_not_take_is_an_outage_without_words(url, tokenizer):
    with load_engine_server(f"llamacpp@{url}", tokenizer=tokenizer, context_window=9999) as model:
        session = model.start(Prompt.of("SECRET " * 700), SAMPLING)
        with pytest.raises(GenerationError, match=r"/completion: status 400; .* context") as caught:
            drawn(model, session, 0, 1)
    assert "SECRET" not in str(caught.value)


def test_it_is_loaded_by_name(url):
    with load_model(f"llamacpp@{url}", {"max_parallel": 2}) as model:
        assert model._max_parallel == 2
    with pytest.raises(ConfigurationError, match="does not say that it serves other"):
        load_model(f"llamacpp@{url}#other", {})
