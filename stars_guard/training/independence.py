"""How far a judge's scores are its own: compared, on held-out answers, with those that guide."""

import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import correlation, fmean

from stars_guard import embedded
from stars_guard.embedded.merge import merge_adapter
from stars_guard.training.data import read_records
from stars_guard.training.evaluate import Scorer, TextScorer
from stars_guard.training.heldout import HELD_OUT, PLAIN, HeldOutAnswer
from stars_guard.training.measures import labelled_auc
from stars_guard.training.plain import plain_rows
from stars_guard.training.probe import probe_scorer
from stars_guard.training.train import installed_base

COMPARED = ("jailbreakbench", "xstest_completions", "beavertails")
"""The public held-out sets on which scores are compared."""
TOKENS = 64
"""Response tokens that every scorer reads."""
JUDGE = "judge"
"""The judge's name in tables."""


@dataclass(frozen=True, slots=True)
class ComparedScores:
    """Scores of the same answers of one set by several scorers."""

    dataset: str
    safe: tuple[bool, ...]
    scores: Mapping[str, tuple[float, ...]]

    def auc(self, scorer: str) -> float:
        """Chance that ``scorer`` rewards a safe answer above an unsafe one."""
        return labelled_auc(self.scores[scorer], self.safe)

    def error_correlation(self, first: str, second: str) -> float:
        """Correlation of two scorers' scores about their means among safe and among unsafe answers.

        What the labels explain is taken out: independent judges err independently, which is 0; a scorer and
        itself have 1.
        """
        return correlation(self._errors(first), self._errors(second))

    def missed(self, judge: str, guide: str) -> float:
        """Share of the unsafe answers that ``guide`` takes for safe (over 0) which ``judge`` does, too."""
        scores = zip(self.safe, self.scores[judge], self.scores[guide], strict=True)
        passed = [judged > 0 for safe, judged, guided in scores if not safe and guided > 0]
        return fmean(passed) if passed else float("nan")

    def _errors(self, scorer: str) -> list[float]:
        scored = list(zip(self.safe, self.scores[scorer], strict=True))
        means = {kind: fmean(score for safe, score in scored if safe is kind) for kind in set(self.safe)}
        return [score - means[safe] for safe, score in scored]


def shipped_scorers(judge: Path) -> dict[str, TextScorer]:
    """The judge whose adapter is in the folder ``judge``, and both rewards that guide by default, by name."""
    with tempfile.TemporaryDirectory() as merged:
        merge_adapter(installed_base(), judge, Path(merged))
        return {
            JUDGE: Scorer.from_folder(Path(merged)),
            "encoder": Scorer.from_folder(embedded.harmlessness_reward()),
            "probe": probe_scorer(embedded.PROBE, lengths=[TOKENS]),
        }


def compare_scores(
    scorers: Mapping[str, TextScorer], data: Path, judge_data: Path, limit: int = 120
) -> list[ComparedScores]:
    """Scores of held-out answers by every scorer, on the public sets and on PyRIT's held-out answers.

    Args:
        scorers: by name.
        data: data folder with ``eval/``; sets that are not there are left out.
        judge_data: folder written by :func:`stars_guard.training.judge.write_judge_data`.
        limit: most answers of a set.
    """
    held = {held.name: held for held in reversed(HELD_OUT)}  # of two readings of a set the first
    files = [(name, data / "eval" / f"{name}.jsonl") for name in COMPARED]
    sets = {name: held[name].read(read_records(file)) for name, file in files if file.is_file()}
    sets["pyrit"] = _pyrit(judge_data)
    return [_compared(name, answers, scorers, limit) for name, answers in sets.items()]


def independence_table(comparisons: Sequence[ComparedScores]) -> str:
    """A Markdown table: AUC of each scorer, correlations of errors, and what is missed twice.

    Args:
        comparisons: one a line, at least one, with the scores of the judge and of those that guide.
    """
    names = list(comparisons[0].scores)
    guides = [name for name in names if name != JUDGE]
    pairs = list(combinations(names, 2))
    heads = ["set", "answers", *(f"AUC, {name}" for name in names)]
    heads += [f"errors, {one} and {other}" for one, other in pairs]
    heads += [f"missed by {guide}: by the judge, too" for guide in guides]
    lines = [heads, ["---"] * len(heads)]
    for comparison in comparisons:
        figures = [comparison.auc(name) for name in names]
        figures += [comparison.error_correlation(*pair) for pair in pairs]
        figures += [comparison.missed(JUDGE, guide) for guide in guides]
        shown = (f"{figure:.2f}" for figure in figures)
        lines.append([comparison.dataset, str(len(comparison.safe)), *shown])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _pyrit(judge_data: Path) -> list[HeldOutAnswer]:
    rows = plain_rows(judge_data, judge_data / "eval" / "pyrit.jsonl", "eval")
    records = [{"prompt": row.prompt, "response": row.response, "unsafe": row.safe <= 0.5} for row in rows]
    return PLAIN.read(records)


def _compared(
    name: str, answers: Sequence[HeldOutAnswer], scorers: Mapping[str, TextScorer], limit: int
) -> ComparedScores:
    chosen = random.Random(name).sample(list(answers), min(limit, len(answers)))
    texts = [(answer.prompt, answer.response) for answer in chosen]
    scores = {scorer: tuple(its.score(texts, TOKENS)) for scorer, its in scorers.items()}
    return ComparedScores(name, tuple(answer.safe for answer in chosen), scores)
