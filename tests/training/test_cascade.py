"""The numbers of the shipped cascade: which answers they are fitted on, and what is written."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("tomli_w")

from stars_guard import embedded
from stars_guard.loading.names import reward_spec
from stars_guard.loading.specs import CascadeReward, EmbeddedReward
from stars_guard.training.cascade import (
    LENGTHS,
    THRESHOLDS,
    FittedCascade,
    score_texts,
    unseen_answers,
    write_cascade,
)
from stars_guard.training.data import TrainingAnswer, load
from stars_guard.training.judge import GUIDES_SEED
from tests.training.test_train import ROWS, write_rows


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, rows in ROWS.items():
        write_rows(tmp_path / "data" / "train" / f"{name}.jsonl", rows)
    sentences = [{"text": f"cake {number}"} for number in range(450)]
    write_rows(tmp_path / "data" / "train" / "sentence_polarity.jsonl", sentences)
    return tmp_path / "data"


def judged(folder: Path, responses: Sequence[str]) -> Path:
    rows = [{"prompt": "", "response": text, "unsafe": 0.0} for text in responses]
    write_rows(folder / "train" / "sentence_polarity_unseen.jsonl", rows)
    write_rows(folder / "train" / "diasafety_unseen.jsonl", [])
    write_rows(folder / "train" / "pyrit.jsonl", [{"prompt": "cook", "response": "first", "unsafe": 0.9}] * 2)
    return folder


def test_no_answer_that_a_reward_or_the_judge_saw_is_fitted_on(data: Path, tmp_path: Path) -> None:
    guides = {answer.response for answer in load(data, contrast=None, seed=GUIDES_SEED).answers}
    unseen = [f"cake {number}" for number in range(450) if f"cake {number}" not in guides]
    answers = unseen_answers(data, judged(tmp_path / "judge", unseen[:20]))
    assert [answer.response for answer in answers[:2]] == ["first", "first"]
    assert [round(answer.safe, 4) for answer in answers[:2]] == [0.1, 0.1]
    assert {answer.response for answer in answers[2:]} == set(unseen[20:])
    assert answers == unseen_answers(data, tmp_path / "judge")


class Guess:
    """A scorer that errs by chance, and knows more of longer texts."""

    def __init__(self, seed: int, offset: float) -> None:
        self._seed, self._offset = seed, offset

    def score(self, texts: Sequence[tuple[str, str]], tokens: int | None = None) -> list[float]:
        return [self._reward(response, tokens or 100) for _, response in texts]

    def _reward(self, response: str, tokens: int) -> float:
        noise = random.Random(f"{self._seed} {response} {tokens}").gauss(0, 1 + 16 / tokens)
        return self._offset + (1.5 if response.startswith("safe") else -1.5) + noise


@pytest.fixture(scope="module")
def halves():
    answers = [
        TrainingAnswer(f"prompt {number // 2}", f"{'safe' if number % 2 else 'harm'} {number}", number % 2)
        for number in range(400)
    ]
    return score_texts(Guess(1, 2.0), Guess(2, -1.0), answers)


def test_answers_are_scored_at_every_length_and_those_to_one_prompt_stay_together(halves) -> None:
    assert sum(map(len, halves)) == 400 * len(LENGTHS)
    for half in halves:
        assert len(half) > 400
        assert sum(text.safe for text in half) * 2 == len(half)


def test_both_parts_come_onto_one_scale(halves) -> None:
    fitted = FittedCascade.on(halves[0])
    assert fitted.first.offset == pytest.approx(2.0, abs=0.3)
    assert fitted.second.offset == pytest.approx(-1.0, abs=0.3)
    assert fitted.band.changed <= 0.01
    assert fitted.band.low < min(THRESHOLDS) < max(THRESHOLDS) <= fitted.band.high


def test_what_is_written_is_read_back_and_says_what_it_does_elsewhere(halves, tmp_path: Path) -> None:
    fitted = FittedCascade.on(halves[0])
    write_cascade(tmp_path / "cascade", fitted, halves[1])
    section = CascadeReward.of_file(tmp_path / "cascade" / "cascade.toml")
    assert section == fitted.section
    assert reward_spec(section.first.reward) == reward_spec(embedded.PROBE_NAME)
    assert section.second.reward == EmbeddedReward()
    assert section.low <= fitted.band.low < fitted.band.high <= section.high
    card = (tmp_path / "cascade" / "README.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("| ")]
    heads, *ways = rows
    table = {way: dict(zip(heads[1:], figures, strict=True)) for way, *figures in ways}
    assert set(table) == {"probe alone", "encoder alone", "mean of both", "cascade"}
    assert table["mean of both"]["as the mean at 0"] == "100.0 %"
    assert float(table["mean of both"]["AUC"]) > float(table["probe alone"]["AUC"])
    for bar in THRESHOLDS:
        agreed = {way: float(row[f"as the mean at {bar:g}"].rstrip(" %")) for way, row in table.items()}
        assert agreed["probe alone"] < agreed["cascade"]
        assert agreed["cascade"] >= 98
    read = float(table["cascade"]["read by the encoder"].rstrip(" %"))
    assert 0 < read < 100
