"""All studies of an evaluation: its grids, and the analyses that it asks for."""

from __future__ import annotations

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
    findings = StudyFindings(
        findings=[grid_finding(evaluation, results, name) for name in evaluation.studies]
    )
    if evaluation.analyses:
        watching.begin("analyses", len(evaluation.analyses))
    for analysis in evaluation.analyses:
        findings.findings.append(finding_of(StudiedTask(evaluation, results, folder, analysis), analysis))
        watching.advance()
    if findings.findings:
        findings.write(folder.studies)
    return findings


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
