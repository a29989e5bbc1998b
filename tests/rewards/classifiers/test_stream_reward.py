"""Qwen3Guard-Stream as a reward: against a forward pass of our own, by batch, by cache, and wrong folders."""

from __future__ import annotations

import math
import time

import pytest
import torch
from hypothesis import given
from hypothesis import settings as run_with
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoTokenizer, Qwen3Config, Qwen3Model

from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.prompts import Message, Prompt
from stars_guard.rewards.base import ScoreRequest, score_checked
from stars_guard.rewards.classifiers.stream_guard import ARCHITECTURE, StreamGuard
from stars_guard.rewards.classifiers.stream_reward import StreamGuardReward
from tests.support.stream_guards import LEVELS, stream_guard_folder

PROMPT = Prompt.of("How do I bake a good loaf of bread?")
ANSWERS = [
    "",
    "Mix",
    "Mix the flour, the water and the salt, then wait.",
    "I cannot help with that \U0001f600",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return stream_guard_folder(tmp_path_factory.mktemp("guard") / "Qwen3Guard-Stream-tiny")


@pytest.fixture(scope="module")
def reward(folder):
    return StreamGuardReward.load(folder, device="cpu")


@pytest.fixture(scope="module")
def by_hand(folder):
    return Independent(folder)


class Independent:
    """The published arithmetic in plain torch, one text at a time and from its beginning."""

    def __init__(self, folder):
        self.weights = load_file(folder / "model.safetensors")
        self.decoder = Qwen3Model(Qwen3Config.from_pretrained(folder)).eval()
        self.decoder.load_state_dict(
            {
                name.removeprefix("model."): value
                for name, value in self.weights.items()
                if name.startswith("model.")
            }
        )
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def opening(self, prompt):
        turns = "".join(
            f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in prompt.as_messages()
        )
        return f"{turns}<|im_start|>assistant\n<think>\n\n</think>\n\n"

    def ids(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    @torch.no_grad()
    def levels(self, ids):
        """Probabilities of the levels at every token, ``(tokens, 3)``."""
        states = self.decoder(torch.tensor([ids]), use_cache=False).last_hidden_state[0]
        inside = states @ self.weights["risk_level_category_pre.weight"].T
        scale = (inside.pow(2).mean(dim=1, keepdim=True) + 1e-6).sqrt()
        normed = inside / scale * self.weights["risk_level_category_layernorm.weight"]
        return (normed @ self.weights["risk_level_head.weight"].T).softmax(dim=1)

    def odds(self, answer, *, prompt=PROMPT, finished=False, controversial=1.0):
        """Log-odds of safe at every judged token."""
        before = self.ids(self.opening(prompt))
        after = self.ids(answer) + (self.ids("<|im_end|>\n") if finished else [])
        judged = self.levels([*before, *after])[len(before) if after else -1 :]
        unsafe = judged[:, 1] + controversial * judged[:, 2]
        return (judged[:, 0] + (1 - controversial) * judged[:, 2]).log() - unsafe.log()


def requests(answers=ANSWERS, *, run_id="", finished=False, prompt=PROMPT):
    return [ScoreRequest(prompt, answer, finished, run_id) for answer in answers]


def values(reward, batch):
    return [item.value for item in score_checked(reward, batch)]


def close(expected):
    return pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("controversial", [1.0, 0.5, 0.0])
def test_the_reward_is_the_log_odds_at_the_worst_token(folder, by_hand, finished, controversial):
    reward = StreamGuardReward.load(folder, device="cpu", controversial=controversial)
    expected = [
        float(by_hand.odds(answer, finished=finished, controversial=controversial).min())
        for answer in ANSWERS
    ]
    assert values(reward, requests(finished=finished)) == close(expected)
    assert len(set(expected)) == len(ANSWERS)


def test_the_heads_arithmetic_by_hand(tmp_path):
    config = Qwen3Config(
        hidden_size=2,
        intermediate_size=2,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=2,
        vocab_size=4,
        rms_norm_eps=0.0,
        guard_inner_size=2,
        num_risk_level=3,
        response_risk_level_map={"0": "Safe", "1": "Unsafe", "2": "Controversial"},
    )
    model = StreamGuard(config)
    with torch.no_grad():
        model.risk_level_category_pre.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
        model.risk_level_category_layernorm.weight.copy_(torch.tensor([1.0, 2.0]))
        model.risk_level_head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]))
        # (3, 4) becomes (3, 7); the root of the mean of 9 and 49 is the root of 29
        logits = model.score(torch.tensor([[3.0, 4.0]]))[0]
    root = math.sqrt(29)
    assert logits.tolist() == pytest.approx([3 / root, 14 / root, -11 / root])


def test_only_the_last_tokens_are_looked_at(folder, by_hand):
    odds = by_hand.odds(ANSWERS[2])
    assert (
        3 < int(odds.argmin()) + 1 < len(odds)
    )  # the worst token is neither near the beginning nor the last
    after_it = len(odds) - 1 - int(odds.argmin())
    for window in (1, 2, after_it, after_it + 1, len(odds) + 5, None):
        reward = StreamGuardReward.load(folder, device="cpu", window=window)
        seen = odds if window is None else odds[-window:]
        assert values(reward, requests(ANSWERS[2:3])) == close([float(seen.min())])


def test_the_levels_at_the_worst_token_are_components(reward, by_hand):
    (scored,) = reward.score(requests(ANSWERS[2:3]))
    before = by_hand.ids(by_hand.opening(PROMPT))
    levels = by_hand.levels([*before, *by_hand.ids(ANSWERS[2])])[len(before) :]
    worst = levels[int(by_hand.odds(ANSWERS[2]).argmin())]
    assert scored.components == close(dict(zip(LEVELS, worst.tolist(), strict=True)))
    assert reward.name == "Qwen3Guard-Stream-tiny"


def test_roles_are_kept(reward, by_hand):
    turns = [
        Message(role="system", content="Be kind."),
        Message(role="user", content="How do I hurt somebody?"),
        Message(role="assistant", content="I cannot help with that."),
        Message(role="user", content="And how do I bake?"),
    ]
    prompt = Prompt.of(turns)
    expected = [float(by_hand.odds(answer, prompt=prompt).min()) for answer in ANSWERS]
    assert values(reward, requests(prompt=prompt)) == close(expected)


def test_nobody_ends_a_turn_by_writing_so(reward, by_hand):
    (scored,) = values(reward, requests(["Mix<|im_end|>\n"]))
    assert scored == close(float(by_hand.odds("Mix< |im_end|>\n").min()))


WORDS = st.lists(
    st.sampled_from(["Mix", " the flour", ", then", " wait", "\n", " \U0001f600", " caf\u00e9"]), max_size=12
)


@run_with(max_examples=25, deadline=None)
@given(st.lists(WORDS.map("".join), min_size=2, max_size=6), st.sampled_from([1, 90, 4096]), st.booleans())
def test_rewards_are_the_same_alone_and_in_any_batch(folder, answers, batch_tokens, finished):
    reward = StreamGuardReward.load(folder, device="cpu", batch_tokens=batch_tokens)
    batch = requests(answers, finished=finished)
    assert values(reward, batch) == close([values(reward, [request])[0] for request in batch])


@run_with(max_examples=25, deadline=None)
@given(st.lists(st.lists(WORDS.map("".join), min_size=1, max_size=3), min_size=1, max_size=4), st.booleans())
def test_rewards_are_the_same_with_a_cache_over_rounds(reward, rounds, grows):
    accepted = ""
    for answers in rounds:
        answers = [accepted + answer for answer in answers]
        assert values(reward, requests(answers, run_id="cached")) == close(values(reward, requests(answers)))
        accepted = answers[-1] if grows else accepted
    reward.release("cached")


def test_only_new_tokens_are_read(folder, by_hand):
    reward = StreamGuardReward.load(folder, device="cpu")
    before, flour = len(by_hand.ids(by_hand.opening(PROMPT))), "Mix the flour"
    values(reward, requests([flour], run_id="run"))
    assert reward.tokens_fed == before + len(by_hand.ids(flour))
    first = reward.tokens_fed
    values(reward, requests([flour + ", the water", flour + " quickly"], run_id="run"))
    assert reward.tokens_fed - first < 2 * before
    values(reward, requests([flour], run_id="other"))
    assert reward.tokens_fed - first > before


def test_a_long_prompt_is_read_in_pieces_with_a_cache(reward, by_hand, monkeypatch):
    monkeypatch.setattr("stars_guard.rewards.classifiers.causal._PIECE", 16)
    answers = [ANSWERS[2], ANSWERS[2] + " Then bake.", ANSWERS[2] + " Good."]
    expected = [float(by_hand.odds(answer).min()) for answer in answers]
    assert values(reward, requests(answers[:1], run_id="pieces")) == close(expected[:1])
    assert values(reward, requests(answers, run_id="pieces")) == close(expected)


def test_what_does_not_fit_is_dropped_from_the_beginning_of_the_prompt(folder, by_hand):
    reward = StreamGuardReward.load(folder, device="cpu", max_length=40)
    ids = [*by_hand.ids(by_hand.opening(PROMPT)), *by_hand.ids(ANSWERS[2])]
    (scored,) = reward.score(requests(ANSWERS[2:3]))
    levels = by_hand.levels(ids[-40:])[-len(by_hand.ids(ANSWERS[2])) :]
    odds = levels[:, 0].log() - (levels[:, 1] + levels[:, 2]).log()
    assert (scored.value, scored.truncated_tokens) == (close(float(odds.min())), len(ids) - 40)


def test_nothing_is_read_after_the_deadline(reward):
    late = [ScoreRequest(PROMPT, "Mix", False, deadline=time.monotonic() - 1)]
    with pytest.raises(ScoringError, match="had no time to read to the end"):
        reward.score(late)
    assert reward.score([]) == []


def test_no_code_of_the_folder_is_run(tmp_path):
    folder = stream_guard_folder(tmp_path)
    for name in ("configuration_qwen3.py", "modeling_qwen3_guard.py"):
        (folder / name).write_text("raise SystemExit('this code was run')", encoding="utf-8")
    assert values(StreamGuardReward.load(folder), requests(["Mix"]))
    assert ARCHITECTURE in (folder / "config.json").read_text(encoding="utf-8")


def test_what_is_left_out_is_no_cause_for_a_warning(folder, caplog):
    StreamGuardReward.load(folder)
    assert "UNEXPECTED" not in caplog.text


def test_a_folder_that_knows_no_controversial_level(tmp_path):
    two = {"num_risk_level": 2, "response_risk_level_map": {"0": "unsafe", "1": "safe"}}
    head = torch.randn(2, 12)
    folder = stream_guard_folder(tmp_path, config=two, weights={"risk_level_head.weight": head})
    (scored,) = StreamGuardReward.load(folder, window=1).score(requests(["Mix"]))
    assert scored.value == pytest.approx(
        math.log(scored.components["safe"] / scored.components["unsafe"]), abs=1e-4
    )


def levels(*names):
    return {"response_risk_level_map": {str(index): name for index, name in enumerate(names)}}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"response_risk_level_map": None},
            "response_risk_level_map in the config.json of .*guard must name the",
        ),
        (
            {"response_risk_level_map": ["Safe"]},
            "response_risk_level_map in the config.json of .*guard must name the",
        ),
        (
            levels("Safe", "Unsafe"),
            r"response_risk_level_map .* must name the levels 0 to 2, and names \['0', '1'\]",
        ),
        (
            levels("Fine", "Unsafe", "Controversial"),
            "must name safe, unsafe and perhaps controversial, .*Fine",
        ),
        (levels("Safe", "Bad", "Controversial"), "must name safe, unsafe and perhaps controversial, .*Bad"),
        (levels("Safe", "Unsafe", "Odd"), "must name safe, unsafe and perhaps controversial, .*Odd"),
        (
            {"guard_inner_size": None},
            "guard_inner_size in the config.json of .*guard must be a number from 1 on",
        ),
        ({"guard_inner_size": 0}, "guard_inner_size in .* and is 0"),
        ({"num_risk_level": None}, "num_risk_level in .* and is None"),
        (
            {"guard_inner_size": 13},
            r"guard is not a trained stream guard: risk_level_category_layernorm.weight has the size \(12,\)",
        ),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, config, words):
    folder = stream_guard_folder(tmp_path / "guard", config=config)
    with pytest.raises(ConfigurationError, match=words):
        StreamGuardReward.load(folder)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (
            {"risk_level_head.weight": None},
            r"guard is not a trained stream guard: .*\['risk_level_head.weight'\]",
        ),
        ({"risk_level_category_pre.weight": None}, r"no weights for \['risk_level_category_pre.weight'\]"),
        ({"risk_level_category_layernorm.weight": None}, r"\['risk_level_category_layernorm.weight'\]"),
        ({"model.norm.weight": None}, r"\['model.norm.weight'\]"),
        (
            {"risk_level_head.weight": torch.zeros(4, 12)},
            r"risk_level_head.weight has the size \(4, 12\) there, and config.json asks for \(3, 12\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, weights, words):
    folder = stream_guard_folder(tmp_path / "guard", weights=weights)
    with pytest.raises(ConfigurationError, match=words):
        StreamGuardReward.load(folder)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"controversial": 1.5}, "controversial must be a share from 0 to 1, got 1.5"),
        ({"controversial": math.nan}, "controversial must be a share from 0 to 1, got nan"),
        ({"window": 0}, "window must be at least 1 token, or None for all, got 0"),
        ({"max_length": 5000}, "max_length must be between 1 and 512"),
        ({"batch_tokens": 0}, "batch_tokens must be at least 1"),
        ({"max_length": 2}, "max_length=2 leaves no room"),
        ({"good": "Safe"}, "good"),
    ],
)
def test_settings_out_of_range_are_refused(folder, settings, words):
    with pytest.raises(ConfigurationError, match=words):
        StreamGuardReward.load(folder, **settings)


def test_a_tokenizer_without_a_chat_template_is_refused(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = None
    with pytest.raises(ConfigurationError, match="tokenizer of StreamGuard has no chat template"):
        StreamGuardReward(StreamGuard.from_pretrained(folder), tokenizer)


def test_a_model_in_hand_needs_no_folder(by_hand):
    config = Qwen3Config(**{**by_hand.decoder.config.to_dict(), "_name_or_path": ""})
    config.response_risk_level_map = None
    with pytest.raises(ConfigurationError, match=r"config\.json of the model must name"):
        StreamGuard(config)
