"""The veto: what counts as the word, and that it is never shown, however the answer is cut."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stars_guard import Constant, GuardConfig, SamplingParams, Soft, StarsGuardedLLM
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import ConfigurationError
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel, ScoreRequest
from stars_guard.rewards.combine import Constrained, Minimum, Part
from stars_guard.rewards.function import FunctionReward
from stars_guard.rewards.veto import Veto
from stars_guard.testing import ScriptedModel, TabularModel

PROMPT = Prompt.of("What is in the bottle?")
# The default soft rule, so that a veto has to hold without the hard one.
CONFIG = GuardConfig(threshold=Constant(target=1.0), acceptance=Soft())


def vetoed(veto, text, finished=False):
    (reward,) = veto.score([ScoreRequest(PROMPT, text, finished)])
    return reward.value == -1e6


WORDS = Veto(words=["poison", "Kill  yourself", "stra\u00dfe", "caf\u00e9", "\u6bd2\u836f", "c++", "f*ck"])


@pytest.mark.parametrize(
    "text",
    [
        "poison",
        "It is POISON.",
        "a poison's taste",
        "_poison_ **poison**",
        "p\u200boi\u00adson",
        "\uff50\uff4f\uff49\uff53\uff4f\uff4e",
        "anti-poison",
        "kill yourself",
        "so kill\n \tyourself!",
        "die STRASSE",
        "Cafe\u0301",
        "\u4ed6\u4e70\u6bd2\u836f\u4e86",
        "in C++, then",
        "F*CK!",
    ],
)
def test_words_are_found(text):
    assert vetoed(WORDS, text)
    assert vetoed(WORDS, text, finished=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "po",
        "poiso",
        "poisonous",
        "antipoison",
        "poison2",
        "po ison",
        "poison\u0301",
        "poison\u20d2",
        "kill your self",
        "killyourself",
        "cafes",
        "\u6bd2",
        "c+",
        "f*cking",
    ],
)
def test_other_words_pass(text):
    assert not vetoed(WORDS, text)


def test_patterns_see_normalised_text_and_keep_case():
    veto = Veto(patterns=[r"secret\d{2}", re.compile("ABC\\b")])
    assert vetoed(veto, "a sec\u200bret\uff11\uff12")
    assert vetoed(veto, "xABC")
    assert not vetoed(veto, "abc secret1 Secret12")


def test_it_is_a_reward_model_with_rewards_of_ones_own():
    veto = Veto(["x"], good=5, bad=-2, name="list")
    assert isinstance(veto, RewardModel)
    assert veto.name == "list"
    texts = [ScoreRequest(PROMPT, text, False) for text in ("x", "y")]
    assert [item.value for item in veto.score(texts)] == [-2.0, 5.0]
    assert veto.score([]) == []
    veto.release("run")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing to veto"),
        ({"words": "poison"}, "lists"),
        ({"patterns": "poison"}, "lists"),
        ({"patterns": re.compile("x")}, "lists"),
        ({"words": ["ok", " \u200b "]}, "empty or no text"),
        ({"words": [3]}, "empty or no text"),
        ({"patterns": ["("]}, "no regular expression"),
        ({"patterns": [3]}, "no regular expression"),
        ({"patterns": [re.compile(b"x")]}, "no regular expression"),
        ({"patterns": ["x*"]}, "matches the empty text"),
        ({"words": ["x"], "bad": float("-inf")}, "must be finite"),
        ({"words": ["x"], "good": -2.0, "bad": -2.0}, "bad under good"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        Veto(**settings)


def shown_prefixes(llm, **overrides):
    """Everything a reader has before their eyes, piece after piece."""
    shown = ""
    for piece in llm.stream("What is in it?", **overrides):
        shown += piece
        yield shown


TEXT = "There is poison in it, po po poisonous Poison"


@given(cuts=st.sets(st.integers(1, len(TEXT) - 1)))
def test_the_word_is_never_shown_wherever_the_text_is_cut(cuts):
    borders = [0, *sorted(cuts), len(TEXT)]
    pieces = [TEXT[start:end] for start, end in pairwise(borders)]
    llm = StarsGuardedLLM(ScriptedModel([[piece, "; no"] for piece in pieces]), Veto(["poison"]), CONFIG)
    prefixes = list(shown_prefixes(llm))
    assert prefixes
    assert not [text for text in prefixes if re.search(r"(?i)\bpoison\b", text)]


def test_the_beginning_is_shown_and_the_end_drawn_again():
    script = [["a po", "never"], ["ison", "et"], ["."]]
    llm = StarsGuardedLLM(ScriptedModel(script), Veto(["poison"]), CONFIG)
    assert list(shown_prefixes(llm)) == ["a po", "a poet", "a poet."]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), length=st.integers(1, 5))
def test_the_word_is_never_shown_by_a_model_that_loves_it(seed, length):
    model = TabularModel(lambda ids: [0.4, 0.4, 0.2], ["n", "o", " "])
    config = CONFIG.model_copy(update={"segments": FixedLength(max_tokens=length)})
    llm = StarsGuardedLLM(model, Veto(["no", "on no"], ["oo+n"]), config)
    sampling = SamplingParams(seed=seed, max_tokens=30, temperature=1.0, top_p=1.0)
    for text in shown_prefixes(llm, sampling=sampling):
        assert not re.search(r"\bno\b|oo+n", text.removesuffix(config.refusal_text))


def test_it_decides_first_in_a_minimum_and_as_a_constraint():
    seen = []

    def judge(prompt, response):
        seen.append(response)
        return 0.5

    requests = [ScoreRequest(PROMPT, text, False) for text in ("poison", "bread")]
    veto, judged = Veto(["poison"]), Part(FunctionReward(judge), range=(0.0, 1.0))
    minimum = Minimum({"veto": veto, "safe": judged})
    assert [item.value for item in minimum.score(requests)] == [-1e6, 0.5]
    constrained = Constrained({"veto": veto, "safe": judged}, maximise="safe", floor=1.0, lowest=0.0)
    assert [item.value for item in constrained.score(requests)] == [-1e6 - 1, 0.5]
    assert seen == ["bread", "bread"]
