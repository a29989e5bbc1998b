"""Text of guarded answers that an engine draws: by a tokenizer here, or by that of the engine."""

from __future__ import annotations

import pytest

from stars_guard import Constant, GuardConfig, Hard, Prompt, SamplingParams, StarsGuardedLLM
from stars_guard.algorithm.segments import FixedLength
from stars_guard.models import OpenAICompatibleModel
from stars_guard.testing import KeywordReward
from stars_guard.text.dialects import HERMES
from tests.support.http_engine import FakeEngine, HttpEngine, TableTokenizer
from tests.support.vocabularies import HIDDEN, KINDS

LENGTHS = (1, 2, 3, 8, 32)
KOREAN = "안녕하세요저는한국어를말합니다"
PROMPT = Prompt.raw("Hi")


class ServedTokenizer(TableTokenizer):
    """A tokenizer of transformers, as a server has it."""

    def __init__(self, tokenizer):
        super().__init__((), tokenizer.eos_token_id)
        self.served = tokenizer

    def __call__(self, text, **options):
        return self.served(text)

    def decode(self, ids, **options):
        return self.served.decode(ids)


class ServedEngine(FakeEngine):
    def _detokenize(self, body):
        text = self.tokenizer.decode(body["tokens"])
        return {"prompt": text, "content": text}


def answered(vocabulary, ids, length, *, local, engine="vllm", dialect=None, prompt=PROMPT, **sampling):
    tokenizer = vocabulary.tokenizer
    script, opening = [*ids, tokenizer.eos_token_id], []

    def draw(before, seed, step):
        opening.append(len(before))
        return script[len(before) - opening[0]]

    drawn = ServedEngine(draw, ServedTokenizer(tokenizer))
    segments = FixedLength(max_tokens=length)
    config = GuardConfig(threshold=Constant(target=0.0), acceptance=Hard(), segments=segments)
    reward = KeywordReward(())
    with (
        HttpEngine(drawn) as server,
        OpenAICompatibleModel(
            server.url, engine, tokenizer=tokenizer if local else None, dialect=dialect
        ) as model,
        StarsGuardedLLM(model, reward, config).stream(
            prompt, sampling=SamplingParams(temperature=0, seed=1, **sampling)
        ) as stream,
    ):
        pieces = "".join(stream)
    return stream.result, pieces, [request.response for request in reward.seen]


def ids_of(vocabulary, *parts):
    known = vocabulary.tokenizer.get_vocab()
    return [
        token
        for part in parts
        for token in (
            [known[f"<0x{byte:02X}>"] for byte in part] if isinstance(part, bytes) else [known[part]]
        )
    ]


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("length", LENGTHS)
def test_runs_of_bytes_are_judged_by_every_complete_character(local, length):
    vocabulary = KINDS["gemma"]()
    ids = ids_of(vocabulary, KOREAN.encode())
    result, shown, judged = answered(vocabulary, ids, length, local=local, max_tokens=400)
    assert result.text == shown == KOREAN
    ends = range(length, len(ids) + 1, length)
    assert [text for text in judged if text != KOREAN] == [
        KOREAN[: end // 3] for end in ends if end < len(ids)
    ]


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("length", LENGTHS)
def test_invalid_bytes_are_no_outage(local, length):
    vocabulary = KINDS["llama2"]()
    ids = ids_of(vocabulary, "H", "😀".encode(), b"\xf0\x9f", "o", b"\xff", "w")
    result, shown, _ = answered(vocabulary, ids, length, local=local, max_tokens=64)
    assert result.text == shown
    if local:
        assert shown == "H😀\ufffd\ufffdo\ufffdw"
    assert shown.replace("\ufffd", "").replace("😀", "") == "How"


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("length", [1, 2, 32])
def test_a_stop_string_may_be_a_special_token(local, length):
    vocabulary = KINDS["byte_level"]()
    ids = ids_of(vocabulary, "H", HIDDEN[0], "i")
    result, shown, _ = answered(vocabulary, ids, length, local=local, max_tokens=9, stop=(HIDDEN[0],))
    assert (result.text, shown, result.stop_reason, result.token_ids) == ("H", "H", "stop", ids[:2])


@pytest.mark.parametrize("length", [1, 3, 32])
def test_stop_strings_are_not_looked_for_in_reasoning(length):
    vocabulary = KINDS["byte_level"]()
    text = "<think>a.b</think>c.d"
    asked = {"local": False, "dialect": HERMES, "max_tokens": 64, "stop": (".",)}
    result, shown, _ = answered(
        vocabulary, ids_of(vocabulary, *text), length, prompt=Prompt.of("Hi"), **asked
    )
    assert (result.text, shown, result.reasoning, result.stop_reason) == ("c", "c", "a.b", "stop")
    result, shown, _ = answered(vocabulary, ids_of(vocabulary, *text), length, **asked)
    assert (result.text, shown) == ("<think>a", "<think>a")  # a raw prompt has no channels
