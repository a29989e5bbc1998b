"""A call that fails, by whatever it raises, fails the requests that caused it: few calls find them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math

import pytest

from stars_guard.errors import GenerationError, ScoringError, StarsGuardError
from stars_guard.rewards.function import FunctionReward
from stars_guard.testing import KeywordReward, ScriptedModel, SelfBatchingModel
from stars_guard.types import StopReason
from tests.support.guards import guarded, hard

SCRIPT = [["one "], ["two"]]
PROMPTS = ["bystander 1", "culprit", "bystander 2"]
DRIVERS = [lambda model: model, SelfBatchingModel]
CANCELLATIONS = [asyncio.CancelledError(), concurrent.futures.CancelledError(), GeneratorExit()]


class Raises(ScriptedModel):
    """Raises in one method, of the model or of its sessions, for the prompt of a culprit."""

    def __init__(self, place, error):
        super().__init__(SCRIPT)
        self.place, self.error, self.proposed = place, error, 0

    def _fail(self, *args):
        raise self.error

    def start(self, prompt, sampling):
        if self.place == "start" and "culprit" in prompt.as_text():
            raise self.error
        session = super().start(prompt, sampling)
        if self.place in ("accept", "close") and "culprit" in prompt.as_text():
            setattr(session, self.place, self._fail)
        return session

    def propose(self, orders):
        self.proposed += 1
        if self.place == "propose" and any("culprit" in order.session.prompt.as_text() for order in orders):
            raise self.error
        return super().propose(orders)


class Accuses(KeywordReward):
    """Raises for the prompt of a culprit; counts calls."""

    def __init__(self, error, place="score"):
        super().__init__([])
        self.error, self.place, self.calls = error, place, 0

    def score(self, requests):
        self.calls += 1
        if self.place == "score" and any("culprit" in request.prompt.as_text() for request in requests):
            raise self.error
        return super().score(requests)

    def release(self, run_id):
        if self.place == "release":
            raise self.error


def reasons(model, reward=None, prompts=PROMPTS, **parts):
    """How answers that are written together end: by a stop reason, or with an error of that type."""
    guard = guarded(model, reward, hard(**parts))
    ends = []
    for stream in [guard.stream(prompt) for prompt in prompts]:
        try:
            ends.append(stream.read().stop_reason)
        except StarsGuardError as error:
            ends.append(type(error))
    return ends


@pytest.mark.parametrize("wrap", DRIVERS)
@pytest.mark.parametrize("error", CANCELLATIONS, ids=repr)
def test_a_reward_that_is_cancelled_fails_its_own_request(wrap, error):
    eos = StopReason.EOS
    assert reasons(wrap(ScriptedModel(SCRIPT)), Accuses(error)) == [eos, ScoringError, eos]
    stopped = reasons(wrap(ScriptedModel(SCRIPT)), Accuses(error), on_error="stop")
    assert stopped == [eos, StopReason.SCORING_ERROR, eos]


@pytest.mark.parametrize("wrap", DRIVERS)
@pytest.mark.parametrize("place", ["start", "propose", "accept"])
@pytest.mark.parametrize("error", CANCELLATIONS, ids=repr)
def test_a_model_that_is_cancelled_fails_its_own_request(wrap, place, error):
    eos = StopReason.EOS
    assert reasons(wrap(Raises(place, error))) == [eos, GenerationError, eos]
    assert reasons(wrap(Raises(place, error)), on_error="stop") == [eos, StopReason.GENERATION_ERROR, eos]


@pytest.mark.parametrize("wrap", DRIVERS)
def test_what_is_cancelled_while_it_frees_something_undoes_no_answer(wrap):
    error = asyncio.CancelledError()
    assert reasons(wrap(Raises("close", error))) == [StopReason.EOS] * 3
    assert reasons(wrap(ScriptedModel(SCRIPT)), Accuses(error, "release")) == [StopReason.EOS] * 3


@pytest.mark.parametrize("wrap", DRIVERS)
def test_a_task_that_is_cancelled_inside_an_async_reward_fails_its_own_request(wrap):
    async def judge(prompt, response):
        if "culprit" in prompt:
            raise asyncio.CancelledError
        return 1.0

    eos = StopReason.EOS
    assert reasons(wrap(ScriptedModel(SCRIPT)), FunctionReward(judge)) == [eos, ScoringError, eos]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("place", ["score", "propose", "start", "close"])
def test_the_end_of_the_program_reaches_whoever_computes_in_the_main_thread(place, error):
    model = ScriptedModel(SCRIPT) if place == "score" else Raises(place, error)
    guard = guarded(model, Accuses(error) if place == "score" else None)
    with pytest.raises(type(error)):
        guard.generate("culprit")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_in_a_thread_of_the_loop_it_is_one_more_failure(error):
    eos = StopReason.EOS
    assert reasons(SelfBatchingModel(ScriptedModel(SCRIPT)), Accuses(error)) == [eos, ScoringError, eos]


class Bug(ScriptedModel):
    """Its sessions break the protocol, for the prompt of a culprit, where nobody expects it."""

    def start(self, prompt, sampling):
        session = super().start(prompt, sampling)
        if "culprit" in prompt.as_text():
            session.dialect = None
        return session


@pytest.mark.parametrize("wrap", DRIVERS)
def test_a_bug_that_concerns_one_request_ends_that_one(wrap, caplog):
    assert reasons(wrap(Bug(SCRIPT))) == [StopReason.EOS, StarsGuardError, StopReason.EOS]
    assert "internal error: AttributeError" in caplog.text


@pytest.mark.parametrize("place", [0, 17, 63])
def test_one_culprit_among_many_is_found_in_a_logarithm_of_calls(place):
    prompts = ["bystander"] * 64
    prompts[place] = "culprit"
    reward = Accuses(OSError("down"))
    ends = reasons(ScriptedModel([["only"]]), reward, prompts, on_error="stop")
    assert ends.count(StopReason.EOS) == 63
    assert ends[place] is StopReason.SCORING_ERROR
    assert reward.calls <= 2 * math.log2(64) + 1
    model = Raises("propose", OSError("down"))
    model._fixed = [["only"]]
    ends = reasons(model, None, prompts, on_error="stop")
    assert ends[place] is StopReason.GENERATION_ERROR
    assert model.proposed <= 2 * math.log2(64) + 1


def test_a_batch_of_lanes_is_asked_again_by_halves():
    prompts = ["culprit", *["bystander"] * 15]
    reward = Accuses(OSError("down"))
    ends = reasons(SelfBatchingModel(ScriptedModel([["only"]])), reward, prompts, on_error="stop")
    assert ends == [StopReason.SCORING_ERROR, *[StopReason.EOS] * 15]
