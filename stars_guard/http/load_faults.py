"""Failures of loading from a folder or a hub, as errors that say what to do."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stars_guard.errors import ConfigurationError

_POINTER = b"version https://git-lfs"
"""How a file begins that Git LFS left in the place of a large one."""
_DAMAGED = ("SafetensorError", "UnpicklingError", "EOFError", "BadZipFile")
_DAMAGED_WORDS = ("PytorchStreamReader", "deserializing header", "unexpected EOF", "not a valid JSON file")
_MEMORY_WORDS = ("out of memory", "not enough memory", "can't allocate memory")
_DEVICE_WORDS = ("cuda", "device string", "invalid device", "no accelerator", "nvidia driver", "mps backend")
_AWAY_WORDS = ("connect", "offline", "couldn't find them in the cached files", "not a local folder")
_TOKENIZER_FILES = ("tokenizer.*", "vocab.*", "merges.txt", "*.model", "*.tiktoken", "tekken.json")


@contextmanager
def load_failures(begin: str, where: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Raise whatever goes wrong inside as a ConfigurationError that says why and what to do.

    Args:
        begin: beginning of the message: what was being loaded.
        where: folder or hub id.
        options: how it is loaded, of which ``device`` and ``dtype`` are looked at.
    """
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigurationError(f"{begin}: {words[0]} ({_remedy(error, where, options)})") from error


def check_tokenizer(tokenizer: Any, where: str) -> None:
    """Refuse a tokenizer that was made of nothing, as some kinds are where their files are missing.

    Raises:
        ConfigurationError: it knows no token but its special ones.
    """
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ConfigurationError(f"{where} has no vocabulary: {_NO_TOKENIZER}")


def check_complete(report: Mapping[str, Any], where: str, kind: str) -> None:
    """Refuse a model that some weights are missing of, or have another size, whose values would be random.

    Args:
        report: what ``from_pretrained`` says of the weights.
        where: folder or hub id.
        kind: of the model, for the message.

    Raises:
        ConfigurationError: naming the first of these weights.
    """
    for key, saved, expected in sorted(report.get("mismatched_keys", ())):
        raise ConfigurationError(
            f"{where} is not a trained {kind}: {key} has the size {tuple(saved)} there, and config.json asks "
            f"for {tuple(expected)}; take both files from one place"
        )
    if missing := sorted(report["missing_keys"]):
        more = f" and {len(missing) - 3} others" if len(missing) > 3 else ""
        raise ConfigurationError(
            f"{where} is not a trained {kind}: it has no weights for {missing[:3]}{more}; "
            "their values would be random"
        )


_NO_TOKENIZER = "the files of its tokenizer are missing, such as tokenizer.json: put them into the folder"
_USUAL = (
    "give a folder with config.json, weights and tokenizer, or a hub id that can be reached; "
    "check dtype and device"
)


def _remedy(error: Exception, where: str, options: Mapping[str, Any]) -> str:
    folder = Path(where).expanduser()
    # Not by the path's own method, which raises where the name is too long for one.
    of_place = _of_folder(folder, error) if os.path.isdir(folder) else _of_hub(error)
    return of_place or _of_machine(error, options) or _USUAL


def _of_folder(folder: Path, error: Exception) -> str | None:
    files = sorted(file for file in folder.iterdir() if file.is_file())
    if pointers := [file.name for file in files if _begins_as_pointer(file)]:
        return (
            f"{pointers[0]} is a pointer of Git LFS and not the file itself: run `git lfs pull` in the "
            "folder, or download the model anew"
        )
    if missing := _missing_shards(files):
        return f"files of weights are missing ({len(missing)}), such as {missing[0]}: download the model anew"
    if type(error).__name__ in _DAMAGED or any(word in str(error) for word in _DAMAGED_WORDS):
        return "a file in the folder is cut or damaged: download the model anew"
    if "tokenizer" in str(error) and not any(any(folder.glob(name)) for name in _TOKENIZER_FILES):
        return _NO_TOKENIZER
    return None


def _begins_as_pointer(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(len(_POINTER)) == _POINTER


def _missing_shards(files: list[Path]) -> list[str]:
    """Files of weights that an index names and that are not there."""
    names: set[str] = set()
    for file in files:
        if file.name.endswith(".index.json"):
            try:
                names |= set(json.loads(file.read_bytes())["weight_map"].values())
            except (ValueError, KeyError, AttributeError, TypeError):
                return [file.name]  # the index itself is as good as missing
    return sorted(names - {file.name for file in files})


def _of_hub(error: Exception) -> str | None:
    if not any(word in str(error) for word in _AWAY_WORDS):
        return None
    return (
        "there is no folder of this name, nothing of it is in the hub's cache, and the hub cannot be "
        "reached: check the name, or download the model where there is a network and give its folder"
    )


def _of_machine(error: Exception, options: Mapping[str, Any]) -> str | None:
    words, dtype, device = str(error).lower(), options.get("dtype"), options.get("device")
    if isinstance(error, MemoryError) or any(word in words for word in _MEMORY_WORDS):
        return (
            "the memory does not hold it: take a smaller model, dtype='bfloat16', a quantization_config, "
            "or device_map='auto'"
        )
    if isinstance(dtype, str) and dtype != "auto" and not _is_dtype(dtype):
        return f"dtype={dtype!r} is none of torch: take auto, float32, bfloat16 or float16"
    if any(word in words for word in _DEVICE_WORDS):
        named = "the device" if device is None else f"device={device!r}"
        return (
            f"{named} is not there for this torch: leave it out to take the best there is, say device='cpu', "
            "or install torch for that device"
        )
    return None


def _is_dtype(name: str) -> bool:
    torch: Any = sys.modules.get("torch")  # whoever loads weights has imported it
    return torch is None or isinstance(getattr(torch, name, None), torch.dtype)
