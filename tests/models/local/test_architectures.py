"""An architecture of each kind: guarded text is the model's own; ``make test-families`` tries them all."""

from __future__ import annotations

import pytest

from stars_guard.models.local.transformers import TransformersModel
from tests.families.__main__ import section
from tests.families.checking import Row, check, one_token_a_character
from tests.families.document import replaced, rows_of

KINDS = {
    "llama": "dense",
    "gemma3_text": "sliding windows",
    "mixtral": "experts",
    "deepseek_v3": "latent attention",
    "gpt_bigcode": "one key head",
    "falcon": "ALiBi, one key head",
    "bloom": "ALiBi",
    "mpt": "ALiBi",
    "gpt2": "learned positions",
    "opt": "learned positions, counted by the mask",
    "bart": "a decoder whose rows cannot be padded",
    "phi3": "LongRoPE",
    "bamba": "recurrent and attention, positions left to a wrong default",
    "qwen3_next": "linear and full attention",
    "mamba": "recurrent",
    "rwkv": "recurrent, with a state of its own",
    "xlstm": "recurrent, with a cache of its own",
    "recurrent_gemma": "a state kept in modules",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_guarded_text_is_what_the_model_alone_would_write(name):
    row = check(name)
    assert row.proven == "alone, batch, rejections"
    assert rows_of("architectures")[name][:2] == [row.proven, row.guarantee]


def test_what_cannot_be_built_or_used_has_a_row(monkeypatch):
    assert check("blt").guarantee == "not built"
    monkeypatch.setattr(
        "tests.families.checking.TransformersModel",
        lambda model, tokenizer, name: TransformersModel(
            model, one_token_a_character(), name=name, prefill_tokens=0
        ),
    )
    assert check("bart") == Row("bart", "", "refused", "prefill_tokens=0 must be 1 or more")


def test_a_section_is_written_between_its_marks():
    written = section([Row("a", "alone", "token_ids"), Row("b", "", "refused", "x | y")])
    text = "before\n<!-- architectures: begin -->\nold\n<!-- architectures: end -->\nafter\n"
    new = replaced(text, "architectures", written)
    assert new.startswith("before\n<!-- architectures: begin -->\nTransformers ")
    assert new.endswith("| `b` |  | refused | x \\| y |\n<!-- architectures: end -->\nafter\n")
    assert "1 of 2 were served, 1 of them sharing a cache" in new
    assert replaced(new, "architectures", written) == new
    with pytest.raises(ValueError, match="no section 'tokenizers'"):
        replaced(text, "tokenizers", written)
