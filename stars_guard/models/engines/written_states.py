"""Hidden states that vLLM writes into files while it draws (``extract_hidden_states``), and reading them.

vLLM's own connector writes one file for each request: the states of the chosen layers for every token that
the engine has read, and the ids of those tokens. Whoever reads a file removes it. Reading needs torch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from stars_guard.errors import GenerationError
from stars_guard.settings import Settings

if TYPE_CHECKING:
    import torch

_LOOK = 0.002
"""Seconds between two looks at whether a file is written."""
_STALE = 60.0
"""Seconds after which nobody comes any more for a file of an abandoned candidate."""


class WrittenStates(Settings):
    """Where an engine leaves the hidden states of what it reads, and of which layers."""

    folder: Path
    """Folder into which the engine writes, as this process sees it; a tmpfs that both can write, best."""
    layers: tuple[int, ...] = Field(min_length=2)
    """Layers that it writes, rising: 0, the embedding, by which the model is known, and those to be read."""
    timeout: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Most seconds until the file of a finished candidate is there."""

    @model_validator(mode="after")
    def _begin_with_the_embedding(self) -> WrittenStates:
        if list(self.layers) != sorted(set(self.layers)) or self.layers[0] != 0:
            raise ValueError(
                f"layers={list(self.layers)} must rise and begin with 0, the embedding, by which the model "
                "is known; start the engine with just these in eagle_aux_hidden_state_layer_ids"
            )
        return self


class StateFiles:
    """The files of one engine. Safe to use from several threads.

    Args:
        written: where they are, and what is in them.
        mark: part of the names of those files that belong to this process alone.
    """

    def __init__(self, written: WrittenStates, mark: str) -> None:
        self._written = written
        self._mark = mark

    def take(self, answer: Any, ids: Sequence[int], first: int, layers: Sequence[int]) -> torch.Tensor:
        """The states of a call, whose file is removed; ``[layers, tokens, hidden]`` in float32.

        Args:
            answer: of the engine to the call.
            ids: tokens that the engine has read for it.
            first: number of the first of them whose states are wanted.
            layers: whose states are wanted, of those that are written.

        Raises:
            GenerationError: there are none, or those of other tokens or layers.
        """
        place = self._place(answer)
        try:
            self._await(place)
            states = self._read(place, ids, first)
        finally:
            _remove(place)
        return states[:, [self._written.layers.index(layer) for layer in layers]].transpose(0, 1).float()

    def drop(self, answer: Any) -> None:
        """Remove the file of a call whose states nobody wants."""
        if isinstance(answer, dict) and answer.get("kv_transfer_params"):
            _remove(self._place(answer))

    def sweep(self, seconds: float = _STALE) -> None:
        """Remove files of this process that nobody came for in so many seconds."""
        before = time.time() - seconds
        for place in self._written.folder.glob(f"*{self._mark}*"):
            try:
                stale = place.stat().st_mtime <= before
            except FileNotFoundError:
                continue
            if stale:
                place.unlink(missing_ok=True)

    def _place(self, answer: Any) -> Path:
        """The file of a call: in the folder, whatever else the engine says."""
        given = answer.get("kv_transfer_params") if isinstance(answer, dict) else None
        path = given.get("hidden_states_path") if isinstance(given, dict) else None
        if not isinstance(path, str) or not (name := Path(path).name):
            raise GenerationError(
                "the engine hands out no hidden states; start it with extract_hidden_states (docs/rewards.md)"
            )
        return self._written.folder / name

    def _await(self, place: Path) -> None:
        """Until the engine has let go of the file's lock, which it holds before it answers.

        Raises:
            GenerationError: it takes too long.
        """
        until = time.monotonic() + self._written.timeout
        while not _is_written(_lock_of(place)):
            if time.monotonic() > until:
                raise GenerationError(
                    f"no hidden states came into {self._written.folder} within {self._written.timeout:g} s; "
                    "check that the engine writes into this very folder, and that it has room"
                )
            time.sleep(_LOOK)  # no event to wait for: another process writes

    def _read(self, place: Path, ids: Sequence[int], first: int) -> torch.Tensor:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(place, "pt") as file:
                tokens = file.get_tensor("token_ids").tolist()
                states: torch.Tensor = file.get_slice("hidden_states")[first:]
        except (OSError, SafetensorError) as error:
            raise GenerationError(
                f"the file of hidden states cannot be read ({type(error).__name__}); look into the engine's "
                "log"
            ) from error
        if tokens != list(ids) or len(states) != len(ids) - first:
            raise GenerationError("the hidden states are those of other tokens; check the engine's version")
        if states.dim() != 3 or states.shape[1] != len(self._written.layers):
            raise GenerationError(
                f"the hidden states are not those of layers {list(self._written.layers)}; state the layers "
                "that the engine was started with"
            )
        return states


def _lock_of(place: Path) -> Path:
    return place.with_name(place.name + ".lock")


def _is_written(lock: Path) -> bool:
    """Whether the engine has made a file's lock and let go of it."""
    import fcntl

    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError):
        return False
    return True


def _remove(place: Path) -> None:
    place.unlink(missing_ok=True)
    _lock_of(place).unlink(missing_ok=True)
