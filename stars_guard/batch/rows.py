"""What a batch reads: one prompt a line, with an id that its answer and its seed go by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from stars_guard.algorithm.config import SamplingParams
from stars_guard.errors import ConfigurationError
from stars_guard.prompts import AskedSettings
from stars_guard.settings import parsed_json

_SAME_NAME = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop", "stop_token_ids")
_RENAMED = {"max_tokens": "max_tokens", "max_completion_tokens": "max_tokens"}
_NO_MATTER = ("model", "user", "metadata", "n", "stream", "store")
"""Fields of a request body that change nothing here: the model is the one that was loaded."""


class Row(AskedSettings):
    """One line of a batch's input.

    A request of the OpenAI batch format, ``{"custom_id": ..., "body": {...}}``, is read as the row that asks
    for the same. Messages about a wrong row quote none of its texts.
    """

    id: str = Field(min_length=1)
    """Unique in the file; ``row-N`` with N the number of the line, from 1, where it is left out."""
    sampling: dict[str, Any] = Field(default_factory=dict)
    """Fields of :class:`stars_guard.SamplingParams`, instead of the batch's own."""
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """Instead of the one that follows from the batch's seed and the id."""

    @model_validator(mode="before")
    @classmethod
    def _from_request(cls, values: Any) -> Any:
        return _plain(values) if isinstance(values, Mapping) and "body" in values else values

    @model_validator(mode="after")
    def _samples_well(self) -> Row:
        if "seed" in self.sampling:
            raise ValueError("'seed' stands beside 'sampling', not in it")
        SamplingParams(**self.sampling)
        return self

    def proposing(self, base: SamplingParams) -> SamplingParams:
        """How to propose, where ``base`` is the batch's own; its seed, 0 if it has none, is the batch's."""
        seed = row_seed(base.seed or 0, self.id) if self.seed is None else self.seed
        return base.changed(**self.sampling, seed=seed)


def row_seed(seed: int, row_id: str) -> int:
    """The seed of a row in [0, 2**63): the same whenever and wherever the row is answered."""
    digest = blake2b(f"{seed}:{row_id}".encode(), digest_size=8, person=b"stars_batch").digest()
    return int.from_bytes(digest, "little") >> 1


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, one at a time; empty lines are skipped.

    Raises:
        ConfigurationError: naming the line that is no row, or whose id was there before.
    """
    seen: set[str] = set()
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row = _row(line, f"{path}:{number}", f"row-{number}")
            if row.id in seen:
                raise ConfigurationError(f"{path}:{number}: the id {row.id!r} is there twice; make it unique")
            seen.add(row.id)
            yield row


def _row(line: bytes, where: str, default_id: str) -> Row:
    try:
        values = parsed_json(line)
    except ValueError as error:
        raise ConfigurationError(f"{where}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{where}: a row is a JSON object, not {type(values).__name__}")
    return Row.found_at(where, {"id": default_id, **values})


def _plain(request: Mapping[str, Any]) -> dict[str, Any]:
    """A row that asks for what a request of the OpenAI batch format asks for."""
    body = request["body"]
    if not isinstance(body, dict):
        raise ValueError("'body' is a JSON object")
    row = {"id": request.get("custom_id", request.get("id"))}
    row |= {key: body[key] for key in ("prompt", "messages", "seed") if body.get(key) is not None}
    names = _RENAMED | {name: name for name in _SAME_NAME}
    given = {key: value for key, value in body.items() if value is not None and key not in row}
    row["sampling"] = {names[key]: given.pop(key) for key in list(given) if key in names}
    if unknown := set(given) - set(_NO_MATTER):
        raise ValueError(f"a batch takes no {', '.join(sorted(unknown))} in 'body'; leave it out")
    if given.get("n", 1) != 1 or given.get("stream"):
        raise ValueError("a row has one answer, which is not streamed; leave out 'n' and 'stream'")
    return row
