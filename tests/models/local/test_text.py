"""Text of guarded answers by every kind of tokenizer: judged and shown whole, whatever ids a model writes."""

from __future__ import annotations

import pytest

from stars_guard import Constant, FunctionReward, GuardConfig, Hard, Prompt, SamplingParams, StarsGuardedLLM
from stars_guard.algorithm.segments import FixedLength
from stars_guard.models import TransformersModel
from tests.support.vocabularies import HIDDEN, KINDS, writer

LENGTHS = (1, 2, 3, 8, 32)
KOREAN = "안녕하세요저는한국어를말합니다오늘날씨가매우좋아서산책을하고싶어요"
HALVES = ["H", b"\xc2\xbd", b"\xe2", "H", "☃", b"\xf0\x9f", "o", b"\xff", b"\xf0\x9f\x98\x80", b"\xe2\x98"]


def ids_of(vocabulary, *parts):
    """The ids of tokens and bytes."""
    known = vocabulary.tokenizer.get_vocab()
    ids = []
    for part in parts:
        ids += [known[f"<0x{byte:02X}>"] for byte in part] if isinstance(part, bytes) else [known[part]]
    return ids


def answered(vocabulary, ids, length, prompt=None, **sampling):
    """The result, the pieces that were shown, and the texts that were judged."""
    prompt = prompt or Prompt.of("Hi")
    tokenizer = vocabulary.tokenizer
    tokens = len(tokenizer(prompt.text or prompt.as_text())["input_ids"])
    model = TransformersModel(writer(tokenizer, [*ids, tokenizer.eos_token_id], tokens), tokenizer)
    judged = []
    reward = FunctionReward(lambda asked, response: judged.append(response) or 1.0)
    segments = FixedLength(max_tokens=length)
    config = GuardConfig(threshold=Constant(target=0.0), acceptance=Hard(), segments=segments)
    guard = StarsGuardedLLM(model, reward, config)
    with guard.stream(prompt, sampling=SamplingParams(temperature=0, seed=1, **sampling)) as stream:
        pieces = list(stream)
    return stream.result, pieces, judged


@pytest.mark.parametrize("kind", ["llama2", "gemma"])
@pytest.mark.parametrize("length", LENGTHS)
def test_runs_of_bytes_are_judged_by_every_complete_character(kind, length):
    vocabulary = KINDS[kind]()
    ids = ids_of(vocabulary, KOREAN.encode())
    result, pieces, judged = answered(vocabulary, ids, length, max_tokens=400)
    assert result.text == "".join(pieces) == KOREAN
    assert judged[:-1] == [KOREAN[: end // 3] for end in range(length, len(ids) + 1, length)]
    assert result.token_ids[:-1] == ids


@pytest.mark.parametrize("most", [49, 50, 51])
def test_the_most_tokens_end_an_answer_after_its_last_complete_character(most):
    vocabulary = KINDS["llama2"]()
    ids = ids_of(vocabulary, "▁", KOREAN.encode())
    result, pieces, _ = answered(vocabulary, ids, 32, max_tokens=most)
    assert result.text == "".join(pieces) == KOREAN[: (most - 1) // 3]


@pytest.mark.parametrize("kind", ["llama2", "gemma"])
@pytest.mark.parametrize("length", LENGTHS)
def test_invalid_bytes_are_replacement_characters_and_no_outage(kind, length):
    vocabulary = KINDS[kind]()
    ids = ids_of(vocabulary, *HALVES)
    result, pieces, judged = answered(vocabulary, ids, length, max_tokens=64)
    assert result.text == "".join(pieces) == "H½\ufffdH☃\ufffd\ufffdo\ufffd😀\ufffd\ufffd"
    assert [text for text in judged if not result.text.startswith(text)] == []
    result, pieces, _ = answered(vocabulary, ids, length, max_tokens=len(ids))
    assert result.text == "".join(pieces) == "H½\ufffdH☃\ufffd\ufffdo\ufffd😀"


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("text", ["\u200d", "Hello 😀", "H", ""])
def test_a_raw_prompt_that_ends_in_bytes_garbles_nothing(length, text):
    vocabulary = KINDS["llama2"]()
    ids = ids_of(vocabulary, b"\xc2\xbd", "▁world", "😀".encode())
    result, pieces, _ = answered(vocabulary, ids, length, Prompt.raw(text or "<s>"), max_tokens=32)
    assert result.text == "".join(pieces) == "½ world😀"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 32])
def test_a_stop_string_may_be_a_special_token_of_any_tokenizer(kind, length):
    vocabulary = KINDS[kind]()
    shown = [token for token in vocabulary.ids if vocabulary.ended([token]).isalpha()][:3]
    special = vocabulary.tokenizer.convert_tokens_to_ids(HIDDEN[0])
    ids = [*shown[:2], special, shown[2]]
    result, pieces, _ = answered(vocabulary, ids, length, max_tokens=32, stop=(HIDDEN[0],))
    assert result.text == "".join(pieces) == vocabulary.ended(shown[:2])
    assert (result.stop_reason, result.token_ids) == ("stop", ids[:3])
    result, pieces, _ = answered(vocabulary, ids, length, max_tokens=32, stop=(HIDDEN[1],))
    assert result.text == "".join(pieces) == vocabulary.ended(shown)
