"""Every error that stars_guard raises on purpose, named after the boundary that was crossed.

::

    StarsGuardError
    ├── ConfigurationError      a setting, a file or an argument is wrong (also a ValueError)
    │   └── MissingExtraError   an optional package is needed and not installed
    ├── PromptError             this prompt cannot be served: empty, or too long (also a ValueError)
    │   └── ContextLengthError  it leaves no room for the answer in the model's context
    ├── GenerationError         the language model failed
    ├── ScoringError            the reward model failed, was late, or gave no usable number
    ├── NoAcceptableSegment     exhaustion policy "raise": every attempt at a segment was rejected
    ├── ConformanceError        a reward model failed conformance checks (also an AssertionError)
    └── TraceError              a trace cannot be read, or does not replay (also a ValueError)

An outage (``GenerationError``, ``ScoringError``), a refusal (``StopReason.REFUSED``, no exception) and
exhaustion (``NoAcceptableSegment``) are three different results, and none of them shows text.
"""

from __future__ import annotations

import pickle
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

_PLACES = 8
"""Number of innermost calls that say where an error came from."""
_FAKES = "stars_guard.testing"
"""Module that raises whatever errors a test hands it."""


class StarsGuardError(Exception):
    """Base of every error raised on purpose by stars_guard.

    Attributes:
        trace: decisions of the request up to the failure, where there was one: a
            :class:`stars_guard.Trace` or None. Every room imports this one, so its type is no import here.
    """

    trace: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        # The arguments of a class's constructor are its own affair, so an error is made without it; and its
        # cause, which pickles leave out, says more than it does.
        return _remade, (type(self), self.args), (self.__dict__, _Cause(self.__cause__))

    def __setstate__(self, state: Any) -> None:
        attributes, cause = state
        self.__dict__.update(attributes)
        if cause.error is not None:  # setting None, too, would hide the context
            self.__cause__ = cause.error


class _Cause:
    """The cause of an error on its way through a pickle, where one that cannot be pickled is left out."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    def __reduce__(self) -> tuple[type[_Cause], tuple[BaseException | None]]:
        try:
            pickle.loads(pickle.dumps(self.error))  # some fail only when they are read
        except Exception:  # noqa: BLE001 - whatever a foreign class raises
            return _Cause, (None,)
        return _Cause, (self.error,)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Cause:
        return self


def _remade(kind: type[StarsGuardError], args: tuple[Any, ...]) -> StarsGuardError:
    error = kind.__new__(kind, *args)
    error.args = args
    return error


class ConfigurationError(StarsGuardError, ValueError):
    """A setting, a file or an argument is wrong; raised at construction, never mid-answer."""


class MissingExtraError(ConfigurationError):
    """An optional dependency is missing; the message names the install command."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"the package {package!r} is not installed; install it with: pip install 'stars-guard[{extra}]'"
        )


class PromptError(StarsGuardError, ValueError):
    """The prompt cannot be served by this model: empty, malformed or too long."""


class ContextLengthError(PromptError):
    """The prompt, or prompt and answer together, are longer than the model's context.

    Attributes:
        prompt_tokens: length of the prompt, in tokens; None where it is not known.
        context_window: most tokens of prompt and answer together; None where it is not known.
    """

    prompt_tokens: int | None = None
    context_window: int | None = None

    @classmethod
    def of(cls, prompt_tokens: int, max_tokens: int, context_window: int, name: str) -> ContextLengthError:
        """Error that says by how much it is too long, and what to do.

        Args:
            prompt_tokens: length of the prompt.
            max_tokens: longest answer, in tokens.
            context_window: most tokens of both together.
            name: of the model.
        """
        error = cls(
            f"{prompt_tokens} prompt tokens plus max_tokens={max_tokens} exceed the {context_window} "
            f"positions of {name}; shorten the prompt or lower max_tokens"
        )
        error.prompt_tokens, error.context_window = prompt_tokens, context_window
        return error


class GenerationError(StarsGuardError):
    """The language model raised, or broke its contract."""


class ScoringError(StarsGuardError):
    """The reward model raised, was late, or returned something that is not a finite number."""


class NoAcceptableSegment(StarsGuardError):  # noqa: N818 - named after the event, like StopIteration
    """Every attempt at a segment was rejected and the exhaustion policy is ``raise``."""


class ConformanceError(StarsGuardError, AssertionError):
    """A reward model failed a check; an assertion, so that a test fails and does not err."""


class TraceError(StarsGuardError, ValueError):
    """A trace is unreadable, of an unknown version, or does not replay."""


@contextmanager
def failures_as(error: type[StarsGuardError], what: str) -> Iterator[None]:
    """Turn any foreign exception raised inside into ``error``, saying ``what`` was being done.

    The foreign error is named by its type and chained, and so is one of this tree that a user's own code
    raised, whose kind stays. Their words are told in a ``ConfigurationError`` only, which is raised before
    there is a prompt or a candidate that they could quote.

    Args:
        error: class of what is raised instead.
        what: was being done.
    """
    try:
        yield
    except StarsGuardError as cause:
        if issubclass(error, ConfigurationError):
            raise
        _raise_without_foreign_words(cause, what)
    except Exception as cause:
        words = f": {cause}" if issubclass(error, ConfigurationError) else ""
        raise error(f"{what} failed: {type(cause).__name__}{words}") from cause


@contextmanager
def outages_as(error: type[StarsGuardError], what: str) -> Iterator[None]:
    """:func:`failures_as` for calls into a model or a reward, whatever they raise.

    What cancels a task or ends a generator or a thread is, coming out of such a call, a failure of that call:
    it must not cancel or end whoever made it, and others in the same batch least of all.

    Args:
        error: class of what is raised instead.
        what: was being done.
    """
    try:
        yield
    except StarsGuardError as cause:
        _raise_without_foreign_words(cause, what)
    except BaseException as cause:
        if ends_program(cause):
            raise
        raise error(f"{what} failed: {type(cause).__name__}") from cause


def ends_program(error: BaseException) -> bool:
    """Whether an error is the program's wish to end: signals raise it, and in the main thread only."""
    interrupt = isinstance(error, KeyboardInterrupt | SystemExit)
    return interrupt and threading.current_thread() is threading.main_thread()


def without_foreign_words(error: StarsGuardError, what: str) -> StarsGuardError:
    """An error that may be shown: the error itself, or one of its kind without its words, chained.

    The package's own messages name kinds and sizes. A reward or a model of the user's that borrows a class
    from this tree may quote a candidate in its message.

    Args:
        error: raised here or by a user's own code.
        what: was being done.
    """
    if raised_here(error):
        return error
    kinds = (kind for kind in type(error).__mro__ if kind.__module__ == __name__)
    kind = next(kind for kind in kinds if kind is not MissingExtraError)
    mended: StarsGuardError = kind(f"{what} failed: {kind.__name__}")
    mended.__cause__, mended.trace = error, error.trace
    return mended


def _raise_without_foreign_words(cause: StarsGuardError, what: str) -> NoReturn:
    mended = without_foreign_words(cause, what)
    if mended is cause:
        raise cause
    raise mended from cause


def raised_here(error: BaseException) -> bool:
    """Whether the package itself raised an error, or made it and did not raise it yet."""
    frames = list(traceback.walk_tb(error.__traceback__))
    module = str(frames[-1][0].f_globals.get("__name__")) if frames else __name__
    return module.partition(".")[0] == __name__.partition(".")[0] and module != _FAKES


def kind_and_places(error: BaseException) -> str:
    """Type of an error, that of its cause, and the innermost calls that it came from: no word of its own.

    That is what may be logged of an error whose words may quote a prompt or a candidate.
    """
    cause = error.__cause__
    kind = type(error).__name__ + (f" from {type(cause).__name__}" if cause else "")
    frames = traceback.extract_tb(error.__traceback__)[-_PLACES:]
    where = " > ".join(f"{frame.name}:{frame.lineno}" for frame in frames)
    return f"{kind} at {where}" if where else kind


@contextmanager
def needs_extra(extra: str, package: str | None = None) -> Iterator[None]:
    """Say what to install where an import inside fails.

    Args:
        extra: name of the extra that brings the package.
        package: what the message calls missing; by default the module that was not found.

    Raises:
        MissingExtraError: an import failed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(package or str(error.name).partition(".")[0], extra) from error
