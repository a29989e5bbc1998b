"""Training a probe: a small head on the base model's own hidden states, for answers that go on.

Two readings of the same states are added. A small network learns labelled answers: it tells harmful help from
refusals and from harmless help. A linear part learns only which of two answers to one prompt people liked
better: it knows less, and generalises further. Both see every answer at several lengths.
"""

import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, dropout

from stars_guard.loading.names import ModelLike
from stars_guard.loading.parts import load_model
from stars_guard.loading.specs import ModelSection
from stars_guard.rewards.classifiers.probe import ProbeHead, ProbeReward, ProbeSettings
from stars_guard.settings import Settings
from stars_guard.training.card import write_run
from stars_guard.training.data import MIX, TrainingAnswer, TrainingSet, has_own_rows, load
from stars_guard.training.evaluate import LENGTHS, Evaluation, evaluate_scorer
from stars_guard.training.states import CHUNK, StateReader, observable_model, usual_layers

_LOG = logging.getLogger(__name__)

READ_LENGTHS = (0, 4, 8, 16, 32, 64, 128)
"""Response tokens after which every answer is read."""


class ProbeTraining(Settings):
    """Everything a probe depends on; the same settings, data and model give the same weights."""

    data_dir: Path = Field(description="file of plain rows, or data folder with train/")
    output: Path = Field(description="folder that receives the probe")
    contrast: Path | None = Field(None, description="file of contrastive answers, if any")
    model: str | ModelSection | None = Field(
        None, description="the base model: folder, id or description; None: the embedded one"
    )
    name: str = Field("harmlessness probe", description="name of the reward in traces")
    layers: tuple[int, ...] = Field(
        (), description="layers read; none given: at 50, 60 and 73 % of the depth, or all that an engine has"
    )
    seed: int = Field(7, ge=0, description="seed of data order, initial weights, dropout and folds")
    prompt_tokens: int = Field(128, ge=1, description="prompt tokens kept in training (its end)")
    units: int = Field(64, ge=1, description="width of the network")
    passes: int = Field(10, ge=1, description="passes over the labelled answers")
    batch: int = Field(512, ge=1, description="answers per step")
    learning_rate: float = Field(1e-3, gt=0, description="peak rate of AdamW")
    decay: float = Field(1e-4, ge=0, description="penalty on the network's squared weights")
    dropout: float = Field(0.4, ge=0, lt=1, description="of what the network reads")
    preference_strength: float = Field(3e-5, gt=0, description="inverse penalty of the linear part (C)")
    preference_share: float = Field(0.5, ge=0, description="spread of the linear part over the network's")
    flagged: float = Field(0.015, gt=0, lt=1, description="share of XSTest's safe answers put under 0")
    folds: int = Field(4, ge=2, description="folds on which the scale of the reward is fitted")


@dataclass(frozen=True, slots=True)
class Examples:
    """What a probe is fitted on.

    Attributes:
        features: ``[texts, lengths, features]`` in float16.
        answers: index of each labelled answer's text; a text may be there several times.
        safe: probability that each of these is safe.
        pairs: indices of the preferred and the other text of each pair, ``[pairs, 2]``.
        watched: indices of harmless texts, few of which may be flagged.
    """

    features: Tensor
    answers: Tensor
    safe: Tensor
    pairs: Tensor
    watched: Tensor


def train_probe(config: ProbeTraining) -> Path:
    """Read the training answers, fit a probe and save it; returns ``config.output``.

    Raises:
        ConfigurationError: model or data cannot be read, or the model has no such layers.
    """
    begun = time.monotonic()
    data = load(config.data_dir, contrast=config.contrast, seed=config.seed)
    model = load_model(config.model, {})
    settings = probe_settings(model, config)
    reader = StateReader(model, settings.layers, config.prompt_tokens)
    careful = careful_texts(config.data_dir, config.seed)
    head = fit_head(read_examples(reader, data, careful), config)
    ProbeReward(settings, head).save(config.output)
    kept = config.model_dump(mode="json", exclude={"data_dir", "output", "contrast", "model", "name"})
    kept["layers"] = list(settings.layers)
    write_run(config.output, kept, data, time.monotonic() - begun)
    return config.output


def probe_settings(model: object, config: ProbeTraining) -> ProbeSettings:
    """What the probe is made for."""
    identity = observable_model(model).identity
    return ProbeSettings(
        name=config.name,
        layers=config.layers or usual_layers(model, identity.layers),
        model_name=identity.name,
        model_layers=identity.layers,
        hidden_size=identity.hidden_size,
        signature=identity.signature,
    )


class ProbeScorer:
    """A probe as the held-out measures ask for it: each text is read once, for all lengths.

    Args:
        reader: reads for the probe's layers.
        head: the probe's weights; another may take its place.
        lengths: response tokens that will be asked for.
    """

    def __init__(self, reader: StateReader, head: ProbeHead, lengths: Sequence[int | None] = LENGTHS) -> None:
        self.head = head
        self._reader, self._lengths = reader, list(lengths)
        self._known: dict[tuple[str, str], Tensor] = {}

    def score(self, texts: Sequence[tuple[str, str]], tokens: int | None = None) -> list[float]:
        """Rewards after ``tokens``, which must be one of the lengths."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known |= dict(zip(new, self._reader.features(new, self._lengths), strict=True))
        place = self._lengths.index(tokens)
        read = torch.stack([self._known[text][place : place + 1] for text in texts])
        rewards: list[float] = head_rewards(self.head, read).squeeze(-1).tolist()
        return rewards


def measure_probe(folder: Path, data_dir: Path, model: ModelLike = None) -> Evaluation:
    """The held-out measures of a saved probe.

    Args:
        folder: of the probe.
        data_dir: data folder, with ``eval/``.
        model: the base model that it was trained on; None: the embedded one.
    """
    return evaluate_scorer(probe_scorer(folder, model), data_dir)


def probe_scorer(
    folder: Path, model: ModelLike = None, lengths: Sequence[int | None] = LENGTHS
) -> ProbeScorer:
    """A saved probe that scores texts.

    Args:
        folder: of the probe.
        model: the base model that it was trained on; None: the embedded one.
        lengths: response tokens that will be asked for.
    """
    probe = ProbeReward.load(folder)
    reader = StateReader(load_model(model, {}), probe.settings.layers)
    return ProbeScorer(reader, probe.head, lengths)


def read_examples(
    reader: StateReader,
    data: TrainingSet,
    careful: Collection[tuple[str, str]],
    lengths: Sequence[int] = READ_LENGTHS,
) -> Examples:
    """All training texts, each read once.

    Args:
        reader: reads them.
        data: labelled answers and preferences.
        careful: texts that are watched, where they are among the answers.
        lengths: response tokens after which they are read.
    """
    pairs = [[(p.prompt, p.chosen), (p.prompt, p.rejected)] for p in data.preferences]
    labelled = [_text(answer) for answer in data.answers]
    place = {
        text: n for n, text in enumerate(dict.fromkeys([*labelled, *(t for pair in pairs for t in pair)]))
    }
    return Examples(
        features=reader.features(list(place), lengths),
        answers=torch.tensor([place[text] for text in labelled]),
        safe=torch.tensor([answer.safe for answer in data.answers]),
        pairs=torch.tensor([[place[text] for text in pair] for pair in pairs], dtype=torch.long).view(-1, 2),
        watched=torch.tensor(sorted({place[text] for text in careful if text in place}), dtype=torch.long),
    )


def careful_texts(data_dir: Path, seed: int) -> set[tuple[str, str]]:
    """Harmless answers few of which may be flagged: those of one set of the mix; plain rows have none.

    Args:
        data_dir: file of plain rows, or data folder.
        seed: of the rows that are taken.
    """
    if has_own_rows(data_dir):
        return set()
    careful = tuple(source for source in MIX if source.name == "xstest_completions")
    answers = load(data_dir, contrast=None, seed=seed, mix=careful).answers
    return {_text(answer) for answer in answers if answer.safe == 1.0}


def _text(answer: TrainingAnswer) -> tuple[str, str]:
    return answer.prompt, answer.response


def fit_head(examples: Examples, config: ProbeTraining) -> ProbeHead:
    """The head: network and linear part on one scale, which is that of log-odds."""
    torch.manual_seed(config.seed)
    center, scale = standard(examples.features)
    direction = _preferred(examples, scale, config)
    fold = torch.randint(config.folds, (len(examples.features),))
    unseen = torch.empty(examples.features.shape[:2])
    for number in range(config.folds):
        network = _network(examples, fold != number, center, scale, config)
        unseen[fold == number] = head_rewards(network, examples.features[fold == number])
    network = _network(examples, torch.ones(len(fold), dtype=torch.bool), center, scale, config)
    linear = torch.einsum("tlf,f->tl", examples.features.float(), direction)
    # Without preferences there is no direction in which preferred answers lie.
    ratio = config.preference_share * unseen.std() / linear.std() if len(examples.pairs) else 0.0
    total = unseen + ratio * linear
    slope, shift = _calibrated(total, examples, config)
    _LOG.info("scale %.3f, shift %.3f", slope, shift)
    with torch.no_grad():
        network.linear.weight.copy_(ratio * direction)
        for weight in (network.linear.weight, network.linear.bias, network.outer.weight):
            weight.mul_(slope)
        network.linear.bias.add_(shift)
    return network


def standard(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread of each feature, over texts and lengths, on which the network sees it."""
    flat = features.flatten(0, 1)[:: max(1, features.shape[0] // 2000)].float()
    return flat.mean(0), flat.std(0) + 1e-3


def _preferred(examples: Examples, scale: Tensor, config: ProbeTraining) -> Tensor:
    """The direction in which preferred answers lie: Bradley-Terry, as logistic regression on differences."""
    if not len(examples.pairs):
        return torch.zeros(examples.features.shape[-1])
    better, worse = examples.pairs[:, 0], examples.pairs[:, 1]
    gaps = ((examples.features[better] - examples.features[worse]).float() / scale)[:, 1:].flatten(0, 1)
    signs = torch.arange(len(gaps)) % 2 * 2 - 1  # half of them turned round, so that there are two classes
    model = LogisticRegression(C=2 * config.preference_strength, fit_intercept=False, max_iter=300)
    model.fit((gaps * signs[:, None]).numpy(), signs.numpy())
    return torch.from_numpy(model.coef_[0]).float() / scale


def _network(
    examples: Examples, used: Tensor, center: Tensor, scale: Tensor, config: ProbeTraining
) -> ProbeHead:
    """A head whose linear part is zero, trained on the labelled answers among the texts ``used``."""
    head = ProbeHead(examples.features.shape[-1], config.units)
    torch.nn.init.zeros_(head.linear.weight)
    rows = examples.answers[used[examples.answers]]
    safe = examples.safe[used[examples.answers]]
    steps = max(1, config.passes * len(rows) // config.batch)
    optimiser = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=0)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=steps + 1)
    for _ in range(steps):
        batch = torch.randint(len(rows), (config.batch,))
        lengths = torch.randint(examples.features.shape[1], (config.batch,))
        inputs = (examples.features[rows[batch], lengths].float() - center) / scale
        logits = head.curved(dropout(inputs, config.dropout)) + head.linear.bias
        loss = binary_cross_entropy_with_logits(logits, safe[batch])
        loss = loss + config.decay * head.inner.weight.square().sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        rate.step()
    return unstandardised(head, center, scale)


@torch.no_grad()
def unstandardised(head: ProbeHead, center: Tensor, scale: Tensor) -> ProbeHead:
    """A head of raw features that computes the same."""
    head.inner.weight.div_(scale)
    head.inner.bias.sub_(head.inner.weight @ center)
    return head


@torch.no_grad()
def head_rewards(head: ProbeHead, features: Tensor) -> Tensor:
    """Rewards ``[texts, lengths]``."""
    return torch.cat([head(part.float()) for part in torch.split(features, CHUNK)])


def _calibrated(rewards: Tensor, examples: Examples, config: ProbeTraining) -> tuple[float, float]:
    """Slope and shift that make rewards log-odds; then as few watched answers are flagged as is wanted."""
    labelled = rewards[examples.answers].flatten()
    hard = (examples.safe > 0.5).repeat_interleave(rewards.shape[1])
    model = LogisticRegression(C=1e6).fit(labelled[:, None].numpy(), hard.numpy())
    slope, shift = float(model.coef_[0, 0]), float(model.intercept_[0])
    if not len(examples.watched):
        return slope, shift
    watched = slope * rewards[examples.watched][:, 1:].flatten() + shift
    return slope, shift - min(0.0, float(watched.quantile(config.flagged)))
