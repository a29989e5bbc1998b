"""Sampled answers in a file: one JSON object a line, after a header that says how they were drawn.

Every answer has a seed of its own, so a run that goes on where another stopped ends with the same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from stars_guard.calibration.draw import DrawPlan, Progress, draw_answers
from stars_guard.calibration.samples import SampledAnswer
from stars_guard.errors import ConfigurationError
from stars_guard.models.base import LanguageModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel
from stars_guard.settings import StoredRecord, differences, readable, sized


class Header(StoredRecord):
    """The first line of a file of samples; two runs may share a file when it is the same for both."""

    version: Literal[1] = 1
    model: str
    """Name of the language model."""
    reward: str
    """Name of the reward model."""
    prompts: str
    """Digest of the prompts, in order."""
    plan: DrawPlan


def sampled(
    path: Path,
    model: LanguageModel,
    reward: RewardModel,
    prompts: Sequence[Prompt],
    plan: DrawPlan,
    progress: Progress | None = None,
) -> list[SampledAnswer]:
    """The answers of a plan: those in the file, and the others drawn and appended one by one.

    Args:
        path: made if it is not there.
        model: draws candidates.
        reward: judges them.
        prompts: what to answer.
        plan: how.
        progress: called after each answer, and once before.

    Returns:
        All answers, in the order of prompts and samples.

    Raises:
        ConfigurationError: the file is of another plan, of other models or prompts, or is something else.
        GenerationError, ScoringError: an outage; what was drawn stays in the file.
    """
    header = Header(model=model.name, reward=reward.name, prompts=digest(prompts), plan=plan)
    known = {(answer.prompt, answer.seed): answer for answer in _opened(path, header)}
    places = plan.places(len(prompts))
    tell = progress or (lambda done, total: None)
    tell(len(known), len(places))
    for answer in draw_answers(model, reward, prompts, plan, skip=frozenset(known)):
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(answer.model_dump_json() + "\n")
        known[answer.prompt, answer.seed] = answer
        tell(len(known), len(places))
    return [known[place] for place in places]


def digest(prompts: Sequence[Prompt]) -> str:
    """Sixteen hex digits that other prompts, or the same in another order, do not have."""
    contents = [(prompt.messages, prompt.text, prompt.tools) for prompt in prompts]
    return sha256(repr(contents).encode()).hexdigest()[:16]


def _opened(path: Path, header: Header) -> list[SampledAnswer]:
    """The answers that are there already; a file with the header is there afterwards."""
    if path.exists():
        whole, newline, _ = path.read_bytes().rpartition(b"\n")
        if newline:
            answers = _read(path, whole.split(b"\n"), header)
            # A line that was cut off by a crash would garble the next one.
            path.write_bytes(whole + newline)
            return answers
    path.write_text(header.model_dump_json() + "\n", encoding="utf-8", newline="\n")
    return []


def _read(path: Path, lines: Sequence[bytes], header: Header) -> list[SampledAnswer]:
    try:
        there = Header.model_validate_json(lines[0])
        answers = [SampledAnswer.model_validate_json(line) for line in lines[1:]]
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {readable(error, 'not a file of samples', sized)}") from error
    if different := differences(_flat(there.model_dump(mode="json")), _flat(header.model_dump(mode="json"))):
        raise ConfigurationError(
            f"{path} has samples of another run ({'; '.join(different)}); give another folder, or repeat "
            "the command as it was"
        )
    return answers


def _flat(values: dict[str, object]) -> dict[str, object]:
    """The plan's parts beside the header's own, so that a message names what differs."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat.update(_flat(value) if key in ("plan", "sampling") and isinstance(value, dict) else {key: value})
    return flat
