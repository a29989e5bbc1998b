"""What a study found, as plain data: figures, a table for readers, and the points of a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from stars_guard.batch.manifest import replace
from stars_guard.evaluation.stored import read_stored
from stars_guard.evaluation.tables import ReportTable
from stars_guard.settings import StoredRecord


class PlotPoint(StoredRecord):
    """One point and its interval of 95 %, where it has one."""

    x: float | str
    """A place on the axis, or the name of one."""
    y: float
    low: float | None = None
    high: float | None = None


class PlotSeries(StoredRecord):
    """Points that belong together."""

    name: str
    points: tuple[PlotPoint, ...]


class StudyPlot(StoredRecord):
    """A plot yet to be drawn."""

    x: str
    """What stands on the axis from left to right."""
    y: str
    """What stands on the other one."""
    series: tuple[PlotSeries, ...]


class StudyFinding(StoredRecord):
    """What one study found on one task."""

    name: str
    """A grid's name, or the kind of an analysis."""
    kind: str
    """``grid``, or the kind of the analysis."""
    task: str
    title: str
    """What it says, in words."""
    figures: dict[str, Any]
    """Record of the study, whose type goes with the kind."""
    table: ReportTable
    plot: StudyPlot | None = None
    """None where there is nothing to draw."""


class StudyFindings(StoredRecord):
    """All that an evaluation's studies found."""

    version: Literal[1] = 1
    findings: list[StudyFinding] = Field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write them as JSON; they are there as a whole or not at all."""
        replace(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> StudyFindings:
        """Read what :meth:`write` wrote.

        Raises:
            ConfigurationError: it is something else.
        """
        return read_stored(cls, path, "the findings of studies", "run the evaluation again")
