"""Values of beginnings: what the base model's own continuations turn out to be worth, by a teacher.

Each answer is a tree. The model writes on as it does unguarded, and at every cut some further endings are
drawn from the same beginning. The teacher judges endings only; a beginning is worth the mean of what
continues it, where the answer that was gone on with counts by its own value. States are those of decoding.

The teacher is the mean of the embedded encoder's log-odds and those of the probe that is to go on. It is not
the judge of harm, which measures what guards do and must owe nothing to what guides them.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import sub
from pathlib import Path
from statistics import fmean, stdev
from typing import cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.random_numbers import address_hash
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import ConfigurationError
from stars_guard.loading.parts import load_reward
from stars_guard.models.base import ObservableModel, ObservedSession, Order
from stars_guard.rewards.base import RewardModel, ScoreRequest, hidden_state_readers, score_checked
from stars_guard.rewards.classifiers.probe import ProbeReward, features_of
from stars_guard.rewards.combine import WeightedSum
from stars_guard.settings import Settings
from stars_guard.training.forms import filled_forms
from stars_guard.training.value_questions import ValueQuestion, over_notes, value_questions
from stars_guard.training.value_rows import (
    ValueRow,
    ValueSet,
    harmless_answers,
    joined_rows,
    write_value_part,
)
from stars_guard.types import Candidate, HiddenStates, Reward

_LOG = logging.getLogger(__name__)

SCORERS = "encoder", "probe"
"""Names of the teacher's two parts, whose distance says where they doubt."""


class ValueDraws(Settings):
    """What is drawn.

    Raises:
        ConfigurationError: a value is out of range, or the cuts do not rise to under ``tokens``.
    """

    prompts: int = Field(96, ge=1, description="prompts of the first wave; notes come beside them")
    notes: float = Field(0.15, ge=0, description="instructions over notes, as a share of the prompts")
    instructions: int = Field(160, ge=0, description="harmless instructions of our own")
    harmful: int = Field(60, ge=0, description="harmful instructions of our own, which the teacher judges")
    again: float = Field(0.25, ge=0, le=1, description="share drawn again: where the scorers differ most")
    cuts: tuple[int, ...] = Field((8, 16, 32), min_length=1, description="response tokens of the beginnings")
    tokens: int = Field(64, ge=2, description="longest answer")
    continuations: int = Field(2, ge=2, description="continuations of each beginning")
    temperature: float = Field(0.8, gt=0, description="at which the base model draws")
    top_p: float = Field(0.95, gt=0, le=1, description="of the base model's draws")
    batch: int = Field(32, ge=1, description="prompts answered at the same time")
    seed: int = Field(0, ge=0, description="of prompts and draws")

    @model_validator(mode="after")
    def _rising(self) -> "ValueDraws":
        places = [0, *self.cuts, self.tokens]
        if any(before >= after for before, after in pairwise(places)):
            raise ValueError(f"cuts={self.cuts} must rise, over 0 and under tokens={self.tokens}")
        return self


def teacher_of(probe: Path) -> RewardModel:
    """The mean of the embedded encoder's and a probe's log-odds.

    Args:
        probe: its folder.

    Raises:
        ConfigurationError: there is no such probe, or the packages with the encoder's weights are missing.
    """
    scorers = load_reward(None), ProbeReward.load(probe)
    return WeightedSum(dict(zip(SCORERS, scorers, strict=True)), dict.fromkeys(SCORERS, 0.5))


def write_values(
    data: Path, model: ObservableModel, teacher: RewardModel, folder: Path, draws: ValueDraws
) -> int:
    """Draw answers in three waves, value their beginnings, and write the rows; returns how many.

    Args:
        data: data folder, for its training prompts.
        model: draws, and hands out its states.
        teacher: judges what was drawn; names its two scorers as ``SCORERS``.
        folder: receives the rows and the states.
        draws: how many, and how.

    Raises:
        ConfigurationError: data cannot be read, or the teacher reads no states of this model.
        GenerationError, ScoringError: an outage.
    """
    valuation = Valuation(model, teacher, draws)
    asked = value_questions(data, draws.prompts, draws.seed)
    first = _written(valuation.parts(asked, wave=0), folder, "first")
    second = _written(valuation.parts(_second_wave(asked, first, draws), wave=1), folder, "second")
    third = _written(valuation.parts(_instructions(draws), wave=2), folder, "third")
    return len(first) + len(second) + len(third)


def _written(parts: Iterable[ValueSet], folder: Path, wave: str) -> tuple[ValueRow, ...]:
    """The rows of all parts, each written as soon as it is there."""
    kept: list[ValueSet] = []
    for number, part in enumerate(parts):
        write_value_part(folder, f"{wave}-{number:05d}", part)
        kept.append(part)
    return joined_rows(kept)


def _second_wave(
    asked: Sequence[ValueQuestion], rows: Sequence[ValueRow], draws: ValueDraws
) -> list[ValueQuestion]:
    """Instructions over notes made of the harmless answers, and once more what the scorers differ about."""
    doubts = {row.prompt: row.doubt for row in rows if row.parent < 0}
    doubted = sorted(asked, key=lambda question: doubts[question.text], reverse=True)
    notes = over_notes(harmless_answers(rows), round(draws.notes * len(asked)), draws.seed)
    return [*notes, *doubted[: round(draws.again * len(asked))]]


def _instructions(draws: ValueDraws) -> list[ValueQuestion]:
    harmless = filled_forms("harmless_instructions", draws.instructions, draws.seed)
    harmful = filled_forms("harmful_instructions", draws.harmful, draws.seed)
    return [
        *(ValueQuestion.of(text, "instructions", safe=1.0) for text in harmless),
        *(ValueQuestion.of(text, "harmful instructions") for text in harmful),
    ]


@dataclass(slots=True)
class _Node:
    """A beginning, or an end."""

    text: str
    tokens: int
    states: HiddenStates
    parent: int
    finished: bool = False
    value: float = 0.0
    error: float = 0.0


@dataclass(slots=True)
class _Tree:
    """An answer that is being drawn, with the endings of its beginnings."""

    question: ValueQuestion
    session: ObservedSession
    nodes: list[_Node]
    place: int = 0
    """Number of the node that is gone on with."""
    ends: list[int] = field(default_factory=list)
    doubt: float = 0.0
    done: bool = False

    @property
    def tokens(self) -> int:
        return self.nodes[self.place].tokens

    def add(self, candidate: Candidate) -> None:
        tokens = self.tokens + len(candidate.token_ids)
        states = cast("HiddenStates", candidate.hidden)  # the session observes
        self.nodes.append(_Node(candidate.text, tokens, states, self.place, candidate.finished))

    def end(self, candidate: Candidate) -> None:
        self.ends.append(len(self.nodes))
        self.add(candidate)

    def go_on(self, candidate: Candidate) -> None:
        if candidate.finish is not None:
            self.done = True
            self.end(candidate)
            return
        self.add(candidate)
        self.place = len(self.nodes) - 1
        self.session.accept(candidate)


class Valuation:
    """Draws trees with a model and values them by a teacher.

    Args:
        model: draws, and hands out its states.
        teacher: judges endings.
        draws: how.

    Raises:
        ConfigurationError: the teacher reads no states of this model.
    """

    def __init__(self, model: ObservableModel, teacher: RewardModel, draws: ValueDraws) -> None:
        readers = [each for each in hidden_state_readers(teacher) if each.observes(model.identity)]
        self._layers = tuple(sorted({layer for reader in readers for layer in reader.hidden_layers}))
        if not self._layers:
            raise ConfigurationError(f"{teacher.name} reads no hidden states; a probe must be part of it")
        self._model, self._teacher, self._draws = model, teacher, draws

    def parts(self, questions: Sequence[ValueQuestion], wave: int) -> Iterator[ValueSet]:
        """Values of answers to all questions, some questions at a time.

        Args:
            questions: what to answer.
            wave: waves with other numbers draw other answers.
        """
        for start in range(0, len(questions), self._draws.batch):
            batch = questions[start : start + self._draws.batch]
            yield self._part(batch, address_hash(self._draws.seed, wave, start, 0))
            _LOG.info("wave %d: valued %d of %d answers", wave + 1, start + len(batch), len(questions))

    def _part(self, questions: Sequence[ValueQuestion], seed: int) -> ValueSet:
        seeds = (address_hash(seed, n, 0, 0) >> 1 for n in range(len(questions)))
        trees = [self._open(*opened) for opened in zip(questions, seeds, strict=True)]
        try:
            for step, cut in enumerate((*self._draws.cuts, self._draws.tokens)):
                self._grow([tree for tree in trees if not tree.done], step, cut)
        finally:
            for tree in trees:
                tree.session.close()
        for tree, rewards in zip(trees, self._judged(trees), strict=True):
            _value(tree, rewards)
        return _value_set(trees)

    def _open(self, question: ValueQuestion, seed: int) -> _Tree:
        draws = self._draws
        sampling = SamplingParams(
            max_tokens=draws.tokens, temperature=draws.temperature, top_p=draws.top_p, seed=seed
        )
        session = self._model.observe(question.prompt, sampling, self._layers)
        return _Tree(question, session, [_Node("", 0, session.hidden, parent=-1)])

    def _grow(self, trees: Sequence[_Tree], step: int, cut: int) -> None:
        """Endings of every beginning; then the next beginning, which stands for one of its continuations."""
        draws = self._draws
        last = cut == draws.tokens
        endings = draws.continuations - (not last)
        for tree, candidates in zip(trees, self._drawn(trees, step, draws.tokens, endings), strict=True):
            for candidate in candidates:
                tree.end(candidate)
        if last:
            return
        for tree, (candidate,) in zip(trees, self._drawn(trees, step, cut, 1, endings), strict=True):
            tree.go_on(candidate)

    def _drawn(
        self, trees: Sequence[_Tree], step: int, until: int, candidates: int, first: int = 0
    ) -> list[tuple[Candidate, ...]]:
        orders = [
            Order(
                session=tree.session,
                segment=step,
                first_attempt=first,
                candidates=candidates,
                cut=FixedLength(max_tokens=until - tree.tokens),
                ends_answer=until == self._draws.tokens,
                alive=lambda: True,
            )
            for tree in trees
        ]
        return [proposal.candidates for proposal in self._model.propose(orders)] if orders else []

    def _judged(self, trees: Sequence[_Tree]) -> Iterator[list[Reward]]:
        """The teacher's rewards of each tree's ends."""
        requests = [
            ScoreRequest(
                prompt=tree.question.prompt,
                response=tree.nodes[place].text,
                finished=tree.nodes[place].finished,
                run_id=f"values-{number}",
                tokens=tree.nodes[place].tokens,
                hidden=tree.nodes[place].states,
            )
            for number, tree in enumerate(trees)
            for place in tree.ends
        ]
        rewards = iter(score_checked(self._teacher, requests))
        for number, tree in enumerate(trees):
            yield [next(rewards) for _ in tree.ends]
            self._teacher.release(f"values-{number}")


def _value(tree: _Tree, rewards: Sequence[Reward]) -> None:
    """Give ends what the teacher says, and beginnings, last ones first, the mean of what continues them."""
    for place, reward in zip(tree.ends, rewards, strict=True):
        known = tree.question.safe
        tree.nodes[place].value = _probability(reward.value) if known is None else known
    first, second = ([reward.components[name] for reward in rewards] for name in SCORERS)
    tree.doubt = fmean(map(abs, map(sub, first, second)))
    for place in reversed(range(len(tree.nodes))):
        values = [node.value for node in tree.nodes if node.parent == place]
        if values:
            error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
            tree.nodes[place].value, tree.nodes[place].error = fmean(values), error


def _probability(reward: float) -> float:
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, reward))))


def _value_set(trees: Sequence[_Tree]) -> ValueSet:
    rows: list[ValueRow] = []
    features: list[Tensor] = []
    for tree in trees:
        first = len(rows)
        for node in tree.nodes:
            rows.append(
                ValueRow(
                    prompt=tree.question.text,
                    prefix=node.text,
                    tokens=node.tokens,
                    value=round(node.value, 5),
                    error=round(node.error, 5),
                    parent=node.parent,
                    doubt=round(tree.doubt, 3),
                    kind=tree.question.kind,
                ).moved(first)
            )
            features.append(features_of(node.states).half())
    return ValueSet(tuple(rows), torch.stack(features))
