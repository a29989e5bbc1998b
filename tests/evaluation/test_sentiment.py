"""The two rewards of sentiment control: their order, their scales, and weights that are numbers alone."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest

from stars_guard.errors import ConfigurationError, MissingExtraError
from stars_guard.evaluation.sentiment.linear import BUCKETS, WEIGHTS, SentimentClassifier
from stars_guard.evaluation.sentiment.training import (
    SETS,
    Labelled,
    accuracy,
    fitted_classifier,
    read_reviews,
    train_and_measure,
)
from stars_guard.loading.parts import load_reward
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest, score_checked

NAMES = ["vader", "review_classifier"]
GOOD = "A wonderful, moving film with brilliant acting. I loved it!"
BAD = "A dull, pointless mess with terrible acting. I hated it."
LABELLED = Labelled(
    [f"good film {n}" for n in range(9)] + [f"bad film {n}" for n in range(9)], [True] * 9 + [False] * 9
)


def scores(reward, *texts, prompt="Continue this review: the film is"):
    requests = [ScoreRequest(Prompt.of(prompt), text, finished=False) for text in texts]
    return [item.value for item in score_checked(reward, requests)]


@pytest.mark.parametrize("name", NAMES)
def test_the_more_positive_answer_has_the_higher_reward_whatever_the_prompt(name):
    reward = load_reward(f"stars_guard.evaluation.sentiment:{name}")
    good, bad = scores(reward, GOOD, BAD)
    assert good > bad
    assert scores(reward, GOOD, BAD, prompt=BAD) == [good, bad]
    reward.release("any")


def test_their_scales():
    vader, classifier = (load_reward(f"stars_guard.evaluation.sentiment:{name}") for name in NAMES)
    assert scores(vader, "", "chair") == [0, 0]
    assert scores(classifier, "", " ") == [0.5, 0.5]
    assert -1 <= scores(vader, BAD)[0] < 0 < scores(vader, GOOD)[0] <= 1
    assert 0 < scores(classifier, BAD)[0] < 0.5 < scores(classifier, GOOD)[0] < 1
    assert vader.name != classifier.name


def test_both_apostrophes_are_one():
    classifier = SentimentClassifier.load(WEIGHTS)
    assert classifier.positive(["I don\u2019t like it"]) == classifier.positive(["I don't like it"])


def test_the_weights_are_numbers_and_nothing_else():
    with np.load(WEIGHTS, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["bias", "weights"]
        assert all(np.isfinite(arrays[name]).all() for name in arrays)
    assert WEIGHTS.stat().st_size < 300_000


def test_a_file_that_holds_no_classifier(tmp_path):
    (tmp_path / "text.npz").write_text("no numbers")
    with pytest.raises(ConfigurationError, match="holds no sentiment classifier"):
        SentimentClassifier.load(tmp_path / "text.npz")
    np.savez(tmp_path / "short.npz", weights=np.zeros(3), bias=0.0)
    with pytest.raises(ConfigurationError, match=rf"shape \(3,\), and not \({BUCKETS},\)"):
        SentimentClassifier.load(tmp_path / "short.npz")
    np.savez(tmp_path / "code.npz", weights=np.array([print]), bias=0.0)
    with pytest.raises(ConfigurationError, match="holds no sentiment classifier: ValueError"):
        SentimentClassifier.load(tmp_path / "code.npz")


def test_training_tells_what_it_was_taught_and_is_the_same_every_time(tmp_path):
    classifier = fitted_classifier(LABELLED)
    assert accuracy(classifier, LABELLED, 0.5) == 1
    assert accuracy(classifier, LABELLED, 1.0) == 0.5
    classifier.save(tmp_path / "weights.npz")
    texts = ["good film", "bad film"]
    again = SentimentClassifier.load(tmp_path / "weights.npz").positive(texts)
    assert fitted_classifier(LABELLED).positive(texts) == classifier.positive(texts)
    assert all(
        math.isclose(a, b, abs_tol=0.01) for a, b in zip(again, classifier.positive(texts), strict=True)
    )


def test_the_card_keeps_its_words_and_gets_new_figures(tmp_path):
    for part in ("train", "eval"):
        (tmp_path / part).mkdir()
        for name in SETS:
            rows = [{"text": text, "positive": label} for text, label in zip(*LABELLED, strict=True)]
            (tmp_path / part / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_reviews([tmp_path / "eval" / f"{SETS[0]}.jsonl"]) == LABELLED
    card = tmp_path / "README.md"
    card.write_text("Words.\n\n<!-- figures -->\n\nold figures\n")
    figures = train_and_measure(tmp_path, tmp_path / "weights.npz", card)
    assert "| sentence_polarity | 18 | 1.000 |" in figures
    assert card.read_text() == f"Words.\n\n<!-- figures -->\n\n{figures}\n"


@pytest.mark.parametrize(
    ("name", "module"),
    [("vader", "vaderSentiment.vaderSentiment"), ("review_classifier", "sklearn.feature_extraction.text")],
)
def test_what_they_need_is_an_extra(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=r"stars-guard\[eval\]") as caught:
        scores(load_reward(f"stars_guard.evaluation.sentiment:{name}"), GOOD)
    assert isinstance(caught.value, MissingExtraError)
