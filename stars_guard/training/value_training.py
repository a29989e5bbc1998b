"""Training a probe on as a value: what it says of a beginning becomes the expected safety of what follows.

A probe that knows labelled answers is the start. It goes on with values of beginnings as soft labels, is held
to what the start says of training answers so that it forgets nothing, and to its own forecasts: what it says
of a beginning is drawn to what it says of the continuations. Its linear part stays what it is.
"""

import copy
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, dropout

from stars_guard.loading.parts import load_model
from stars_guard.rewards.classifiers.probe import ProbeHead, ProbeReward
from stars_guard.settings import Settings
from stars_guard.training.card import read_run, write_value_run
from stars_guard.training.data import TrainingSet, load
from stars_guard.training.probe import (
    careful_texts,
    head_rewards,
    read_examples,
    standard,
    unstandardised,
)
from stars_guard.training.remarks import RemarkedAnswer, remarked_answers
from stars_guard.training.states import StateReader
from stars_guard.training.value_questions import put_over_notes
from stars_guard.training.value_rows import ValueSet, values_for

AGAIN_LENGTHS = (0, 8, 16, 32, 64)
"""Response tokens after which training answers are read again."""
NOTED_TOKENS = 512
"""Prompt tokens kept where a prompt is asked over notes."""


class ValueTraining(Settings):
    """What a probe is trained on with; the same settings, data and values give the same weights."""

    data_dir: Path = Field(description="data folder with train/, or file of plain rows")
    values: Path = Field(description="folder that `values` wrote")
    start: Path = Field(description="folder of the probe that goes on")
    output: Path = Field(description="folder that receives the new probe")
    model: str | None = Field(None, description="folder or id of the base model; None: the embedded one")
    answers: int = Field(4000, ge=1, description="training answers that are seen again")
    noted: int = Field(320, ge=0, description="of these, how many are seen over notes as well")
    prompt_tokens: int = Field(128, ge=1, description="prompt tokens kept of these (their end)")
    remarked: int = Field(1200, ge=0, description="answers to harmless prompts with a rude or kind remark")
    seed: int = Field(7, ge=0, description="seed of the choice of answers, of order and dropout")
    steps: int = Field(300, ge=1, description="steps of AdamW")
    batch: int = Field(128, ge=1, description="labelled answers per step, and beginnings")
    learning_rate: float = Field(3e-4, gt=0, description="peak rate of AdamW")
    keeping: float = Field(1e-3, ge=0, description="penalty on squared distance to the start's weights")
    dropout: float = Field(0.4, ge=0, lt=1, description="of what the network reads")
    value_weight: float = Field(1.0, ge=0, description="of the values' loss beside the memory's")
    coherence: float = Field(1.0, ge=0, description="weight of the temporal-difference loss")


@dataclass(frozen=True, slots=True)
class Beginnings:
    """Values as tensors.

    Attributes:
        features: of every row, ``[rows, features]`` in float16.
        values: of every row.
        parents: for each row that continues another, the place of that one.
        children: the places of those rows.
    """

    features: Tensor
    values: Tensor
    parents: Tensor
    children: Tensor

    @classmethod
    def of(cls, values: ValueSet) -> "Beginnings":
        """The tensors of rows and states."""
        pairs = [(row.parent, place) for place, row in enumerate(values.rows) if row.parent >= 0]
        return cls(
            features=values.features,
            values=torch.tensor([row.value for row in values.rows]),
            parents=torch.tensor([parent for parent, _ in pairs]),
            children=torch.tensor([place for _, place in pairs]),
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """What is to be said of texts: P(safe) ``[texts, lengths]``, where ``[.., features]`` is read."""

    features: Tensor
    said: Tensor


def train_values(config: ValueTraining) -> Path:
    """Train a saved probe on as a value and save the outcome; returns ``config.output``.

    Raises:
        ConfigurationError: data, values, probe or model cannot be read.
    """
    begun = time.monotonic()
    run, probe = read_run(config.start), ProbeReward.load(config.start)
    values = values_for(probe.settings, config.values)
    # The start's own rows, by the start's seed: others may be what the judge of harm learned from.
    rows_seed = run["config"]["seed"]
    data = seen_again(load(config.data_dir, contrast=None, seed=rows_seed), config.answers, config.seed)
    model, layers = load_model(config.model, {}), probe.settings.layers
    reader = StateReader(model, layers, config.prompt_tokens)
    examples = read_examples(reader, data, careful_texts(config.data_dir, rows_seed), AGAIN_LENGTHS)
    over = put_over_notes(data.texts, values.answered, config.noted, config.seed)
    over_reader = StateReader(model, layers, NOTED_TOKENS)
    noted = over_reader.features([text for _, text in over], AGAIN_LENGTHS)
    memories = remembered(probe.head, examples.features, [place for place, _ in over], noted)
    memories += _known(over_reader, remarked_answers(values.answered, config.remarked, config.seed))
    head = trained_on(probe.head, memories, examples.watched, values, config)
    ProbeReward(probe.settings, head).save(config.output)
    kept = config.model_dump(mode="json", exclude={"data_dir", "values", "start", "output", "model"})
    write_value_run(config.output, run, kept, values.kinds, time.monotonic() - begun)
    return config.output


def _known(reader: StateReader, answers: Sequence[RemarkedAnswer]) -> list[Memory]:
    """What is known of whole answers, if there are any."""
    if not answers:
        return []
    features = reader.features([answer.text for answer in answers], [None])
    return [Memory(features, torch.tensor([[answer.safe] for answer in answers]))]


def remembered(start: ProbeHead, texts: Tensor, places: Sequence[int], noted: Tensor) -> list[Memory]:
    """What the start says of texts, also where they are asked over notes: notes are not to move a probe.

    Args:
        start: the head that is to be remembered.
        texts: features, ``[texts, lengths, features]``.
        places: which of the texts are seen over notes.
        noted: features of those; none leaves the texts alone.
    """
    said = torch.sigmoid(head_rewards(start, texts))
    alone = Memory(texts, said)
    return [alone, Memory(noted, said[torch.tensor(places)])] if places else [alone]


def seen_again(data: TrainingSet, count: int, seed: int) -> TrainingSet:
    """Answers whose texts are among so many, without preferences.

    Args:
        data: all of them.
        count: texts wanted; all where there are fewer.
        seed: of the choice.
    """
    texts = data.texts
    random.Random(seed).shuffle(texts)
    chosen = set(texts[:count])
    answers = tuple(answer for answer in data.answers if (answer.prompt, answer.response) in chosen)
    return replace(data, answers=answers, preferences=())


def trained_on(
    start: ProbeHead, memories: Sequence[Memory], watched: Tensor, values: ValueSet, config: ValueTraining
) -> ProbeHead:
    """The head that goes on from another; as many watched answers are under 0 as were before.

    Args:
        start: the head; it is not changed.
        memories: texts, of which the new head is to say what is remembered; the first are as they were.
        watched: places of harmless texts among those of the first, few of which may be flagged.
        values: of beginnings.
        config: how.
    """
    torch.manual_seed(config.seed)
    head = _steps(start, memories, Beginnings.of(values), config)
    if len(watched):
        texts = memories[0].features[watched][:, 1:]
        flagged = (head_rewards(start, texts) < 0).float().mean()
        with torch.no_grad():
            head.linear.bias.sub_(head_rewards(head, texts).quantile(flagged))
    return head


def _steps(
    start: ProbeHead, memories: Sequence[Memory], beginnings: Beginnings, config: ValueTraining
) -> ProbeHead:
    """All steps, from the start's weights."""
    center, scale = standard(memories[0].features)
    head = _standardised(start, center, scale)
    kept = head.inner.weight.detach().clone()
    learned = [*head.inner.parameters(), *head.outer.parameters(), head.linear.bias]
    optimiser = torch.optim.AdamW(learned, lr=config.learning_rate, weight_decay=0)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=config.steps + 1)
    linear = start.linear.weight.detach()[0]

    def said(features: Tensor) -> Tensor:
        raw = features.float()
        curved = head.curved(dropout((raw - center) / scale, config.dropout))
        return curved + raw @ linear + head.linear.bias

    for _ in range(config.steps):
        loss = torch.stack([_memory_loss(said, memory, config) for memory in memories]).sum()
        loss = loss + config.value_weight * _value_loss(said, beginnings, config)
        loss = loss + config.coherence * _coherence_loss(said, beginnings, config)
        loss = loss + config.keeping * (head.inner.weight - kept).square().sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        rate.step()
    return unstandardised(head, center, scale)


def _memory_loss(said: Callable[[Tensor], Tensor], memory: Memory, config: ValueTraining) -> Tensor:
    """What the start says, and not labels: those know little of what the linear part adds, which is what
    people preferred, and the network would unlearn it."""
    texts, lengths = (torch.randint(count, (config.batch,)) for count in memory.said.shape)
    return binary_cross_entropy_with_logits(
        said(memory.features[texts, lengths]), memory.said[texts, lengths]
    )


def _value_loss(said: Callable[[Tensor], Tensor], beginnings: Beginnings, config: ValueTraining) -> Tensor:
    drawn = torch.randint(len(beginnings.values), (config.batch,))
    return binary_cross_entropy_with_logits(said(beginnings.features[drawn]), beginnings.values[drawn])


def _coherence_loss(
    said: Callable[[Tensor], Tensor], beginnings: Beginnings, config: ValueTraining
) -> Tensor:
    """What is said of beginnings against what is said of their continuations, which is not moved."""
    pairs = torch.randint(len(beginnings.parents), (config.batch,))
    with torch.no_grad():
        forecast = torch.sigmoid(said(beginnings.features[beginnings.children[pairs]]))
    return binary_cross_entropy_with_logits(said(beginnings.features[beginnings.parents[pairs]]), forecast)


@torch.no_grad()
def _standardised(head: ProbeHead, center: Tensor, scale: Tensor) -> ProbeHead:
    """A copy that computes the same from standardised features, but for its linear part."""
    changed = copy.deepcopy(head)
    changed.inner.bias.add_(changed.inner.weight @ center)
    changed.inner.weight.mul_(scale)
    return changed.requires_grad_(True)
