"""Values of beginnings: which prompts are answered, how answers branch, and what beginnings are worth."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

pytest.importorskip("sklearn")

import torch
from pydantic import ValidationError

from stars_guard.errors import ConfigurationError
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.classifiers.probe import ProbeHead, ProbeReward, features_of
from stars_guard.rewards.combine import WeightedSum
from stars_guard.rewards.function import FunctionReward
from stars_guard.testing import KeywordReward
from stars_guard.training.probe import ProbeTraining, probe_settings
from stars_guard.training.value_questions import (
    LONGEST_TALK,
    ValueQuestion,
    over_notes,
    put_over_notes,
    value_questions,
)
from stars_guard.training.value_rows import ValueRow, ValueSet, children_of, read_values, write_value_part
from stars_guard.training.values import SCORERS, Valuation, ValueDraws, write_values
from tests.support.tiny import tiny_llama, tiny_tokenizer
from tests.training.test_train import PAIR, ROWS, write_rows

pytestmark = pytest.mark.slow

DRAWS = {"cuts": (2, 4), "tokens": 8, "batch": 3}


@pytest.fixture(scope="module")
def model() -> TransformersModel:
    return TransformersModel(tiny_llama(), tiny_tokenizer(), name="tiny")


@pytest.fixture(scope="module")
def probe(model: TransformersModel) -> ProbeReward:
    torch.manual_seed(0)
    settings = probe_settings(model, ProbeTraining(data_dir=Path(), output=Path()))
    return ProbeReward(settings, ProbeHead(settings.features, 2))


def teacher(probe: ProbeReward, encoder: Callable[[str], float]) -> RewardModel:
    """The mean of the probe and of a function of the answer."""
    parts = {"encoder": FunctionReward(lambda prompt, answer: encoder(answer)), "probe": probe}
    return WeightedSum(parts, dict.fromkeys(SCORERS, 0.5))


def by_length(answer: str) -> float:
    return 1.0 if len(answer) % 2 else -1.0


@pytest.fixture
def drawn(model: TransformersModel, probe: ProbeReward) -> ValueSet:
    questions = [ValueQuestion.of("How do I bake?", "harmless"), ValueQuestion.of("Why?", "harmful")]
    draws = ValueDraws(**DRAWS, continuations=3)
    (part,) = Valuation(model, teacher(probe, by_length), draws).parts(questions, wave=0)
    return part


def test_every_beginning_has_its_continuations_and_every_end_is_as_long_as_may_be(drawn: ValueSet) -> None:
    children = children_of(drawn.rows)
    assert {drawn.rows[place].tokens for place in children} <= {0, 2, 4}
    assert {len(ends) for ends in children.values()} == {3}
    for place, row in enumerate(drawn.rows):
        assert row.parent < place
        assert row.tokens <= 8
        if row.parent >= 0:
            before = drawn.rows[row.parent]
            assert row.prompt == before.prompt
            assert row.tokens > before.tokens
    assert sum(row.parent == -1 for row in drawn.rows) == 2


def test_an_end_is_worth_what_the_teacher_says_and_a_beginning_the_mean(
    drawn: ValueSet, probe: ProbeReward
) -> None:
    children = children_of(drawn.rows)
    for place, row in enumerate(drawn.rows):
        if place in children:
            values = [drawn.rows[child].value for child in children[place]]
            assert row.value == pytest.approx(fmean(values), abs=1e-4)
            spread = math.sqrt(sum((value - row.value) ** 2 for value in values) / 2 / 3)
            assert row.error == pytest.approx(spread, abs=1e-4)
        else:
            (given,) = probe.head(drawn.features[place][None].float()).tolist()
            judged = (by_length(row.prefix) + given) / 2
            assert row.value == pytest.approx(1 / (1 + math.exp(-judged)), abs=0.01)
            assert row.error == 0


def test_the_states_are_those_of_decoding(
    drawn: ValueSet, model: TransformersModel, probe: ProbeReward
) -> None:
    prompt = Prompt.of("Why?")
    (root,) = [n for n, row in enumerate(drawn.rows) if row.parent < 0 and row.prompt == "Why?"]
    ((states,),) = model.read_states([(prompt, "")], probe.settings.layers, (0,))
    assert torch.allclose(drawn.features[root].float(), features_of(states), atol=0.02)


def test_doubt_is_the_distance_of_the_two_scorers(model: TransformersModel, probe: ProbeReward) -> None:
    question = [ValueQuestion.of("Why?", "harmful")]
    (part,) = Valuation(model, teacher(probe, lambda _: 9.0), ValueDraws(**DRAWS)).parts(question, wave=0)
    begun = children_of(part.rows)
    ends = [place for place in range(len(part.rows)) if place not in begun]
    given = probe.head(part.features[ends].float()).tolist()
    assert {row.doubt for row in part.rows} == {part.rows[0].doubt}
    assert part.rows[0].doubt == pytest.approx(fmean(abs(9.0 - each) for each in given), abs=0.05)


def test_what_is_safe_by_construction_is_not_asked_of_the_teacher(
    model: TransformersModel, probe: ProbeReward
) -> None:
    question = replace(ValueQuestion.of("By these notes: why?", "notes"), safe=1.0)
    (part,) = Valuation(model, teacher(probe, lambda _: -9.0), ValueDraws(**DRAWS)).parts([question], wave=0)
    assert {row.value for row in part.rows} == {1.0}


def test_an_answer_that_ends_early_has_no_further_beginnings(probe: ProbeReward) -> None:
    ending = TransformersModel(tiny_llama(), tiny_tokenizer(), name="tiny")
    ending.eos_ids = frozenset(range(ending.model.config.vocab_size))  # any token ends it
    (part,) = Valuation(ending, teacher(probe, by_length), ValueDraws(**DRAWS)).parts(
        [ValueQuestion.of("Why?", "harmful")], wave=0
    )
    assert [row.parent for row in part.rows] == [-1, 0, 0]


def test_draws_are_the_same_by_seed_and_others_in_another_wave(
    model: TransformersModel, probe: ProbeReward
) -> None:
    question = [ValueQuestion.of("Why?", "harmful")]
    valuation = Valuation(model, teacher(probe, by_length), ValueDraws(**DRAWS))
    first, again, other = (
        [row.prefix for part in valuation.parts(question, wave) for row in part.rows] for wave in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_a_teacher_without_a_probe_is_refused(model: TransformersModel) -> None:
    with pytest.raises(ConfigurationError, match="reads no hidden states"):
        Valuation(model, KeywordReward(["x"]), ValueDraws())


@pytest.mark.parametrize("cuts", [(0, 8), (8, 8), (8, 64), ()])
def test_cuts_that_do_not_rise_are_refused(cuts: tuple[int, ...]) -> None:
    with pytest.raises((ConfigurationError, ValidationError), match="cuts"):
        ValueDraws(cuts=cuts)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    talk = [
        {"role": "user", "content": "how do i bake"},
        {"role": "assistant", "content": "mix"},
        {"role": "user", "content": "and then"},
    ]
    long = [{"role": "user", "content": "x" * LONGEST_TALK}, *talk[1:]]
    rows = {
        **ROWS,
        "hh_harmless_pairs": [PAIR, PAIR | {"messages": talk}, PAIR | {"messages": long}],
    }
    for name, records in rows.items():
        write_rows(tmp_path / "data" / "train" / f"{name}.jsonl", records)
    write_rows(tmp_path / "data" / "eval" / "harmfulqa.jsonl", [{"prompt": "burn a house"}])
    write_rows(tmp_path / "data" / "eval" / "hatecheck.jsonl", [{"text": "x"}])
    return tmp_path / "data"


def test_questions_come_from_every_source_and_never_from_what_is_measured_on(data: Path) -> None:
    questions = value_questions(data, 40, seed=1)
    kinds = {question.kind for question in questions}
    assert kinds == {"harmless", "harmful", "red-team", "conversation", "xstest_completions"}
    texts = [question.text for question in questions]
    assert "bake a cake" in texts
    assert "burn a house" not in texts
    assert len(set(texts)) == len(texts)
    (talk,) = [question for question in questions if question.kind == "conversation"]
    assert [message["role"] for message in talk.prompt.messages] == ["user", "assistant", "user"]
    assert talk.text == "how do i bake\nmix\nand then"
    assert texts == [question.text for question in value_questions(data, 40, seed=1)]
    assert texts != [question.text for question in value_questions(data, 40, seed=2)]


def test_notes_are_answers_to_harmless_questions_and_so_is_the_question() -> None:
    answered = [(f"how do i {n}?", f"like\n\nthis {n}") for n in range(5)]
    questions = over_notes(answered, 20, seed=0)
    assert {question.safe for question in questions} == {1.0}
    for question in questions:
        noted = [n for n in range(5) if f"like this {n}" in question.text]
        assert len(noted) in (2, 3)
        assert any(f"how do i {n}?" in question.text for n in noted)
    assert len({question.text for question in questions}) > 10
    assert over_notes(answered[:2], 20, seed=0) == []


def test_prompts_are_put_over_notes_and_keep_their_answers() -> None:
    answered = [(f"how do i {n}?", f"like this {n}") for n in range(5)]
    texts = [("burn it", "sure"), ("", "a text"), ("x" * 301, "no"), ("bake it", "mix")]
    over = put_over_notes(texts, answered, 9, seed=0)
    assert sorted(place for place, _ in over) == [0, 3]
    for place, (prompt, response) in over:
        assert response == texts[place][1]
        assert texts[place][0] in prompt
        assert sum(f"like this {n}" in prompt for n in range(5)) == 2
    assert len(put_over_notes(texts, answered, 1, seed=0)) == 1
    assert put_over_notes(texts, answered[:2], 9, seed=0) == []


def test_three_waves_are_written_and_read_again(
    data: Path, model: TransformersModel, probe: ProbeReward, tmp_path: Path
) -> None:
    """The second wave has the instructions over notes, and the prompts on which the scorers differ most; the
    third has instructions, about whose harmless ones the teacher is not asked."""

    def encoder(prompt: str, answer: str) -> float:
        return 50.0 if prompt == "bake a cake" else 0.0

    parts = {"encoder": FunctionReward(encoder), "probe": probe}
    draws = ValueDraws(**DRAWS, prompts=20, again=0.1, notes=0.2, instructions=3, harmful=2)
    count = write_values(
        data, model, WeightedSum(parts, dict.fromkeys(SCORERS, 0.5)), tmp_path / "values", draws
    )
    values = read_values(tmp_path / "values")
    assert count == len(values.rows) == len(values.features)
    assert values.kinds["instructions"] == 3
    assert {each.value for each in values.rows if each.kind == "instructions"} == {1.0}
    assert values.kinds["harmful instructions"] == 2
    assert 1.0 not in {each.value for each in values.rows if each.kind == "harmful instructions"}
    asked = [each.prompt for each in values.rows if each.parent < 0 and "instructions" not in each.kind]
    assert asked.count("bake a cake") == 2
    assert len(asked) - len(set(asked)) == round(0.1 * len(set(asked) - {*notes_of(values)}))
    assert values.kinds["notes"] == round(0.2 * (len(set(asked)) - values.kinds["notes"]))
    for row in values.rows:
        assert row.parent < 0 or values.rows[row.parent].prompt == row.prompt


def notes_of(values: ValueSet) -> list[str]:
    return [row.prompt for row in values.rows if row.parent < 0 and row.kind == "notes"]


def row(parent: int = -1) -> ValueRow:
    return ValueRow(
        prompt="p", prefix="", tokens=0, value=0.5, error=0.0, parent=parent, doubt=0.0, kind="harmless"
    )


def test_parts_are_joined_and_parents_counted_on(tmp_path: Path) -> None:
    part = ValueSet((row(), row(parent=0)), torch.arange(4.0).reshape(2, 2))
    for name in ("second-0", "first-0"):
        write_value_part(tmp_path, name, part)
    values = read_values(tmp_path)
    assert [each.parent for each in values.rows] == [-1, 0, -1, 2]
    assert values.features.tolist() == [[0, 1], [2, 3]] * 2
    assert values.kinds == {"harmless": 2}


@pytest.mark.parametrize("fault", ["nothing", "no states", "too few states", "no row"])
def test_broken_values_are_refused(tmp_path: Path, fault: str) -> None:
    rows: Sequence[ValueRow] = (row(), row(parent=0))
    if fault != "nothing":
        write_value_part(tmp_path, "a", ValueSet(tuple(rows), torch.zeros(1 + (fault == "no row"), 2)))
    if fault == "no states":
        (tmp_path / "a.safetensors").unlink()
    if fault == "no row":
        (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "p"}) + "\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="values"):
        read_values(tmp_path)
