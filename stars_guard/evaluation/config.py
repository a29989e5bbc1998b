"""What an evaluation is: models, rewards, methods, tasks and judges, in one file."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from pydantic import Field, model_validator

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.segments import FixedLength
from stars_guard.calibration.draw import DrawPlan
from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.analyses import Analysis, AnyAnalysis
from stars_guard.evaluation.checks import (
    BASELINE,
    check_analysis,
    check_baseline,
    check_costs,
    check_enough,
    check_file_names,
    check_known,
    check_likelihoods,
    check_models,
)
from stars_guard.evaluation.grids import MethodGrid
from stars_guard.evaluation.judges import AnyJudge
from stars_guard.evaluation.judges.independence import name_a_part_in_common, serves
from stars_guard.evaluation.judges.pairwise import compared_with
from stars_guard.evaluation.measures.table import MEASURES
from stars_guard.evaluation.methods import AnyMethod, Method
from stars_guard.evaluation.methods.changes import changed_guard
from stars_guard.evaluation.methods.guarding import GuardSection
from stars_guard.evaluation.methods.scale import POSSIBLE_SCALES, has_units
from stars_guard.evaluation.tasks.base import Task
from stars_guard.loading.parts import load_config
from stars_guard.settings import Settings

__all__ = ["BASELINE", "DrawSettings", "EvalPlan", "GuidingReward"]


class GuidingReward(Settings):
    """A reward model that guides, and the settings of a guard that suit its scale."""

    name: str | None = None
    """Reward model, as ``--reward`` takes it; None: the embedded encoder."""
    guard: GuardSection = None
    """Settings of the guard; None: those of the embedded reward, for which alone there are some."""

    @model_validator(mode="after")
    def _has_settings(self) -> GuidingReward:
        if self.guard is None:
            try:
                load_config(None, self.name)
            except ConfigurationError as error:
                # Its own words are for programs, where settings are an object.
                raise ValueError(
                    f"no settings of a guard suit name={self.name!r} by themselves, since rewards differ in "
                    "scale: check the name, or say what to aim at, such as guard: {threshold: 1.0}"
                ) from error
        return self

    @property
    def config(self) -> GuardConfig:
        """Settings of the guard."""
        return load_config(self.guard, self.name)


class DrawSettings(Settings):
    """Plain answers that rewards are measured on, with several continuations at each prefix."""

    prompts: int | None = Field(default=None, ge=1)
    """Prompts of a task that are answered, its first; None: 32, or all where there are fewer."""
    candidates: int = Field(default=4, ge=2, le=64)
    """Continuations at each prefix."""
    segment_tokens: int = Field(default=16, ge=1)
    """Length of a continuation, in tokens."""

    def plan(self, sampling: SamplingParams) -> DrawPlan:
        """What is drawn for each prompt, where ``sampling`` is how the task is answered.

        Raises:
            ConfigurationError: sampling is greedy.
        """
        segments = FixedLength(max_tokens=self.segment_tokens)
        return DrawPlan(sampling=sampling, segments=segments, candidates=self.candidates)


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
            check_known("tasks", [analysis.task] * bool(analysis.task), self.tasks)
            check_known("judges", [analysis.judge] * bool(analysis.judge), self.judges)
            check_known("methods", analysis.answering, self.every_method)
            check_known("rewards", analysis.scoring, self.rewards)
        for study in self.studies.values():
            check_known("methods", [study.method], self.methods)
            check_known("tasks", [study.task], self.tasks)
        for name, task in self.tasks.items():
            check_known("methods", task.methods, self.methods)
            check_known("judges", task.judges, self.judges)
            compared = [compared_with(self.judges[judge]) for judge in task.judges]
            check_known(f"the methods of {name}", filter(None, compared), self.methods_of(name))
            check_known("measures", task.measures, MEASURES)
            check_known("rewards", [task.reward] * bool(task.reward), self.rewards)
        for method in self.every_method.values():
            check_known("models", [method.model] * bool(method.model), self.models)
            check_known("rewards", [method.reward] * bool(method.reward), self.rewards)
            check_known("methods", [method.waits_for] * bool(method.waits_for), self.methods)
        return self

    @model_validator(mode="after")
    def _names_are_those_of_files(self) -> EvalPlan:
        for study in self.studies:
            if twice := set(self.methods).intersection(self.studied(study)):
                raise ValueError(f"study {study!r} makes a method {min(twice)!r}, which is there already")
        for what in ("models", "rewards", "tasks", "judges"):
            check_file_names(what, getattr(self, what))
        check_file_names("methods", self.every_method)
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
    def _models_can_do_it(self) -> EvalPlan:
        check_models(self.models, self.every_method)
        for name, task in self.tasks.items():
            check_likelihoods(name, task.measures, self.proposing(self.methods[BASELINE]))
        return self

    @model_validator(mode="after")
    def _settings_can_be_made(self) -> EvalPlan:
        for task in self.tasks:
            for name, method in self.methods_of(task).items():
                try:
                    self.possible(task, method)
                except ConfigurationError as error:
                    raise ValueError(f"method {name!r} on task {task!r}: {error}") from error
        return self

    @model_validator(mode="after")
    def _costs_are_known(self) -> EvalPlan:
        for name, task in self.tasks.items():
            check_costs(name, task.timed, self.methods_of(name))
            check_baseline(name, task, self.methods_of(name))
        return self

    @model_validator(mode="after")
    def _analyses_suit(self) -> EvalPlan:
        for analysis in self.analyses:
            name = self.analysed(analysis)
            check_analysis(analysis, name, self.tasks[name], self.methods_of(name), self.judges)
        return self

    @model_validator(mode="after")
    def _prompts_suffice(self) -> EvalPlan:
        for name, task in self.tasks.items():
            if self.draws_on(name):
                self.draws.plan(self.sampled(name))
            if task.limit is not None and task.attack is None:
                self.check_prompts(name, task.limit)
        return self

    def check_prompts(self, task: str, count: int) -> None:
        """Refuse to look at more prompts than a task has.

        Args:
            task: name of the task.
            count: its prompts.

        Raises:
            ConfigurationError: naming the setting that wants more.
        """
        check_enough("timed", self.tasks[task].timed, task, count)
        if self.draws.prompts is not None and self.draws_on(task):
            check_enough("draws.prompts", self.draws.prompts, task, count)

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

    def analysed(self, analysis: Analysis) -> str:
        """Name of the task that an analysis is of."""
        return analysis.task or next(iter(self.tasks))

    def draws_on(self, task: str) -> bool:
        """Whether rewards are measured on plain answers to a task."""
        in_units = any(has_units(method.changes) for method in self.methods_of(task).values())
        return in_units or any(
            analysis.reads_draws and self.analysed(analysis) == task for analysis in self.analyses
        )

    def sampled(self, task: str) -> SamplingParams:
        """How a task is answered, where a method does not say otherwise."""
        longest = self.tasks[task].max_tokens or self.sampling.max_tokens
        return self.sampling.changed(max_tokens=longest, seed=self.seed)

    def settings(self, task: str, method: Method) -> tuple[GuardConfig, SamplingParams]:
        """How a method guards on a task, and how it proposes.

        Args:
            task: name of the task.
            method: with nothing left open.

        Raises:
            ConfigurationError: the guard does not take what the method sets.
        """
        sampling = method.sampling(self.sampled(task))
        return changed_guard(
            method.guard(self.guiding(task, method).config, sampling), method.changes
        ), sampling

    def possible(self, task: str, method: Method) -> list[Method]:
        """Methods that one may be when costs and the reward's spread are known, from the least to the most.

        Args:
            task: name of the task.
            method: with what may be left open.

        Raises:
            ConfigurationError: whatever they are, the guard does not take what the method sets.
        """
        return [self._possible(task, settled) for settled in method.settlements]

    def _possible(self, task: str, method: Method) -> Method:
        high, low = POSSIBLE_SCALES
        first, second = method.scaled(lambda: high), method.scaled(lambda: low)
        try:
            self.settings(task, first)
        except ConfigurationError:
            self.settings(task, second)
            return second
        return first

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
