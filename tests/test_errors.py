"""The error tree, and the boundaries that name it."""

from __future__ import annotations

import inspect
import re
from textwrap import dedent

import pytest

from stars_guard import errors
from stars_guard.errors import (
    ConfigurationError,
    GenerationError,
    MissingExtraError,
    PromptError,
    ScoringError,
    StarsGuardError,
    TraceError,
    failures_as,
    kind_and_places,
)
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.function import FunctionReward
from stars_guard.testing import FailingReward, KeywordReward
from stars_guard.types import Candidate, Finish
from tests.support.guards import guarded, hard


def drawn_tree():
    """{class name: name of the class it hangs from}, read from the drawing in the docstring."""
    drawing = dedent(errors.__doc__.split("::")[1].split("An outage")[0]).strip()
    parents, above = {}, []
    for line in drawing.splitlines():
        branch, name = re.match(r"([ │├└─]*)(\w+)", line).groups()
        depth = len(branch) // 4
        parents[name] = above[depth - 1] if depth else None
        above[depth:] = [name]
    return parents


def real_tree():
    classes = [
        one
        for _, one in inspect.getmembers(errors, inspect.isclass)
        if issubclass(one, Exception) and one.__module__ == errors.__name__
    ]
    bases = {
        one.__name__: [b.__name__ for b in one.__bases__ if issubclass(b, StarsGuardError)] for one in classes
    }
    return {name: found[0] if found else None for name, found in bases.items()}


def test_the_tree_in_the_docstring_is_the_real_one():
    assert drawn_tree() == real_tree()


def test_the_classes_said_to_be_value_errors_are():
    said = set(re.findall(r"─ (\w+) .*\(also a ValueError\)", errors.__doc__))
    assert said == {"ConfigurationError", "PromptError", "TraceError"}
    for name in real_tree():
        inherited = issubclass(getattr(errors, name), ValueError)
        assert inherited == (name in said or name in ("MissingExtraError", "ContextLengthError")), name


def test_a_missing_extra_names_the_install_command():
    error = MissingExtraError("torch", "transformers")
    assert "pip install 'stars-guard[transformers]'" in str(error)
    assert "'torch'" in str(error)


def test_a_boundary_names_foreign_errors_and_keeps_their_cause():
    cause = RuntimeError("no memory")
    with (
        pytest.raises(GenerationError, match=r"^drawing failed: RuntimeError$") as caught,
        failures_as(GenerationError, "drawing"),
    ):
        raise cause
    assert caught.value.__cause__ is cause


@pytest.mark.parametrize(
    "own", [PromptError("p"), ScoringError("s"), ConfigurationError("c"), TraceError("t")]
)
def test_a_boundary_keeps_the_kind_of_an_error_of_the_tree_but_not_the_words_of_foreign_code(own):
    own.trace = object()
    kind = type(own).__name__
    with (
        pytest.raises(type(own), match=f"^drawing failed: {kind}$") as caught,
        failures_as(GenerationError, "drawing"),
    ):
        raise own
    assert caught.value.__cause__ is own
    assert caught.value.trace is own.trace


def test_a_boundary_passes_errors_of_the_package_on_unchanged():
    with pytest.raises(PromptError, match="the raw prompt is empty"), failures_as(GenerationError, "drawing"):
        Prompt.raw("")
    with pytest.raises(ConfigurationError, match=r"^c$"), failures_as(ConfigurationError, "loading"):
        raise ConfigurationError("c")


def test_an_error_of_a_class_of_the_users_own_is_one_of_the_tree():
    class AwayError(MissingExtraError):
        pass

    with pytest.raises(ConfigurationError) as caught, failures_as(ScoringError, "scoring"):
        raise AwayError("poison", "poison")
    assert type(caught.value) is ConfigurationError
    assert str(caught.value) == "scoring failed: ConfigurationError"


def test_a_boundary_lets_interrupts_and_results_through():
    with pytest.raises(KeyboardInterrupt), failures_as(GenerationError, "drawing"):
        raise KeyboardInterrupt
    with failures_as(GenerationError, "drawing"):
        result = 1
    assert result == 1


def test_errors_have_no_trace_until_one_is_attached():
    assert StarsGuardError("x").trace is None


SECRET = "unjudged words"


def test_words_of_foreign_errors_are_told_before_there_is_any_text_only():
    for own, told in ((ConfigurationError, True), (ScoringError, False), (GenerationError, False)):
        with pytest.raises(own) as caught, failures_as(own, "working"):
            raise ValueError(SECRET)
        assert (SECRET in repr(caught.value)) is told


def test_what_is_logged_of_an_error_is_its_kinds_and_places():
    with pytest.raises(ScoringError) as caught, failures_as(ScoringError, "scoring"):
        raise ValueError(SECRET)
    logged = kind_and_places(caught.value)
    assert logged.startswith("ScoringError from ValueError at test_what_is_logged")
    assert SECRET not in logged
    assert kind_and_places(KeyError(SECRET)) == "KeyError"


def test_the_repr_of_what_is_not_judged_yet_quotes_nothing():
    candidate = Candidate((7, 8), SECRET, Finish.EOS)
    request = ScoreRequest(Prompt.of(SECRET), SECRET, finished=True, tokens=2, run_id="r")
    assert repr(candidate) == "Candidate(2 tokens, 14 characters, finish=eos)"
    assert repr(request) == "ScoreRequest(answer, 14 characters, 2 tokens, finished=True, run_id='r')"


class Released(KeywordReward):
    """Fails where it forgets, and says what it forgets."""

    def release(self, run_id):
        raise OSError(SECRET)


REWARDS = {
    "text for a number": FunctionReward(lambda prompt, response: response),
    "an error that quotes": FailingReward(ValueError(SECRET)),
    "a cache that is not freed": Released([]),
}


@pytest.mark.parametrize("reward", REWARDS.values(), ids=REWARDS)
@pytest.mark.parametrize("on_error", ["raise", "stop"])
def test_neither_messages_nor_log_lines_quote_a_candidate(reward, on_error, caplog):
    llm = guarded([[SECRET]], reward, hard(on_error=on_error))
    try:
        llm.generate("x")
    except ScoringError as error:
        assert SECRET not in repr(error)  # noqa: PT017 - some of them answer
    assert SECRET not in caplog.text
