"""What an evaluation is: models, rewards, methods, tasks and judges, in one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

from pydantic import Field, model_validator

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.evaluation.analyses import AnyAnalysis
from stars_guard.evaluation.grids import MethodGrid
from stars_guard.evaluation.judges import AnyJudge
from stars_guard.evaluation.judges.independence import name_a_part_in_common, serves
from stars_guard.evaluation.judges.pairwise import compared_with
from stars_guard.evaluation.measures.table import MEASURES
from stars_guard.evaluation.methods import AnyMethod, Method
from stars_guard.evaluation.methods.changes import changed_guard
from stars_guard.evaluation.methods.guarding import GuardSection
from stars_guard.evaluation.methods.scale import has_units
from stars_guard.evaluation.tasks.base import Task
from stars_guard.loading.parts import load_config
from stars_guard.settings import Settings, accepted_names

BASELINE = "plain"
"""Name of the method that everything is compared with."""


class GuidingReward(Settings):
    """A reward model that guides, and the settings of a guard that suit its scale."""

    name: str | None = None
    """Reward model, as ``--reward`` takes it; None: the embedded one."""
    guard: GuardSection = None
    """Settings of the guard; None: those of the embedded reward, for which alone there are some."""

    @model_validator(mode="after")
    def _has_settings(self) -> GuidingReward:
        if self.guard is None:
            load_config(None, self.name)
        return self

    @property
    def config(self) -> GuardConfig:
        """Settings of the guard."""
        return load_config(self.guard, self.name)


class DrawSettings(Settings):
    """Plain answers that rewards are measured on, with several continuations at each prefix."""

    prompts: int = Field(default=32, ge=1)
    """Prompts of a task that are answered; its first."""
    candidates: int = Field(default=4, ge=2, le=64)
    """Continuations at each prefix."""
    segment_tokens: int = Field(default=16, ge=1)
    """Length of a continuation, in tokens."""


class EvalPlan(Settings):
    """Everything that the results depend on, but for the weights of the models."""

    seed: int = Field(default=0, ge=0)
    """Seed of the prompts that are drawn, of all answers, and of resampling."""
    models: dict[str, str | None] = Field(default={"base": None}, min_length=1)
    """Language models by a name of one's own, each as ``--model`` takes it; None: the embedded one."""
    rewards: dict[str, GuidingReward] = Field(default={"harmlessness": GuidingReward()}, min_length=1)
    """Reward models that guide, by a name of one's own."""
    sampling: SamplingParams = SamplingParams(max_tokens=64)
    """How to propose; its seed is not used."""
    methods: dict[str, AnyMethod] = Field(min_length=1)
    """Ways to answer, by a name of one's own; ``plain`` is what the others are compared with."""
    tasks: dict[str, Task] = Field(min_length=1)
    """What is answered, by a name of one's own."""
    judges: dict[str, AnyJudge] = Field(default_factory=dict)
    """What looks at the answers, by a name of one's own."""
    studies: dict[str, MethodGrid] = Field(default_factory=dict)
    """One method's settings over several values, by the name of the study."""
    draws: DrawSettings = DrawSettings()
    """Answers that the spread of rewards is measured on, where something is given in units of it."""
    analyses: tuple[AnyAnalysis, ...] = ()
    """Closer looks at the answers, by name or with their settings."""
    in_flight: int = Field(default=16, ge=1)
    """Rows that are answered at the same time. In float32, answers do not depend on it; with fewer bits, what
    is drawn beside an answer may change how it is rounded, and so what is drawn."""

    @model_validator(mode="after")
    def _names_are_there(self) -> EvalPlan:
        if BASELINE not in self.methods:
            raise ValueError(f"methods has no {BASELINE!r}, which the others are compared with; add one")
        for analysis in self.analyses:
            _check("tasks", [analysis.task] * bool(analysis.task), self.tasks)
            _check("judges", [analysis.judge] * bool(analysis.judge), self.judges)
            _check("methods", analysis.answering, self.every_method)
            _check("rewards", analysis.scoring, self.rewards)
        for study in self.studies.values():
            _check("methods", [study.method], self.methods)
            _check("tasks", [study.task], self.tasks)
        for name, task in self.tasks.items():
            _check("methods", task.methods, self.methods)
            _check("judges", task.judges, self.judges)
            compared = [compared_with(self.judges[judge]) for judge in task.judges]
            _check(f"the methods of {name}", filter(None, compared), self.methods_of(name))
            _check("measures", task.measures, MEASURES)
            _check("rewards", [task.reward] * bool(task.reward), self.rewards)
        for method in self.every_method.values():
            _check("models", [method.model] * bool(method.model), self.models)
            _check("rewards", [method.reward] * bool(method.reward), self.rewards)
            _check("methods", [method.waits_for] * bool(method.waits_for), self.methods)
        return self

    @property
    def every_method(self) -> dict[str, Method]:
        """The methods, and those that studies make of them."""
        studied = [self.studied(name) for name in self.studies]
        return {**self.methods, **{name: method for methods in studied for name, method in methods.items()}}

    def studied(self, study: str) -> dict[str, Method]:
        """The methods that a study makes, by name."""
        grid = self.studies[study]
        return dict(grid.expanded(study, self.methods[grid.method]))

    @model_validator(mode="after")
    def _changes_can_be_made(self) -> EvalPlan:
        for study in self.studies:
            if twice := set(self.methods).intersection(self.studied(study)):
                raise ValueError(f"study {study!r} makes a method {min(twice)!r}, which is there already")
        for task in self.tasks:
            for method in self.methods_of(task).values():
                # Numbers in units of the spread are not known before it was measured.
                if method.changes and method.waits_for is None and not has_units(method.changes):
                    base = method.guard(self.guiding(task, method).config, method.sampling(self.sampling))
                    changed_guard(base, method.changes)
        return self

    @model_validator(mode="after")
    def _costs_are_known(self) -> EvalPlan:
        for task in self.tasks:
            answering = self.methods_of(task)
            for name, method in answering.items():
                for other in method.reads_costs_of:
                    if other not in answering or answering[other].waits_for is not None:
                        raise ValueError(
                            f"method {name!r} reads the costs of {other!r}, which does not answer task "
                            f"{task!r} before it; have a method answer there that waits for no other"
                        )
        return self

    @model_validator(mode="after")
    def _judges_did_not_guide(self) -> EvalPlan:
        for name, task in self.tasks.items():
            guided = [method for method in self.methods_of(name).values() if method.guided]
            guiding = {self.guiding(name, method).name for method in guided}
            for judge in task.judges:
                if guide := _guide_in(self.judges[judge], guiding):
                    raise ValueError(
                        f"judge {judge!r} of task {name!r} is {guide!r}, which guides there: what it "
                        "likes is looked for; give a judge of its own"
                    )
        return self

    def methods_of(self, task: str) -> dict[str, Method]:
        """The methods that answer a task, those that wait for others last."""
        named: tuple[str, ...] = self.tasks[task].methods or tuple(self.methods)
        wanted: dict[str, Method] = {name: self.methods[name] for name in dict.fromkeys((BASELINE, *named))}
        for name, grid in self.studies.items():
            wanted |= self.studied(name) if grid.task == task else {}
        return dict(sorted(wanted.items(), key=lambda item: item[1].waits_for is not None))

    def guiding(self, task: str, method: Method) -> GuidingReward:
        """The reward that guides a method on a task."""
        return self.rewards[self.names(task, method)[0]]

    def proposing(self, method: Method) -> str | None:
        """The language model of a method, as ``--model`` takes it."""
        return self.models[method.model or next(iter(self.models))]

    def names(self, task: str, method: Method) -> tuple[str, str]:
        """The names, in this evaluation, of the reward and the model of a method on a task."""
        reward = method.reward or self.tasks[task].reward or next(iter(self.rewards))
        return reward, method.model or next(iter(self.models))


def _guide_in(judge: AnyJudge, guiding: Iterable[str | None]) -> str | None:
    """What a judge asks that also guides; None where there is nothing."""
    guides = list(guiding)
    asked = (name for name in judge.rewards if any(name_a_part_in_common(name, guide) for guide in guides))
    served = (model for model in judge.served if any(serves(model, guide) for guide in guides))
    return next(chain(asked, served), None)


def _check(what: str, names: Iterable[str | None], known: Mapping[str, object]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"no such entry of {what}: {accepted_names(str(name), list(known))}")
