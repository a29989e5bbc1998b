"""Reward models that are code of one's own: the attribute of a file or module.

The attribute is a reward model; or a class or function without required arguments that makes one; or a
function ``f(prompt, response) -> float``. **Loading it runs that code**, with all rights of this process:
take names of code from people who may run code here, and from nobody else.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from stars_guard.errors import ConfigurationError, failures_as
from stars_guard.loading.names import callable_with
from stars_guard.loading.specs import RewardCode
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.function import FunctionReward


def load_code(spec: RewardCode) -> RewardModel:
    """The reward model that an attribute of a file or module is or makes. The code is run.

    Raises:
        ConfigurationError: there is no such file, module or attribute, the code raised, what it names is no
            reward model and makes none, or there are options.
    """
    if spec.options:
        raise ConfigurationError(
            f"{spec.name} is code, which takes no options, but got {', '.join(sorted(spec.options))}; "
            "set them there"
        )
    module = _from_file(spec.place) if spec.place.endswith(".py") else _imported(spec.place)
    return _reward(spec.name, _attribute(module, spec.place, spec.attribute))


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
        with failures_as(ConfigurationError, f"running {place}"):
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
        with failures_as(ConfigurationError, f"importing {place}"):
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
        value: object = attrgetter(attribute)(module)
    except AttributeError:
        names = [name for name, value in vars(module).items() if name[0] != "_" and _may_be_named(value)]
        raise ConfigurationError(
            f"{place} has no {attribute}; it has: {', '.join(names) or 'nothing'}"
        ) from None
    return value


def _may_be_named(value: object) -> bool:
    return callable(value) or isinstance(value, RewardModel)


def _reward(name: str, value: Any) -> RewardModel:
    if not inspect.isclass(value) and isinstance(value, RewardModel):
        return value
    if callable_with(value):
        return _made(name, value)
    if not inspect.isclass(value) and callable_with(value, "prompt", "response"):
        return FunctionReward(value)
    raise ConfigurationError(
        f"{name} is {type(value).__name__} and no reward: name a reward model, a class or function without "
        "required arguments that makes one, or a function f(prompt, response) -> float"
    )


def _made(name: str, factory: Callable[[], object]) -> RewardModel:
    with failures_as(ConfigurationError, f"calling {name}"):
        made = factory()
    if not isinstance(made, RewardModel):
        raise ConfigurationError(
            f"{name}, called without arguments, made {type(made).__name__} and no reward model with name, "
            "score and release; a function that scores must require its two arguments"
        )
    return made
