"""What an evaluation is: models, rewards, methods, tasks and judges, in one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field, model_validator

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.evaluation.judges import AnyJudge
from stars_guard.evaluation.judges.independence import names_the_same
from stars_guard.evaluation.methods import AnyMethod, Method
from stars_guard.evaluation.methods.guarding import GuardSection
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
    in_flight: int = Field(default=16, ge=1)
    """Rows that are answered at the same time; results do not depend on it."""

    @model_validator(mode="after")
    def _names_are_there(self) -> EvalPlan:
        if BASELINE not in self.methods:
            raise ValueError(f"methods has no {BASELINE!r}, which the others are compared with; add one")
        for task in self.tasks.values():
            _check("methods", task.methods, self.methods)
            _check("judges", task.judges, self.judges)
            _check("rewards", [task.reward] * bool(task.reward), self.rewards)
        for method in self.methods.values():
            _check("models", [method.model] * bool(method.model), self.models)
            _check("rewards", [method.reward] * bool(method.reward), self.rewards)
            _check("methods", [method.waits_for] * bool(method.waits_for), self.methods)
        return self

    @model_validator(mode="after")
    def _costs_are_known(self) -> EvalPlan:
        for task in self.tasks:
            answering = self.methods_of(task)
            for name, method in answering.items():
                for other in method.compared_with:
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
                for reward in self.judges[judge].rewards:
                    if any(names_the_same(reward, guide) for guide in guiding):
                        raise ValueError(
                            f"judge {judge!r} of task {name!r} is {reward!r}, which guides there: what it "
                            "likes is looked for; give a judge of its own"
                        )
        return self

    def methods_of(self, task: str) -> dict[str, Method]:
        """The methods that answer a task, those that wait for others last."""
        named: tuple[str, ...] = self.tasks[task].methods or tuple(self.methods)
        wanted: dict[str, Method] = {name: self.methods[name] for name in dict.fromkeys((BASELINE, *named))}
        return dict(sorted(wanted.items(), key=lambda item: item[1].waits_for is not None))

    def guiding(self, task: str, method: Method) -> GuidingReward:
        """The reward that guides a method on a task."""
        return self.rewards[method.reward or self.tasks[task].reward or next(iter(self.rewards))]

    def proposing(self, method: Method) -> str | None:
        """The language model of a method, as ``--model`` takes it."""
        return self.models[method.model or next(iter(self.models))]


def _check(what: str, names: Iterable[str | None], known: Mapping[str, object]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"no such entry of {what}: {accepted_names(str(name), list(known))}")
