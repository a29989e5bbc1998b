"""Fine-tuning by trl and peft: the baselines that a guard is compared with, and a guard put into weights.

LoRA on every linear layer, merged into the base, so that an ordinary folder of transformers comes out that
costs what the base costs. The defaults suit a model of 135 million parameters on two cores.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from peft import LoraConfig
from pydantic import Field
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from stars_guard import embedded
from stars_guard.errors import ConfigurationError
from stars_guard.models.chat import ChatTemplate, detect_dialect
from stars_guard.settings import Record, Settings
from stars_guard.training.preference_data import as_dataset, is_text, read_preferences
from stars_guard.training.preferences import PreferenceRow

FinetuneMethod: TypeAlias = Literal["sft", "dpo"]
"""Supervised fine-tuning on the chosen answers, or direct preference optimisation on both."""

_LOG = logging.getLogger(__name__)
_LOGS = 20
"""How often a training says how far it is."""
_LORA_ALPHA = 2
"""Scale of the adapter, in units of its rank."""


class FinetuneConfig(Settings):
    """A fine-tuning, complete."""

    method: FinetuneMethod
    data: str
    """Preferences, as :func:`stars_guard.training.preference_data.read_preferences` takes them."""
    output: Path
    """Folder that receives the model."""
    model: Path | None = None
    """Folder of the base; None: the embedded model."""
    steps: int = Field(default=100, ge=1)
    """Steps of the optimiser."""
    batch: int = Field(default=4, ge=1)
    """Rows in a step."""
    learning_rate: float | None = Field(default=None, gt=0)
    """At its peak; None: 2e-4 for SFT and 1e-4 for DPO."""
    max_tokens: int = Field(default=256, ge=8)
    """Longest row, prompt and answer together; what is longer is cut at its end."""
    rank: int = Field(default=16, ge=1)
    """Rank of the adapter."""
    beta: float = Field(default=0.1, gt=0)
    """DPO: how much it costs to leave the base."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the adapter's first weights and of the order of rows."""


class FinetuneSummary(Record):
    """What a fine-tuning did."""

    method: FinetuneMethod
    folder: str
    rows: int
    """Rows that were trained on."""
    left_out: int
    """Rows that were not: a prompt alone is too long, or, for SFT, the chosen answer has no end."""
    steps: int
    first_loss: float
    """Mean loss of the first fifth of the steps."""
    last_loss: float
    """Mean loss of the last fifth; a step's own depends on which rows it happens to have."""
    seconds: float


class Trainee(NamedTuple):
    """What is trained.

    Attributes:
        model: the base, loaded.
        tokenizer: its tokenizer.
        dtype: precision of its weights on disk.
    """

    model: Any
    tokenizer: Any
    dtype: torch.dtype


def finetune(config: FinetuneConfig) -> FinetuneSummary:
    """Train and write the folder of the merged model.

    Raises:
        ConfigurationError: the base or the data cannot be used.
    """
    begun = time.monotonic()
    rows = read_preferences(config.data)
    trainee = _loaded(config.model or embedded.chat_model(), rows)
    progress = _Progress(config)
    with tempfile.TemporaryDirectory() as scratch, _renamed_attributes():
        trainer = _TRAINERS[config.method](trainee, rows, config, scratch, progress)
        trainer.remove_callback(PrinterCallback)  # stdout is for the summary
        trainer.train()
    _save(trainer.model, trainee, config.output)
    used = len(trainer.train_dataset)
    return FinetuneSummary(
        method=config.method,
        folder=str(config.output),
        rows=used,
        left_out=len(rows) - used,
        steps=config.steps,
        first_loss=fmean(progress.losses[: progress.share]),
        last_loss=fmean(progress.losses[-progress.share :]),
        seconds=time.monotonic() - begun,
    )


@contextmanager
def _renamed_attributes() -> Iterator[None]:
    """Without the warning that peft reads an attribute that transformers has renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _loaded(base: Path, rows: Sequence[PreferenceRow]) -> Trainee:
    if not (base / "config.json").is_file():
        raise ConfigurationError(f"no language model in {base}: it must hold config.json and weights")
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    if not is_text(rows[0]) and not tokenizer.chat_template:
        raise ConfigurationError(f"{base} has no chat template; give preferences whose sides are plain texts")
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype="auto", trust_remote_code=False)
    dtype = model.dtype
    # Adapters are merged in single precision, and rounded once; large models have no room for that.
    return Trainee(model if torch.cuda.is_available() else model.to(torch.float32), tokenizer, dtype)


def _sft(
    trainee: Trainee,
    rows: Sequence[PreferenceRow],
    config: FinetuneConfig,
    scratch: str,
    progress: TrainerCallback,
) -> Any:
    """A trainer on the chosen answers; those without an end would be taught to end where they were cut."""
    ended = [row for row in rows if row.chosen_ends]
    if not ended:
        raise ConfigurationError(
            f"{config.data} has no chosen answer that ends; use dpo, which goes without ends"
        )
    dataset = as_dataset(ended).select_columns(["prompt", "chosen"]).rename_column("chosen", "completion")
    return SFTTrainer(
        model=trainee.model,
        args=SFTConfig(completion_only_loss=True, **_arguments(config, scratch, 2e-4)),
        train_dataset=dataset,
        processing_class=trainee.tokenizer,
        peft_config=_lora(config),
        callbacks=[progress],
    )


def _dpo(
    trainee: Trainee,
    rows: Sequence[PreferenceRow],
    config: FinetuneConfig,
    scratch: str,
    progress: TrainerCallback,
) -> Any:
    """A trainer on both answers, against the base, which is the model without its adapter."""
    ends = _end_ids(trainee.tokenizer)
    tokenizer = trainee.tokenizer
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return DPOTrainer(
        model=trainee.model,
        # The collator needs the columns that say where answers end.
        args=DPOConfig(beta=config.beta, remove_unused_columns=False, **_arguments(config, scratch, 1e-4)),
        data_collator=OpenEndCollator(pad_token_id=padding, max_length=config.max_tokens, end_ids=ends),
        train_dataset=as_dataset(rows),
        processing_class=tokenizer,
        peft_config=_lora(config),
        callbacks=[progress],
    )


_TRAINERS: Mapping[FinetuneMethod, Callable[..., Any]] = {"sft": _sft, "dpo": _dpo}


@dataclass
class OpenEndCollator(DataCollatorForPreference):
    """Batches of preferences in which answers that go on have no end.

    trl closes every answer. Of one that was cut after a segment, that end would be learnt, too.

    Attributes:
        end_ids: tokens that end an answer.
    """

    end_ids: frozenset[int] = frozenset()

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch.

        Args:
            examples: rows with ``prompt_ids``, ``chosen_ids``, ``rejected_ids`` and whether the two end.
        """
        made: dict[str, Any] = super().torch_call([self._opened(example) for example in examples])
        return made

    def _opened(self, example: Mapping[str, Any]) -> dict[str, Any]:
        sides = [side for side in ("chosen", "rejected") if not example[f"{side}_ends"]]
        return {
            **example,
            **{f"{side}_ids": self._without_end(example[f"{side}_ids"]) for side in sides},
        }

    def _without_end(self, ids: list[int]) -> list[int]:
        last = next((place for place in reversed(range(len(ids))) if ids[place] in self.end_ids), len(ids))
        return ids[:last]


class _Progress(TrainerCallback):
    """Keeps the losses, and says how far a training is."""

    def __init__(self, config: FinetuneConfig) -> None:
        self._steps = config.steps
        self.losses: list[float] = []

    @property
    def share(self) -> int:
        """How many of the losses are a fifth."""
        return max(1, len(self.losses) // 5)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        """Take note of a loss."""
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))
            _LOG.info("step %d of %d: loss %.3f", state.global_step, self._steps, self.losses[-1])


def _arguments(config: FinetuneConfig, scratch: str, learning_rate: float) -> dict[str, Any]:
    """What both trainers are told."""
    return {
        "output_dir": scratch,
        "max_steps": config.steps,
        "per_device_train_batch_size": config.batch,
        "learning_rate": config.learning_rate or learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": min(10, config.steps // 10),
        "max_length": config.max_tokens,
        "seed": config.seed,
        "bf16": torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        "activation_checkpointing": False,  # memory is not what a small model lacks
        "dataloader_pin_memory": torch.cuda.is_available(),
        "logging_steps": max(1, config.steps // _LOGS),
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def _lora(config: FinetuneConfig) -> LoraConfig:
    return LoraConfig(
        r=config.rank,
        lora_alpha=_LORA_ALPHA * config.rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _end_ids(tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer: the end of text, and what the chat template ends a turn with."""
    ends = frozenset({tokenizer.eos_token_id})
    if not tokenizer.chat_template:
        return ends
    dialect = detect_dialect(tokenizer)
    return ends | ChatTemplate(tokenizer, "it", dialect, {}, sanitize_control_tokens=False).turn_ends()


def _save(trained: Any, trainee: Trainee, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    merged = trained.merge_and_unload().to(trainee.dtype)
    merged.save_pretrained(output)
    trainee.tokenizer.save_pretrained(output)
