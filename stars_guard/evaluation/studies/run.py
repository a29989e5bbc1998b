"""All studies of an evaluation: its grids, and the analyses that it asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stars_guard.evaluation.analyses import (
    AnyAnalysis,
    BellmanAnalysis,
    MiscalibrationAnalysis,
    ResamplingAnalysis,
)
from stars_guard.evaluation.config import EvalPlan
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.results import Results
from stars_guard.evaluation.studies.bellman import bellman
from stars_guard.evaluation.studies.gradient import gradient
from stars_guard.evaluation.studies.grid import grid_finding
from stars_guard.evaluation.studies.miscalibration import miscalibration
from stars_guard.evaluation.studies.records import StudyFinding, StudyFindings
from stars_guard.evaluation.studies.resampling import resampling
from stars_guard.evaluation.studies.studied import StudiedTask
from stars_guard.evaluation.watching import Unwatched, Watcher


def study(
    evaluation: EvalPlan, results: Results, output: Path, watcher: Watcher | None = None
) -> StudyFindings:
    """Look closer at an evaluation that was run, and write what was found to ``studies.json``.

    Args:
        evaluation: says what is looked at.
        results: its main figures.
        output: its folder; answers that are drawn for a study stay there.
        watcher: told how far it is.

    Raises:
        ConfigurationError: an analysis does not suit the evaluation.
    """
    watching, folder = watcher or Unwatched(), EvalFolder(output)
    findings = StudyFindings()
    if not evaluation.studies and not evaluation.analyses:
        # What an earlier run found would be reported as this one's.
        folder.studies.unlink(missing_ok=True)
    if evaluation.analyses:
        watching.begin("analyses", len(evaluation.analyses))
    for finding in _findings(evaluation, results, folder, watching):
        findings.findings.append(finding)
        # After each one, so that a report has those that were over when a long one was cut off.
        findings.write(folder.studies)
    return findings


def _findings(
    evaluation: EvalPlan, results: Results, folder: EvalFolder, watcher: Watcher
) -> Iterator[StudyFinding]:
    for name in evaluation.studies:
        yield grid_finding(evaluation, results, name)
    for analysis in evaluation.analyses:
        yield finding_of(StudiedTask(evaluation, results, folder, analysis), analysis)
        watcher.advance()


def finding_of(task: StudiedTask, analysis: AnyAnalysis) -> StudyFinding:
    """What one analysis finds.

    Args:
        task: the task that it is of.
        analysis: its settings.
    """
    match analysis:
        case MiscalibrationAnalysis():
            return miscalibration(task, analysis)
        case BellmanAnalysis():
            return bellman(task, analysis)
        case ResamplingAnalysis():
            return resampling(task, analysis)
        case _:
            return gradient(task, analysis)
