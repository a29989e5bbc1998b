"""From logits to a reward, against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.rewards.readout import log_odds_of_any, logsumexp, readout, sigmoid

LABELS = {0: "safe", 1: "toxic", 2: "threat"}
LOGIT = st.floats(-30, 30)
ROW = st.lists(LOGIT, min_size=3, max_size=3)


def softmax(logits):
    exps = np.exp(np.array(logits) - max(logits))
    return exps / exps.sum()


def reward_of(row, problem_type=None, **choice):
    return readout(LABELS, problem_type, **choice).value(row)


def test_one_output_is_the_reward_itself():
    scalar = readout({0: "LABEL_0"}, "regression")
    assert scalar.value([-3.5]) == -3.5
    assert readout({0: "LABEL_0"}, scale="logit").value([2.5]) == 2.5
    assert readout({0: "LABEL_0"}, scale="probability").value([0.0]) == 0.5
    assert readout({0: "toxic"}, bad="toxic").value([2.5]) == -2.5


@given(ROW)
def test_softmax_labels_against_hand_computed(row):
    p = softmax(row)
    assert reward_of(row, good="safe", scale="probability") == pytest.approx(p[0])
    assert reward_of(row, bad=("toxic", "threat"), scale="probability") == pytest.approx(p[0])
    assert reward_of(row, bad="threat", scale="probability") == pytest.approx(p[0] + p[1])
    expected = row[0] - np.logaddexp(row[1], row[2])
    assert reward_of(row, good=["safe"]) == pytest.approx(expected)
    assert reward_of(row, bad=["threat", "toxic"]) == pytest.approx(expected)
    assert reward_of(row, good="safe", scale="logit") == row[0]
    assert reward_of(row, bad="toxic", scale="logit") == -row[1]
    assert reward_of(row, bad=("toxic", "threat"), scale="logit") == pytest.approx(-np.logaddexp(*row[1:]))
    assert readout(LABELS, good="safe").components(row) == pytest.approx(
        dict(zip(LABELS.values(), p, strict=True))
    )


@given(st.lists(st.floats(-8, 8), min_size=3, max_size=3))
def test_sigmoid_labels_against_hand_computed(row):
    p = 1 / (1 + np.exp(-np.array(row)))
    kind = "multi_label_classification"
    none_bad = (1 - p[1]) * (1 - p[2])
    assert reward_of(row, kind, bad=("toxic", "threat"), scale="probability") == pytest.approx(none_bad)
    odds = math.log(none_bad / (1 - none_bad))
    assert reward_of(row, kind, bad=("toxic", "threat")) == pytest.approx(odds, abs=1e-6)
    any_good = 1 - (1 - p[0]) * (1 - p[2])
    assert reward_of(row, kind, good=("safe", "threat"), scale="probability") == pytest.approx(any_good)
    assert reward_of(row, kind, good="safe") == pytest.approx(row[0])
    everything = reward_of(row, kind, bad=LABELS.values(), scale="probability")
    assert everything == pytest.approx(float(np.prod(1 - p)))
    assert readout(LABELS, kind, good="safe").components(row)["threat"] == pytest.approx(p[2])


@pytest.mark.parametrize("kind", [None, "multi_label_classification"])
@pytest.mark.parametrize("scale", ["log_odds", "probability", "logit"])
def test_extreme_logits_stay_finite_and_ordered(kind, scale):
    rows = [[top, -top, -top] for top in (-900.0, -20.0, 0.0, 20.0, 900.0)]
    rewards = [reward_of(row, kind, bad=("toxic", "threat"), scale=scale) for row in rows]
    assert all(map(math.isfinite, rewards))
    assert rewards == sorted(rewards)
    if scale == "log_odds":
        assert len(set(rewards)) == len(rewards)


def test_logits_that_are_not_finite_give_nan():
    for row in ([math.nan, 0.0, 0.0], [0.0, math.inf, 0.0], [0.0, 0.0, -math.inf]):
        assert math.isnan(reward_of(row, good="safe"))


def test_stable_functions():
    assert logsumexp([1000.0, 1000.0]) == pytest.approx(1000 + math.log(2))
    assert sigmoid(1000.0) == 1.0
    assert sigmoid(-1000.0) == 0.0
    assert log_odds_of_any([-700.0, -700.0]) == pytest.approx(-700 + math.log(2))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({}, r"the model has the labels \['safe', 'toxic', 'threat'\]; say which are good"),
        ({"good": "kind"}, r"unknown labels \['kind'\]; the model has the labels \['safe'"),
        ({"bad": ()}, r"unknown labels \[\]"),
        ({"good": "safe", "bad": "toxic"}, "good= or bad=, not both"),
        ({"bad": ("safe", "toxic", "threat")}, "all labels .* were named"),
        ({"good": "safe", "scale": "percent"}, "unknown scale 'percent'; use one of log_odds, prob"),
        ({"good": "safe", "problem_type": "regression"}, "use scale='logit'"),
    ],
)
def test_readout_errors(choice, message):
    with pytest.raises(ConfigurationError, match=message):
        readout(LABELS, **choice)


def test_one_output_of_a_regression_model():
    chosen = readout(LABELS, "regression", good="toxic", scale="logit")
    assert chosen.value([1.0, 2.0, 3.0]) == 2.0
    assert chosen.components([1.0, 2.0, 3.0]) == {"safe": 1.0, "toxic": 2.0, "threat": 3.0}


def test_wrong_number_of_logits():
    with pytest.raises(ScoringError, match="gave 2 logits for its 3 labels"):
        reward_of([0.0, 1.0], good="safe")
