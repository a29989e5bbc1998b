"""Real tokenizers: whatever ids a model writes, text is judged and shown by complete characters.

``make test-families`` fetches their files; without them these tests are skipped.
"""

from __future__ import annotations

import pytest

from stars_guard import Constant, GuardConfig, Hard, Prompt, SamplingParams, StarsGuardedLLM
from stars_guard.algorithm.segments import FixedLength
from stars_guard.models import TransformersModel
from stars_guard.testing import KeywordReward
from tests.families.tokenizers_table import FOLDER, NAMES, PROOFS, TEXTS, decoded, loaded
from tests.support.vocabularies import writer

pytestmark = pytest.mark.slow


@pytest.fixture(params=NAMES)
def tokenizer(request):
    if not (FOLDER / request.param / "tokenizer.json").is_file():
        pytest.skip("the files of real tokenizers are not here; make test-families fetches them")
    return loaded(request.param)


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.__name__)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_text_is_prefix_stable(tokenizer, proof):
    proof(tokenizer)


@pytest.mark.parametrize("length", [3, 32])
def test_a_guarded_answer_is_the_text_of_its_ids(tokenizer, length):
    prompt = Prompt.raw("Say:")
    ids = [*tokenizer.encode(TEXTS[0][:20] + TEXTS[1], add_special_tokens=False)]
    opening = len(tokenizer(prompt.text)["input_ids"])
    model = TransformersModel(writer(tokenizer, [*ids, tokenizer.eos_token_id], opening), tokenizer)
    segments = FixedLength(max_tokens=length)
    config = GuardConfig(threshold=Constant(target=0.0), acceptance=Hard(), segments=segments)
    guard = StarsGuardedLLM(model, KeywordReward(()), config)
    with guard.stream(prompt, sampling=SamplingParams(temperature=0, seed=1, max_tokens=400)) as stream:
        shown = "".join(stream)
    assert stream.result.token_ids == [*ids, tokenizer.eos_token_id]
    assert stream.result.text == shown
    assert shown.removeprefix(" ") == decoded(tokenizer, ids).removeprefix(" ")
