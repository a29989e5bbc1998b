"""What an engine is told of where texts begin and turns end."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken

from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.segments import FixedLength
from stars_guard.models.base import Order
from stars_guard.models.engines.by_ids import ByTokenIds
from stars_guard.models.engines.by_text import ByText
from stars_guard.models.engines.engine_tokenizer import EngineTokenizer
from stars_guard.models.engines.local_tokenizer import LocalTokenizer
from stars_guard.models.engines.profiles import LLAMA_CPP, OPENAI, VLLM, TokenizingRoute
from stars_guard.prompts import Prompt
from stars_guard.types import Finish
from tests.support.tiny import BOS, CHATML, END, tiny_tokenizer

TURN_END = "<end_of_turn>"
SAMPLING = SamplingParams(seed=3, max_tokens=8, stop_token_ids=(7,))


OTHER_ENDS = CHATML.replace(END, TURN_END)


def tokenizer_of(template=OTHER_ENDS):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken(TURN_END, special=True, normalized=False)])
    tokenizer.chat_template = template
    return tokenizer


def body_of(way):
    session = way.start(Prompt.of("Hi"), SAMPLING)
    order = Order(session, 0, 0, 1, FixedLength(max_tokens=4), False, lambda: True)
    ((_, body),) = way.bodies(order, session, {})
    return body


def test_an_end_of_turn_that_the_engine_need_not_know_is_sent_with_each_call():
    tokenizer = tokenizer_of()
    local, end = LocalTokenizer(tokenizer, "m"), tokenizer.convert_tokens_to_ids(TURN_END)
    assert local.unknown_ends == {end: TURN_END}
    assert end in local.ends([1], Finish.LENGTH)
    assert body_of(ByTokenIds(VLLM, VLLM.ids, local, 4))["stop_token_ids"] == [7, end]
    assert "stop_token_ids" not in body_of(ByTokenIds(LLAMA_CPP, LLAMA_CPP.ids, local, 4))
    assert body_of(ByText(VLLM, local))["stop_token_ids"] == [end]
    assert body_of(ByText(OPENAI, local))["stop"] == [TURN_END]


def test_an_end_of_text_is_not():
    local = LocalTokenizer(tokenizer_of(CHATML), "m")
    assert local.unknown_ends == {}
    assert body_of(ByTokenIds(VLLM, VLLM.ids, local, 4))["stop_token_ids"] == [7]
    assert not {"stop", "stop_token_ids"} & body_of(ByText(OPENAI, local)).keys()
    assert LocalTokenizer(tokenizer_of(), "m", prompt_format="raw").unknown_ends == {}


@pytest.mark.parametrize("text", ["Hi", BOS + "Hi"])
def test_a_raw_prompt_in_text_begins_with_one_beginning_of_text(text):
    local = LocalTokenizer(tiny_tokenizer(), "m")
    assert local.render(Prompt.raw(text), with_bos=True)[0] == BOS + "Hi"
    assert local.render(Prompt.raw(text), with_bos=False)[0] == "Hi"
    ids, _ = local.encode(Prompt.raw(text))
    assert ids.count(local.tokenizer.bos_token_id) == 1


class Connection:
    """An engine that gives these ids for any text."""

    def __init__(self, ids):
        self._ids = ids

    def post_all(self, path, bodies, alive):
        return [{"tokens": self._ids} for _ in bodies]


@pytest.mark.parametrize(
    ("text", "ids", "expected"),
    [
        ("<s>Hi", [1, 1, 5], [1, 5]),
        ("<s>Hi", [1, 5], [1, 5]),
        ("<\uff5cbegin\u2581of\u2581sentence\uff5c>Hi", [1, 1, 5], [1, 5]),
        ("aaa", [5, 5], [5, 5]),
    ],
)
def test_an_engine_that_tokenizes_puts_no_second_one_before_it(text, ids, expected):
    remote = EngineTokenizer(Connection(ids), TokenizingRoute(), {}, {})
    assert remote.encode(Prompt.raw(text))[0] == expected
    assert remote.unknown_ends == {}
