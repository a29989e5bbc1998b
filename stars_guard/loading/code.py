"""Reward models by name: code of one's own, and judges.

==================================  =======================================================================
spec                                what it names
==================================  =======================================================================
``path/to/file.py:attribute``       something in a Python file
``package.module:attribute``        something in a module that can be imported
``judge:PRESET@FOLDER_OR_ID``       a causal language model that is asked, by a prompt of ``judge_prompts``
``embedded:probe``                  the embedded model's probe; :mod:`stars_guard.loading.parts` finds it
==================================  =======================================================================

The attribute is a reward model; or a class or function without required arguments that makes one; or a
function ``f(prompt, response) -> float``. **Loading a spec of the first two kinds runs that code**, with all
rights of this process: take specs from people who may run code here, and from nobody else.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from stars_guard.errors import ConfigurationError, MissingExtraError, boundary
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.function import FunctionReward

_JUDGE = "judge:"


def is_spec(text: str) -> bool:
    """Whether ``text`` is a spec, and not a folder or a hub id."""
    return _is_judge(text) or is_code(text)


def is_code(text: str) -> bool:
    """Whether ``text`` is a spec that runs code."""
    place, _, attribute = text.rpartition(":")
    has_form = _is_dotted(attribute) and (place.endswith(".py") or _is_dotted(place))
    return has_form and not Path(text).expanduser().is_dir()


def load_named(spec: str, options: Mapping[str, Any]) -> RewardModel:
    """The reward model that ``spec`` names.

    Args:
        spec: as in the module's text. Code is run; see there.
        options: for :meth:`stars_guard.rewards.JudgeReward.load`; code takes none.

    Raises:
        ConfigurationError: there is no such file, module, attribute, preset or model, the code raised, what
            it names is no reward model and makes none, or options were given with code.
    """
    if _is_judge(spec):
        return _judge(spec, options)
    if options:
        raise ConfigurationError(
            f"{spec} is code, which takes no options, but got {', '.join(sorted(options))}; set them there"
        )
    place, _, attribute = spec.rpartition(":")
    module = _from_file(place) if place.endswith(".py") else _imported(place)
    return _reward(spec, _attribute(module, place, attribute))


def _is_judge(text: str) -> bool:
    return text.startswith(_JUDGE) and "@" in text


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _judge(spec: str, options: Mapping[str, Any]) -> RewardModel:
    try:
        from stars_guard.rewards.judges.judge import JudgeReward
    except ImportError as error:
        raise MissingExtraError(str(error.name), "transformers") from error
    preset, _, place = spec.removeprefix(_JUDGE).partition("@")
    with boundary(ConfigurationError, f"loading {spec}"):
        return JudgeReward.load(place, **{"prompt": preset, **options})


def _from_file(place: str) -> ModuleType:
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise ConfigurationError(
            f"there is no file {place}; give a path that exists from here, or a full one"
        )
    # A name that no import statement can say, so that a json.py of the user's stands in nobody's way.
    spec = cast(ModuleSpec, spec_from_file_location(f"stars_guard reward {path}", path))
    module = module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses and pickle look modules up there
    try:
        with boundary(ConfigurationError, f"running {place}"):
            cast(Loader, spec.loader).exec_module(module)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module


def _imported(place: str) -> ModuleType:
    if sys.modules.get(place) is not None:
        # Even one that is still being imported, and names itself: another thread would wait for it forever.
        return sys.modules[place]
    try:
        with boundary(ConfigurationError, f"importing {place}"):
            return importlib.import_module(place)
    except ConfigurationError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and f"{place}.".startswith(f"{cause.name}."):
            raise ConfigurationError(
                f"there is no module {place}; install it, or name its file: path/to/file.py:attribute"
            ) from cause
        raise


def _attribute(module: ModuleType, place: str, attribute: str) -> object:
    try:
        found: object = attrgetter(attribute)(module)
    except AttributeError:
        names = [name for name, value in vars(module).items() if name[0] != "_" and _may_be_named(value)]
        raise ConfigurationError(
            f"{place} has no {attribute}; it has: {', '.join(names) or 'nothing'}"
        ) from None
    return found


def _may_be_named(value: object) -> bool:
    return callable(value) or isinstance(value, RewardModel)


def _reward(spec: str, found: Any) -> RewardModel:
    if not inspect.isclass(found) and isinstance(found, RewardModel):
        return found
    if _takes(found):
        return _made(spec, found)
    if not inspect.isclass(found) and _takes(found, "prompt", "response"):
        return FunctionReward(found)
    raise ConfigurationError(
        f"{spec} is {type(found).__name__} and no reward: name a reward model, a class or function without "
        "required arguments that makes one, or a function f(prompt, response) -> float"
    )


def _made(spec: str, factory: Callable[[], object]) -> RewardModel:
    with boundary(ConfigurationError, f"calling {spec}"):
        made = factory()
    if not isinstance(made, RewardModel):
        raise ConfigurationError(
            f"{spec}, called without arguments, made {type(made).__name__} and no reward model with name, "
            "score and release; a function that scores must require its two arguments"
        )
    return made


def _takes(found: Any, *arguments: str) -> bool:
    """Whether it can be called with just these."""
    try:
        inspect.signature(found).bind(*arguments)
    except (TypeError, ValueError):
        return False
    return True
