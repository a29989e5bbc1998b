"""Training a probe on as a value, on made-up states whose answer is known, and from files to a card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

import torch

from stars_guard.errors import ConfigurationError
from stars_guard.rewards.classifiers.probe import ProbeHead, ProbeReward
from stars_guard.training.card import write_card
from stars_guard.training.data import Preference, TrainingAnswer, TrainingSet
from stars_guard.training.evaluate import Evaluation, Measure
from stars_guard.training.forecasts import forecast_errors, forecast_table, measure_forecasts
from stars_guard.training.probe import Examples, ProbeTraining, head_rewards, train_probe
from stars_guard.training.value_rows import ValueRow, ValueSet, read_values, write_value_part
from stars_guard.training.value_training import (
    AGAIN_LENGTHS,
    Beginnings,
    ValueTraining,
    remembered,
    seen_again,
    train_values,
    trained_on,
)
from tests.support.tiny import tiny_llama, tiny_tokenizer
from tests.training.test_train import ROWS, write_rows

pytestmark = pytest.mark.slow

FEATURES = 6


def training(**changes):
    settings = {
        "data_dir": ".",
        "values": ".",
        "start": ".",
        "output": "out",
        "steps": 300,
        "batch": 64,
        "learning_rate": 1e-2,
        "keeping": 0.0,
        "dropout": 0.0,
    }
    return ValueTraining(**(settings | changes))


def start(units=4):
    torch.manual_seed(0)
    return ProbeHead(FEATURES, units)


def examples(count=200, watched=0):
    """Feature 0 says what is labelled safe."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(count, len(AGAIN_LENGTHS), FEATURES, generator=generator)
    safe = (torch.arange(count) % 2).float()
    features[:, :, 0] += 2 * (2 * safe - 1)[:, None]
    return Examples(
        features=features.half(),
        answers=torch.arange(count),
        safe=safe,
        pairs=torch.zeros(0, 2, dtype=torch.long),
        watched=torch.arange(count)[safe == 1][:watched],
    )


def row(parent, value, tokens=0, kind="harmless", prompt="p"):
    return ValueRow(
        prompt=prompt,
        prefix="",
        tokens=tokens,
        value=value,
        error=0.0,
        parent=parent,
        doubt=0.0,
        kind=kind,
    )


def trees(count=150, seed=2):
    """Feature 1 says how probably a beginning ends well; of its two ends it says which does."""
    generator = torch.Generator().manual_seed(seed)
    rows, features = [], []
    for chance in torch.rand(count, generator=generator).tolist():
        ends = (torch.rand(2, generator=generator) < chance).float()
        place = len(rows)
        rows.append(row(-1, float(ends.mean())))
        rows += [row(place, float(end), tokens=8) for end in ends]
        noise = torch.randn(3, FEATURES, generator=generator) / 3
        noise[:, 1] = torch.stack([torch.tensor(4 * chance - 2), *(4 * ends - 2)])
        features.append(noise)
    return ValueSet(tuple(rows), torch.cat(features).half())


def go_on(begun, given, values, config):
    """What the start says of the given texts is remembered."""
    memories = remembered(begun, given.features, [], given.features[:0])
    return trained_on(begun, memories, given.watched, values, config)


def knowing(units=4):
    """A head that tells by feature 0 what is labelled safe."""
    head = start(units)
    with torch.no_grad():
        head.linear.weight.zero_()
        head.inner.weight[:, 1:] = 0
        head.linear.weight[0, 0] = 2.0
    return head


def test_it_learns_what_beginnings_are_worth_and_forgets_nothing():
    given = examples()
    begun = knowing()
    head = go_on(begun, given, trees(), training())
    fresh = trees(seed=3)
    said = torch.sigmoid(head_rewards(head, fresh.features))
    values = torch.tensor([each.value for each in fresh.rows])
    ends = torch.tensor([each.parent >= 0 for each in fresh.rows])
    assert (said[ends & (values == 1)] > 0.5).float().mean() > 0.9
    assert (said[ends & (values == 0)] < 0.5).float().mean() > 0.9
    expected = (fresh.features[~ends, 1].float() + 2) / 4
    assert (said[~ends] - expected).abs().mean() < 0.2
    before, after = (head_rewards(each, given.features) > 0 for each in (begun, head))
    assert (before == after).float().mean() > 0.9


def test_coherence_draws_beginnings_to_what_is_said_of_their_ends():
    """The start reads ends by feature 0, where beginnings tell nothing; their feature 1 does."""
    drawn, fresh, errors = trees(), trees(seed=3), {}
    for each in (drawn, fresh):
        ends = torch.tensor([row.parent >= 0 for row in each.rows])
        each.features[ends, 0] = each.features[ends, 1]
    for weight in (0.0, 3.0):
        head = go_on(knowing(), examples(), drawn, training(value_weight=0.0, coherence=weight))
        rewards = head_rewards(head, fresh.features).tolist()
        errors[weight] = forecast_errors(rewards, fresh.rows)[-1].probability
    assert errors[3.0] < 0.8 * errors[0.0]


def test_the_start_is_kept_and_what_holds_to_it_can_be_said():
    begun = start()
    before = {name: weight.clone() for name, weight in begun.state_dict().items()}
    settings = {"steps": 30, "value_weight": 1.0}
    far = go_on(begun, examples(), trees(), training(**settings))
    near = go_on(begun, examples(), trees(), training(**settings, keeping=10.0))
    assert all(torch.equal(before[name], weight) for name, weight in begun.state_dict().items())
    assert torch.equal(far.linear.weight, begun.linear.weight)
    moved = [(head.inner.weight - begun.inner.weight).detach().norm().item() for head in (near, far)]
    assert moved[0] < moved[1] / 2


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_as_many_watched_answers_are_flagged_as_before(share):
    given = examples(count=400, watched=150)
    begun = go_on(start(), given, trees(), training(seed=5))
    with torch.no_grad():
        said = head_rewards(begun, given.features[given.watched])[:, 1:]
        begun.linear.bias.sub_(said.quantile(share))
    head = go_on(begun, given, trees(), training(steps=50))
    flagged = (head_rewards(head, given.features[given.watched])[:, 1:] < 0).float().mean()
    assert float(flagged) == pytest.approx(share, abs=0.05)


def test_notes_do_not_move_what_is_said():
    """Notes shift every feature of a text; where it is remembered over notes, what is said of it stays."""
    given, begun, moved = examples(), knowing(), {}
    shift = torch.full((FEATURES,), -1.5)
    noted = (given.features.float() + shift).half()
    for places in ([], list(range(100))):
        memories = remembered(begun, given.features, places, noted[: len(places)])
        head = trained_on(begun, memories, given.watched, trees(), training(value_weight=0.0, coherence=0.0))
        said = torch.sigmoid(head_rewards(head, noted[100:]))
        moved[len(places)] = (said - memories[0].said[100:]).abs().mean()
    assert moved[100] < moved[0] / 2


def test_the_same_settings_give_the_same_probe():
    heads = [
        go_on(start(), examples(), trees(), training(steps=5, dropout=0.2, seed=seed)) for seed in (1, 1, 2)
    ]
    assert torch.equal(heads[0].inner.weight, heads[1].inner.weight)
    assert not torch.equal(heads[0].inner.weight, heads[2].inner.weight)


def test_beginnings_know_what_continues_them():
    values = ValueSet((row(-1, 0.5), row(0, 0.2), row(0, 0.8), row(2, 0.7), row(-1, 1.0)), torch.zeros(5, 2))
    found = Beginnings.of(values)
    assert list(zip(found.parents.tolist(), found.children.tolist(), strict=True)) == [(0, 1), (0, 2), (2, 3)]
    assert found.values.tolist() == pytest.approx([0.5, 0.2, 0.8, 0.7, 1.0])


def test_answers_are_seen_again_by_text():
    answers = tuple(TrainingAnswer("p", str(n // 2), 1.0) for n in range(20))
    data = TrainingSet(answers, (Preference("p", "0", "1"),), (("set", 20),))
    few, more = (seen_again(data, count, seed=1) for count in (3, 6))
    assert (len(few.answers), len(more.answers), few.preferences) == (6, 12, ())
    assert set(few.answers) < set(more.answers)
    assert seen_again(data, 99, seed=1).answers == answers


def test_an_error_is_the_distance_to_what_is_said_of_the_ends():
    rows = (row(-1, 0.5), row(0, 0.2, 8), row(0, 0.8, 4), row(2, 1.0, 8), row(2, 0.6, 8))
    errors = forecast_errors([0.0, 2.0, 1.0, 3.0, 1.0], rows)
    assert [(each.tokens, each.beginnings) for each in errors] == [(0, 1), (4, 1), (None, 2)]
    at_0, at_4, everywhere = errors
    assert at_4.logits == pytest.approx(1.0)  # 1 said, 2 expected
    assert at_0.logits == pytest.approx(2.0)  # 0 said, the mean of 2 and of that 2 expected
    assert everywhere.logits == pytest.approx(1.5)
    assert everywhere.spreads == pytest.approx(1.5 / (2 / 3) ** 0.5)
    assert at_0.value == pytest.approx(0.0)
    assert at_0.probability == pytest.approx(0.359, abs=0.01)
    assert forecast_errors([1.0], [row(-1, 0.5)]) == []
    table = forecast_table(errors).splitlines()
    assert table[2].startswith("| 0 tokens | 1 | 2.000 |")
    assert table[-1].startswith("| all | 2 | 1.500 |")


@pytest.fixture
def model_folder(tmp_path):
    tiny_llama().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_from_a_probe_and_values_to_a_card(tmp_path, model_folder):
    for name, rows in ROWS.items():
        write_rows(tmp_path / "data" / "train" / f"{name}.jsonl", rows * 8)
    data, first, second = tmp_path / "data", tmp_path / "first", tmp_path / "second"
    train_probe(
        ProbeTraining(
            data_dir=data, output=first, model=model_folder, units=4, passes=1, batch=16, prompt_tokens=8
        )
    )
    width = ProbeReward.load(first).settings.features
    for name in "abc":
        rows = (row(-1, 0.4, prompt=name), row(0, 0.2, 8, prompt=name), row(0, 0.6, 8, prompt=name))
        write_value_part(tmp_path / "values", name, ValueSet(rows, torch.randn(3, width)))
    config = training(
        data_dir=data,
        values=tmp_path / "values",
        start=first,
        output=second,
        model=model_folder,
        steps=3,
        answers=8,
        remarked=6,
    )
    assert train_values(config) == second
    assert ProbeReward.load(second).settings == ProbeReward.load(first).settings
    run = json.loads((second / "run.json").read_text("utf-8"))
    assert run["values"]["answers"] == {"harmless": 3}
    assert run["values"]["config"]["steps"] == 3
    assert run["values"]["config"]["remarked"] == 6
    assert run["answers"] == json.loads((first / "run.json").read_text("utf-8"))["answers"]
    assert str(tmp_path) not in json.dumps(run)

    errors = measure_forecasts(second, tmp_path / "values")
    (second / "forecasts.md").write_text(forecast_table(errors), encoding="utf-8")
    measured = Evaluation((Measure("diasafety", "AUC", 32, 0.5, 8),))
    for folder in (first, second):
        write_card(folder, measured)
    plain, card = ((folder / "README.md").read_text("utf-8") for folder in (first, second))
    assert "$" not in card
    assert "`coherence` 1.0" in card
    assert "| all | 3 |" in card
    assert "`coherence` 1.0" not in plain
    assert "Not measured." in plain


def test_values_of_other_layers_are_refused(tmp_path, model_folder):
    write_value_part(tmp_path / "values", "a", ValueSet((row(-1, 0.4),), torch.zeros(1, 5)))
    assert read_values(tmp_path / "values").features.shape == (1, 5)
    rows = [{"prompt": f"p{n}", "response": "sure", "unsafe": bool(n % 2)} for n in range(40)]
    data = write_rows(tmp_path / "mine.jsonl", rows)
    settings = {"units": 2, "passes": 1, "batch": 8, "prompt_tokens": 8}
    probe = train_probe(
        ProbeTraining(data_dir=data, output=tmp_path / "probe", model=model_folder, **settings)
    )
    with pytest.raises(ConfigurationError, match="reads the same layers"):
        measure_forecasts(probe, tmp_path / "values")
    config = training(
        data_dir=data, values=tmp_path / "values", start=probe, output=tmp_path / "o", model=model_folder
    )
    with pytest.raises(ConfigurationError, match="reads the same layers"):
        train_values(config)
    (Path(probe) / "run.json").unlink()
    with pytest.raises(ConfigurationError, match="no run"):
        train_values(config)
