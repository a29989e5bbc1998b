"""The weights that propose judge under another persona."""

from __future__ import annotations

import pytest

from stars_guard import ConfigurationError, ScoringError
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.judges.self_judgement import SelfJudgement, with_system

ASKED = Prompt.of([{"role": "system", "content": "Be bold."}, {"role": "user", "content": "Well?"}])


class Lengths:
    """Each token is as likely as the length of the system message says."""

    def __init__(self):
        self.forgotten = []

    def read(self, answers, last):
        sizes = [(len(prompt.messages[0]["content"]), len(ids)) for _, prompt, ids in answers]
        return [[-float(size)] * min(last, tokens) for size, tokens in sizes]

    def forget(self, key):
        self.forgotten.append(key)


@pytest.mark.parametrize(("window", "reward"), [(1, -1.0), (3, -3.0), (100, -5.0)])
def test_the_reward_is_the_log_ratio_of_the_end_of_the_answer(window, reward):
    judge = SelfJudgement(Lengths(), "Be gentle", window)
    requests = [
        ScoreRequest(ASKED, "abcde", finished=False, token_ids=(1, 2, 3, 4, 5)),
        ScoreRequest(ASKED, "", finished=False),
    ]
    assert [scored.value for scored in judge.score(requests)] == [reward, 0.0]


def test_what_is_kept_of_an_answer_is_forgotten_with_it():
    kept = Lengths()
    SelfJudgement(kept, "Be gentle", 1).release("run")
    assert kept.forgotten == ["run judging", "run proposing"]


def test_a_text_without_its_tokens_is_no_reward():
    with pytest.raises(ScoringError, match="got a text without them"):
        SelfJudgement(Lengths(), "Be gentle", 1).score([ScoreRequest(ASKED, "abc", finished=True)])


def test_a_judging_persona_takes_the_place_of_the_one_that_is_there():
    judged = with_system(ASKED, "Be gentle")
    assert [message["content"] for message in judged.messages] == ["Be gentle", "Well?"]
    assert [message["role"] for message in with_system(Prompt.of("Well?"), "Be gentle").messages] == [
        "system",
        "user",
    ]
    assert with_system(Prompt.raw("Once"), "Be gentle").text == "Be gentle\nOnce"


@pytest.mark.parametrize(
    ("persona", "window", "message"), [(" ", 1, "persona is empty"), ("Be gentle", 0, "window=0")]
)
def test_a_judge_that_cannot_judge_is_refused(persona, window, message):
    with pytest.raises(ConfigurationError, match=message):
        SelfJudgement(Lengths(), persona, window)
