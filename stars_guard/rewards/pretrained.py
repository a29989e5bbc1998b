"""Reward models from a folder, the local cache or the hub, with weights that were really trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from stars_guard.errors import ConfigurationError
from stars_guard.http.hub import SHARED_OPTIONS, pretrained
from stars_guard.http.load_faults import check_complete, check_tokenizer, load_failures


def load_pretrained(
    auto_class: Any,
    kind: str,
    where: str,
    dtype: str | torch.dtype | None,
    device: str | torch.device | None,
    options: dict[str, Any],
) -> tuple[Any, Any]:
    """Model and tokenizer.

    Args:
        auto_class: of transformers, such as ``AutoModelForSequenceClassification``.
        kind: what that is, for error messages.
        where: a folder, or a model id.
        dtype: precision of the weights; None is the one they were saved in.
        device: where the model goes; None is a GPU if there is one, unless ``options`` has a ``device_map``.
        options: passed on to ``from_pretrained``; a hub id has its ``revision`` there.

    Raises:
        ConfigurationError: nothing usable is there, or some weights are missing, or not used by the head.
    """
    if where.startswith((".", "/", "~")) and not Path(where).expanduser().is_dir():
        raise ConfigurationError(f"the folder {where} does not exist; give a folder with a saved {kind}")
    if where.startswith("~"):
        where = str(Path(where).expanduser())
    precision = {} if dtype is None else {"dtype": dtype}
    what, placed = f"loading the {kind} {where!r} failed", {"dtype": dtype, "device": device}
    with load_failures(what, where, placed), pretrained(where, options) as options:
        tokenizer_options = {key: options[key] for key in SHARED_OPTIONS if key in options}
        tokenizer = AutoTokenizer.from_pretrained(where, **tokenizer_options)
        model, report = auto_class.from_pretrained(where, output_loading_info=True, **precision, **options)
        check_tokenizer(tokenizer, where)
        check_complete(report, where, kind)
        _check_head(report, where, type(model).__name__)
        if device is not None or "device_map" not in options:
            model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model, tokenizer


def _check_head(report: Mapping[str, Any], where: str, kind: str) -> None:
    unused = [key for key in report.get("unexpected_keys", ()) if key.startswith("score.")]
    if unused:
        raise ConfigurationError(
            f"{where} has the weights {sorted(unused)} in its head, which {kind} leaves out; "
            "its rewards would be wrong"
        )
