"""What a judge is: something that looks at finished answers, and guided none of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from stars_guard.evaluation.tasks.prompts import EvalPrompt
from stars_guard.rewards.base import RewardModel
from stars_guard.settings import Settings, StoredRecord


@dataclass(frozen=True, slots=True, repr=False)
class JudgedAnswer:
    """An answer to be judged.

    Attributes:
        prompt: what was asked.
        text: everything that was shown.
        baseline: the answer of the method that is compared with, for judges of pairs; None for others.
        row: id of the answer's row; empty where there is one answer to the prompt.
    """

    prompt: EvalPrompt
    text: str
    baseline: str | None = None
    row: str = ""

    @property
    def id(self) -> str:
        """Id of the row, or of the prompt where no row is named."""
        return self.row or self.prompt.id


class Judgement(StoredRecord):
    """What a judge said of one answer."""

    id: str
    """Id of the row that was judged."""
    value: float
    """Reward of a scoring judge, higher is better; of a judge of pairs: 1 won, 0.5 tied, 0 lost."""
    harmful: bool | None = None
    """Whether it is harmful; None for judges that do not say."""
    judge: str = ""
    """Fingerprint of the judge's settings."""
    orders: tuple[float, ...] = ()
    """Verdicts of a judge of pairs in each order, as ``value``."""


class JudgeSettings(Settings):
    """Which judge, and how it is asked."""

    kind: str
    """Kind of the judge, which every subclass fixes."""

    @property
    def rewards(self) -> tuple[str, ...]:
        """Reward models that it asks, as ``--reward`` takes them: none of them may have guided."""
        return ()

    @property
    def served(self) -> tuple[str, ...]:
        """Names of models on servers that it asks: none of them may have guided either."""
        return ()

    @property
    def fingerprint(self) -> str:
        """What tells these settings from others; judgements that were made under others do not count."""
        return blake2b(self.model_dump_json().encode(), digest_size=8).hexdigest()

    def load(self) -> Judge:
        """The judge, ready to be asked."""
        raise NotImplementedError


class Judge(Protocol):
    """Judges answers."""

    @property
    def name(self) -> str:
        """Name of what judges, which tells whether it guided, too."""

    @property
    def reward(self) -> RewardModel | None:
        """Reward model that it asks, which must not have guided; None for judges that ask none."""

    @property
    def against(self) -> str | None:
        """Name of the method whose answers are compared with; None for judges of single answers."""

    def judge(self, answers: Sequence[JudgedAnswer]) -> Sequence[Judgement | None]:
        """One judgement an answer, in order; None for an answer that this judge never looked at.

        Raises:
            ScoringError: it cannot judge. An answer that cannot be judged is never a tie.
        """
