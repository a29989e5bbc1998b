"""Where the files of an evaluation lie, under its output folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stars_guard.errors import ConfigurationError


@dataclass(frozen=True)
class EvalFolder:
    """The output folder of an evaluation.

    Attributes:
        root: the folder.
    """

    root: Path

    @property
    def results(self) -> Path:
        """All figures, as JSON."""
        return self.root / "results.json"

    @property
    def timings(self) -> Path:
        """Usage of answers that were drawn alone, one JSON object a line."""
        return self._made("timings.jsonl")

    def prompts(self, task: str) -> Path:
        """The prompts of a task, one JSON object a line."""
        return self._made("prompts", f"{task}.jsonl")

    def rows(self, task: str, method: str) -> Path:
        """The rows that a method answers, as a batch reads them."""
        return self._made("rows", task, f"{method}.jsonl")

    def answers(self, task: str, method: str) -> Path:
        """The answers of a method to a task, as a batch writes them."""
        return self._made("answers", task, f"{method}.jsonl")

    def traces(self, task: str, method: str) -> Path:
        """Traces of these answers."""
        return self._made("traces", task, f"{method}.jsonl")

    def judgements(self, task: str, method: str, judge: str) -> Path:
        """What a judge said of them, one JSON object a line."""
        return self._made("judgements", task, method, f"{judge}.jsonl")

    def judgements_of(self, task: str) -> Path:
        """Folder of all judgements of a task, by method and judge."""
        return self.root / "judgements" / task

    def measurements(self, task: str, method: str) -> Path:
        """What was measured of them without a judge, one JSON object a line."""
        return self._made("measurements", task, f"{method}.jsonl")

    def draws(self, task: str, reward: str, model: str) -> Path:
        """Plain answers to a task with several continuations at each prefix, scored by a reward."""
        return self._made("draws", task, f"{model}-{reward}.jsonl")

    @property
    def studies(self) -> Path:
        """What studies found, as JSON."""
        return self.root / "studies.json"

    def _made(self, *parts: str) -> Path:
        path = self.root.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{path.parent} cannot be made: {error.strerror}") from error
        return path
