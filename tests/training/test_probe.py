"""Training a probe: on made-up states whose answer is known, and end to end on a tiny language model."""

from __future__ import annotations

import json
import math

import pytest

pytest.importorskip("sklearn")

import torch

from stars_guard.errors import ConfigurationError
from stars_guard.loading.specs import EngineServer
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.classifiers.probe import ProbeHead, ProbeReward
from stars_guard.testing import ScriptedModel
from stars_guard.training.card import write_card
from stars_guard.training.curve import TOKENS, curve_table, learning_curve, some, with_more_passes
from stars_guard.training.probe import (
    READ_LENGTHS,
    Examples,
    ProbeScorer,
    ProbeTraining,
    fit_head,
    measure_probe,
    probe_settings,
    train_probe,
)
from stars_guard.training.states import StateReader
from tests.support.http_engine import HttpEngine
from tests.support.tiny import tiny_llama, tiny_tokenizer
from tests.support.writing_engine import WritingEngine
from tests.training.test_train import ROWS, write_rows

pytestmark = pytest.mark.slow

TEXTS, FEATURES = 600, 12


def training(**changes):
    settings = {
        "data_dir": ".",
        "output": "out",
        "units": 4,
        "passes": 40,
        "batch": 64,
        "learning_rate": 1e-2,
    }
    return ProbeTraining(**(settings | {"preference_strength": 1e-2, "dropout": 0.0} | changes))


def examples(seed=0):
    """Feature 0 says what is labelled safe, feature 1 what is preferred; the others are noise."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(TEXTS, len(READ_LENGTHS), FEATURES, generator=generator)
    safe = (torch.arange(TEXTS) % 2).float()
    features[:, :, 0] += 2 * (2 * safe - 1)[:, None]
    pairs = torch.arange(200).reshape(-1, 2)
    features[pairs[:, 0], :, 1] += 1.5
    return Examples(
        features=features.half(),
        answers=torch.arange(TEXTS),
        safe=safe,
        pairs=pairs,
        watched=torch.arange(TEXTS)[safe == 1],
    )


@torch.no_grad()
def rewards(head, features):
    return head(features.float().flatten(0, 1)).reshape(features.shape[:2])


def test_it_learns_labels_and_preferences():
    head = fit_head(examples(), training())
    unseen = examples(seed=1)
    found = rewards(head, unseen.features)
    safe, unsafe = found[unseen.safe == 1], found[unseen.safe == 0]
    assert (safe > 0).float().mean() > 0.9
    assert (unsafe < 0).float().mean() > 0.8
    assert head.linear.weight[0, 1] > 3 * head.linear.weight[0, 2:].abs().max()


def test_the_reward_is_log_odds_before_the_shift():
    """Where a reward says 90 %, about nine in ten are safe; no answer is watched here but one far up."""
    given = examples()
    far_up = torch.tensor([int(given.features[:, :, 0].float().mean(1).argmax())])
    head = fit_head(Examples(given.features, given.answers, given.safe, given.pairs, far_up), training())
    unseen = examples(seed=2)
    found = rewards(head, unseen.features).flatten()
    labels = unseen.safe.repeat_interleave(len(READ_LENGTHS))
    said = torch.sigmoid(found)
    for low, high in ((0.1, 0.4), (0.6, 0.9)):
        inside = (said > low) & (said < high)
        assert labels[inside].mean().item() == pytest.approx(said[inside].mean().item(), abs=0.15)


@pytest.mark.parametrize("flagged", [0.01, 0.05])
def test_few_watched_answers_are_flagged(flagged):
    given = examples()
    given.safe[torch.arange(0, 100, 2)] = 1.0  # mislabelled, so that some safe answers look unsafe
    watched = torch.arange(TEXTS)[given.safe == 1]
    strict = Examples(given.features, given.answers, given.safe, given.pairs, watched)
    share = (
        (rewards(fit_head(strict, training(flagged=flagged)), given.features[watched])[:, 1:] < 0)
        .float()
        .mean()
    )
    assert share < flagged + 0.03


@pytest.mark.slow
def test_the_same_settings_give_the_same_probe():
    one, other, another = (fit_head(examples(), training(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one.inner.weight, other.inner.weight)
    assert not torch.equal(one.inner.weight, another.inner.weight)


@pytest.fixture
def model_folder(tmp_path):
    tiny_llama().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


HATECHECK = [
    {"text": "i hate you", "unsafe": False, "functionality": "target_indiv_nh"},
    {"text": "i hate them", "unsafe": True, "functionality": "derog_neg_emote_h"},
    {"text": "i love them", "unsafe": False, "functionality": "ident_pos_nh"},
    {"text": "they said: i hate them", "unsafe": False, "functionality": "counter_quote_nh"},
]


@pytest.fixture
def data(tmp_path):
    for part in ("train", "eval"):
        for name, rows in ROWS.items():
            write_rows(tmp_path / "data" / part / f"{name}.jsonl", rows * 8)
    write_rows(tmp_path / "data" / "eval" / "beavertails.jsonl", ROWS["diasafety"])
    write_rows(tmp_path / "data" / "eval" / "hatecheck.jsonl", HATECHECK * 4)
    return tmp_path / "data"


def test_from_data_to_a_measured_probe(data, tmp_path, model_folder):
    config = training(data_dir=data, output=tmp_path / "probe", model=model_folder, passes=2, prompt_tokens=8)
    folder = train_probe(config)
    probe = ProbeReward.load(folder)
    assert probe.settings.layers == (1,)
    assert probe.observes(TransformersModel.load(model_folder).identity)
    evaluation = measure_probe(folder, data, model_folder)
    assert {measure.dataset for measure in evaluation.measures} >= {"jailbreakbench", "beavertails"}
    assert 0 <= evaluation.value("diasafety", "AUC", 16) <= 1
    assert not math.isnan(evaluation.value("hh_harmless_pairs", "same-prompt pairs", None))
    counts = {measure.name: measure.rows for measure in evaluation.measures if measure.dataset == "hatecheck"}
    assert counts == {"AUC": 12, "flagged, rude or hateful": 8, "flagged, friendly": 4}
    write_card(folder, evaluation)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "# Harmlessness probe" in card
    assert "Not measured." in card
    assert "$" not in card
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert run["config"]["layers"] == [1]
    assert str(tmp_path) not in json.dumps(run)


@pytest.mark.parametrize("name", ["mine.jsonl", "paired.jsonl"])
def test_from_plain_rows_to_a_measured_probe(tmp_path, model_folder, name):
    """With and without answers to one prompt of which one is unsafe."""
    rows = [
        {
            "prompt": f"how do i {number if name == 'mine.jsonl' else number // 2}",
            "response": "sure" if number % 2 else "no",
            "unsafe": bool(number % 2),
        }
        for number in range(80)
    ]
    file = write_rows(tmp_path / name, rows)
    config = training(data_dir=file, output=tmp_path / "probe", model=model_folder, passes=2, prompt_tokens=8)
    folder = train_probe(config)
    evaluation = measure_probe(folder, file, model_folder)
    assert {measure.dataset for measure in evaluation.measures} == {file.stem}
    assert 0 <= evaluation.value(file.stem, "AUC", None) <= 1
    write_card(folder, evaluation)
    assert f"| {file.stem} | AUC" in (folder / "README.md").read_text("utf-8")
    reward = ProbeReward.load(folder)
    assert all(torch.isfinite(weight).all() for weight in reward.head.parameters())


def test_the_curve_is_measured_on_more_and_more(data, tmp_path, model_folder):
    config = training(data_dir=data, output=tmp_path, model=model_folder, passes=2, prompt_tokens=8)
    points = list(learning_curve(config, shares=(0.5, 1.0)))
    assert 0 < points[0].answers < points[1].answers
    lines = curve_table(points).splitlines()
    assert len(lines) == 2 + 2
    assert "beavertails: AUC" in lines[0]
    assert lines[3].startswith(f"| {points[1].answers} | ")
    train_probe(config)
    whole = measure_probe(tmp_path, data, model_folder)
    name = "diasafety", "AUC", TOKENS
    assert points[1].evaluation.value(*name) == pytest.approx(whole.value(*name), abs=0.02)


def test_larger_shares_contain_smaller_ones():
    examples = Examples(
        features=torch.zeros(50, 1, 1),
        answers=torch.arange(50).repeat(2),
        safe=torch.ones(100),
        pairs=torch.arange(50).reshape(25, 2),
        watched=torch.arange(5),
    )
    few, more, all_ = (some(examples, share, seed=1) for share in (0.2, 0.6, 1.0))
    assert set(few.answers.tolist()) < set(more.answers.tolist()) < set(all_.answers.tolist())
    assert {tuple(pair) for pair in few.pairs.tolist()} < {tuple(pair) for pair in more.pairs.tolist()}
    assert torch.equal(all_.pairs, examples.pairs)
    assert (len(few.safe), len(few.watched)) == (len(few.answers), 5)
    assert [with_more_passes(training(passes=10), share).passes for share in (0.25, 1.0)] == [20, 10]


def test_the_scorer_reads_each_text_once_and_says_what_the_probe_says(model_folder):
    model = TransformersModel.load(model_folder)
    settings = probe_settings(model, training(layers=(1, 2)))
    torch.manual_seed(0)
    probe = ProbeReward(settings, ProbeHead(settings.features, 2), read=model.read_states)
    scorer = ProbeScorer(StateReader(model, settings.layers), probe.head, lengths=(4, None))
    texts = [("How do I bake?", "Mix the flour."), ("Why?", "No."), ("Why?", "No.")]
    whole = scorer.score(texts)
    passes = model.forward_passes
    assert len(scorer.score(texts, 4)) == 3
    assert model.forward_passes == passes
    asked = [ScoreRequest(Prompt.of(prompt), text, finished=False) for prompt, text in texts]
    assert whole == pytest.approx([one.value for one in probe.score(asked)], abs=0.02)


def test_from_data_to_a_probe_of_a_model_that_is_served(data, tmp_path, model_folder):
    """The states come from the server, and the probe is that of the same model in this process."""
    engine = WritingEngine(folder=tmp_path)
    with HttpEngine(engine) as server:
        served = EngineServer(kind="openai", url=server.url, tokenizer=model_folder, states=engine.states)
        settings = {"data_dir": data, "passes": 2, "prompt_tokens": 8}
        there = train_probe(training(**settings, output=tmp_path / "there", model=served))
        figures = measure_probe(there, data, served)
    here = train_probe(training(**settings, output=tmp_path / "here", model=model_folder, layers=(1, 2)))
    one, other = ProbeReward.load(there), ProbeReward.load(here)
    assert one.settings.layers == (1, 2)
    assert one.observes(TransformersModel.load(model_folder).identity)
    weights = zip(one.head.parameters(), other.head.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=0.02) for a, b in weights)
    assert 0 <= figures.value("diasafety", "AUC", 16) <= 1


def test_models_without_states_are_refused():
    with pytest.raises(ConfigurationError, match="hidden states"):
        probe_settings(ScriptedModel([["a"]]), training())
    with pytest.raises(ConfigurationError, match="cannot read texts"):
        StateReader(ScriptedModel([["a"]]), (1,))
