"""What the parts of an evaluation ask of each other, found out before anything is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.analyses import Analysis
from stars_guard.evaluation.judges import AnyJudge
from stars_guard.evaluation.judges.pairwise import compared_with
from stars_guard.evaluation.methods import Method
from stars_guard.evaluation.tasks.base import Task
from stars_guard.loading.names import model_spec
from stars_guard.loading.specs import EngineInProcess, EngineServer
from stars_guard.settings import accepted_names

BASELINE = "plain"
"""Name of the method that everything is compared with."""
_LONGEST_NAME = 150
"""Characters of a name that a file system takes as part of a file's."""


def check_known(what: str, names: Iterable[str | None], known: Mapping[str, object]) -> None:
    """Refuse names that nothing has.

    Args:
        what: is named.
        names: to look for.
        known: what there is, by name.

    Raises:
        ValueError: naming the first that is not there, and those that are.
    """
    for name in names:
        if name not in known:
            raise ValueError(f"no such entry of {what}: {accepted_names(str(name), list(known))}")


def check_file_names(what: str, names: Iterable[str]) -> None:
    """Refuse names that cannot be those of files in the output folder.

    Args:
        what: has the names.
        names: to look at.

    Raises:
        ValueError: naming the first.
    """
    for name in names:
        parts = name.split("/")
        leads_out = {"", ".", ".."} & set(parts) or {"\\", "\0"} & set(name)
        if leads_out or max(map(len, parts)) > _LONGEST_NAME:
            raise ValueError(
                f"{name!r} among {what} is to name a file in the output folder; take 1 to {_LONGEST_NAME} "
                "characters, and nothing that leads out of it, such as '..' or a slash at the beginning"
            )


def check_models(models: Mapping[str, str | None], methods: Mapping[str, Method]) -> None:
    """Refuse names that no model has, and served models where the weights are needed.

    Args:
        models: as ``--model`` takes them, by their names in the evaluation.
        methods: the methods, by name.

    Raises:
        ConfigurationError: a name is none of a language model.
        ValueError: a method needs the weights.
    """
    is_served = {name: _is_served(model) for name, model in models.items()}
    for name, method in methods.items():
        model = method.model or next(iter(models))
        if method.needs_local_model and is_served[model]:
            raise ValueError(
                f"method {name!r} needs a language model in this process, and {model!r} is "
                f"{models[model]!r}; leave the method out, or name a folder"
            )


def check_likelihoods(task: str, measures: Iterable[str], base: str | None) -> None:
    """Refuse to measure likelihoods under a served model, which says none.

    Args:
        task: name of the task.
        measures: names of its measures.
        base: the base model, as ``--model`` takes it.

    Raises:
        ValueError: naming the task and the model.
    """
    if "likelihood" in measures and _is_served(base):
        raise ValueError(
            f"task {task!r} measures the likelihood, and {base!r}, which answers plainly, says none; leave "
            "the measure out, or name a folder of a model"
        )


def check_costs(task: str, timed: int, answering: Mapping[str, Method]) -> None:
    """Refuse methods that read costs which will not be known.

    Args:
        task: name of the task.
        timed: prompts of it that are answered alone.
        answering: the methods that answer it, by name.

    Raises:
        ValueError: naming the method.
    """
    for name, method in answering.items():
        for other in method.reads_costs_of:
            if other not in answering or answering[other].waits_for is not None:
                raise ValueError(
                    f"method {name!r} reads the costs of {other!r}, which does not answer task "
                    f"{task!r} before it; have a method answer there that waits for no other"
                )
        if method.reads_seconds_of and not timed:
            raise ValueError(
                f"method {name!r} is matched by seconds, and task {task!r} has timed={timed}; set timed to 1 "
                "or more, or match by tokens"
            )
        try:
            method.check_read({other: answering[other] for other in method.reads_costs_of})
        except ValueError as error:
            raise ValueError(f"method {name!r}: {error}") from error


def check_baseline(name: str, task: Task, answering: Mapping[str, Method]) -> None:
    """Refuse methods that answer prompts which the method that they are compared with does not.

    Args:
        name: of the task.
        task: its settings.
        answering: the methods that answer it, by name.

    Raises:
        ValueError: naming the method.
    """
    compared = answering[BASELINE].max_prompts
    if compared is None:
        return
    most = task.limit if task.attack is None else None
    for other, method in answering.items():
        limits = [limit for limit in (method.max_prompts, most) if limit is not None]
        if not limits or min(limits) > compared:
            raise ValueError(
                f"max_prompts={compared} of {BASELINE!r}: {other!r} answers more prompts of task {name!r}, "
                f"and is compared with {BASELINE!r}; give {BASELINE!r} as many"
            )


def check_analysis(
    analysis: Analysis, name: str, task: Task, answering: Mapping[str, Method], judges: Mapping[str, AnyJudge]
) -> None:
    """Refuse an analysis of what its task does not have.

    Args:
        analysis: its settings.
        name: of its task.
        task: settings of the task.
        answering: the methods that answer it, by name.
        judges: all judges, by name.

    Raises:
        ValueError: naming what is missing.
    """
    what = f"analysis {analysis.kind!r}"
    for method in analysis.answering:
        if method not in answering:
            raise ValueError(f"{what}: {method!r} does not answer {name!r}; add it to the task's methods")
    judge = analysis.judge or next(iter(task.judges), None)
    if judge is None and analysis.needs_judge:
        raise ValueError(f"{what} needs a judge, and {name!r} has none; name one under judges of the task")
    if judge is not None and judge not in task.judges:
        raise ValueError(
            f"{what}: {judge!r} is no judge of {name!r}; name one of the task's: {', '.join(task.judges)}"
        )
    if judge is not None and compared_with(judges[judge]) in analysis.reads_judgements_of:
        raise ValueError(
            f"{what}: judge {judge!r} compares with {compared_with(judges[judge])!r}, and so says nothing of "
            "its answers; name a judge of single answers"
        )
    analysis.check_task(name, task)


def check_enough(what: str, wanted: int, task: str, count: int) -> None:
    """Refuse to ask a task for more prompts than it has.

    Args:
        what: is the setting's name.
        wanted: its value.
        task: name of the task.
        count: prompts of the task.

    Raises:
        ConfigurationError: naming both.
    """
    if wanted > count:
        raise ConfigurationError(f"{what}={wanted}, and task {task!r} has only {count} prompts; take fewer")


def _is_served(model: str | None) -> bool:
    return isinstance(model_spec(model), EngineServer | EngineInProcess)
