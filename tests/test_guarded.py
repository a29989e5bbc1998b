"""The facade: one law on every path, nothing unaccepted shown, no cross-talk."""

from __future__ import annotations

import asyncio
import doctest
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from stars_guard import guarded
from stars_guard.algorithm.candidates import Adaptive, Fixed
from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.algorithm.escalation import SaferModel, SafetyHint
from stars_guard.algorithm.overrides import Overrides, RequestSettings, SamplingOverrides
from stars_guard.algorithm.random_numbers import uniform
from stars_guard.algorithm.replay import replay
from stars_guard.algorithm.rules import Best, Constant, Hard, Last, LinearInTokens, Raise, Refuse
from stars_guard.errors import ConfigurationError, NoAcceptableSegment, PromptError, ScoringError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading import parts
from stars_guard.loading.names import model_spec, reward_spec
from stars_guard.loop.events import Request
from stars_guard.models.base import Proposal
from stars_guard.prompts import Prompt
from stars_guard.testing import FakeSession, KeywordReward, ScriptedModel
from stars_guard.types import Candidate, Channel, Finish, Reward, StopReason

WORDS = ("lovely", "MARKERWORD", "quiet", "MARKERWORD", "MARKERWORD", "warm")
SEGMENTS = 3


class Echo:
    """Repeats its prompt, each time with a word drawn by the addressed random number; half are the marker."""

    def __init__(self):
        self.name = "echo"
        self.sessions = []

    def start(self, prompt, sampling):
        self.sessions.append(FakeSession(prompt, sampling))
        return self.sessions[-1]

    def propose(self, orders):
        return [self._proposal(order, order.session) for order in orders]

    def _proposal(self, order, session):
        if not order.alive():
            return Proposal((), 0)
        session.forward_passes += 1
        attempts = range(order.first_attempt, order.first_attempt + order.candidates)
        candidates = tuple(self._candidate(order, session, attempt) for attempt in attempts)
        return Proposal(candidates, sum(len(one.token_ids) for one in candidates))

    def _candidate(self, order, session, attempt):
        draw = uniform(session.sampling.seed, order.segment, attempt, 0)
        segment = f"{session.prompt.as_text()}:{WORDS[int(draw * len(WORDS))]} "
        finish = Finish.EOS if order.segment == SEGMENTS - 1 else None
        return Candidate(tuple(map(ord, segment)), session.text + segment, finish)


def guard(**changes):
    parts = {
        "threshold": Constant(target=0.5),
        "acceptance": Hard(),
        "drawing": Adaptive(),
        "exhaustion": Raise(),
        "max_attempts": 100,
        **changes,
    }
    return GuardConfig(**parts)


def echo(config=None, **parts):
    return StarsGuardedLLM(Echo(), KeywordReward(["markerword"]), config or guard(), **parts)


def seeded(seed):
    return SamplingParams(seed=seed)


def comparable(result):
    return (
        result.text,
        result.token_ids,
        result.stop_reason,
        [segment.model_dump(exclude={"drawn"}) for segment in result.trace.segments],
        result.usage.kept_tokens,
    )


@pytest.mark.parametrize("seed", range(3))
async def test_every_path_gives_the_same_answer_for_the_same_seed(seed):
    llm, sampling = echo(), seeded(seed)
    expected = await asyncio.to_thread(llm.generate, "hello", sampling=sampling)
    stream = llm.stream("hello", sampling=sampling)
    assert "".join(stream) == expected.text
    astream = llm.astream("hello", sampling=sampling)
    assert "".join([piece async for piece in astream]) == expected.text
    results = [
        stream.result,
        astream.result,
        await llm.agenerate("hello", sampling=sampling),
        *(await asyncio.to_thread(llm.batch, ["hello", "other", "hello"], sampling=sampling))[::2],
        await asyncio.to_thread(echo().generate, Prompt.of("hello"), sampling=sampling),
    ]
    assert [comparable(one) for one in results] == [comparable(expected)] * len(results)
    assert expected.text.count("hello:") == SEGMENTS
    assert replay(expected.trace) == []


# Fields of sampling as keywords


async def test_fields_of_sampling_are_keywords_of_every_call():
    llm = echo(sampling=SamplingParams(seed=3, top_p=0.5))
    wanted = SamplingParams(seed=3, top_p=0.5, max_tokens=8, temperature=0.2, stop=("END",))
    fields = {"max_tokens": 8, "temperature": 0.2, "stop": "END", "top_k": None}
    results = [
        await asyncio.to_thread(llm.generate, "hello", **fields),
        await llm.agenerate("hello", **fields),
        *await asyncio.to_thread(llm.batch, ["hello", "other"], **fields),
    ]
    with llm.stream("hello", **fields) as stream:
        results.append(await asyncio.to_thread(stream.read))
    async with llm.astream("hello", **fields) as stream:
        results.append(await stream.read())
    assert [result.trace.sampling for result in results] == [wanted] * len(results)


def test_fields_change_the_sampling_that_is_given_beside_them():
    llm = echo(sampling=seeded(1))
    result = llm.generate("hello", sampling=SamplingParams(seed=2, top_k=9), seed=5)
    assert result.trace.sampling == SamplingParams(seed=5, top_k=9)
    results = llm.batch(["a", "b"], sampling=[seeded(1), seeded(2)], top_k=4)
    assert [(one.trace.sampling.seed, one.trace.sampling.top_k) for one in results] == [(1, 4), (2, 4)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"max_token": 8},
            r"unknown setting of a call 'max_token' \(did you mean 'max_tokens'\?\); there are:",
        ),
        ({"xyz": None}, "unknown setting of a call 'xyz'; there are: sampling, config, budget, max_tokens"),
        ({"temperature": -1}, "temperature=-1: "),
        ({"sampling": {"seed": 1}, "seed": 2}, "sampling is dict; pass SamplingParams"),
    ],
)
def test_wrong_keywords_are_named_with_what_there_is(settings, message):
    llm = echo()
    with pytest.raises(ConfigurationError, match=message):
        llm.generate("hello", **settings)
    with pytest.raises(ConfigurationError, match=message):
        asyncio.run(llm.agenerate("hello", **settings))
    if "sampling" not in settings:
        with pytest.raises(ConfigurationError, match=message):
            llm.batch(["hello"], **settings)


def test_every_field_of_sampling_is_a_keyword():
    assert SamplingOverrides.__annotations__.keys() == SamplingParams.model_fields.keys()
    assert Overrides.__annotations__.keys() - SamplingParams.model_fields.keys() == {*RequestSettings._fields}


def test_a_guard_and_its_parts_are_shown_by_their_names():
    llm = StarsGuardedLLM(Echo(), KeywordReward(["x"]), GuardConfig(threshold=0.5))
    config = "GuardConfig(threshold=Constant(target=0.5))"
    assert repr(llm) == f"StarsGuardedLLM(model='echo', reward='keywords', config={config})"
    assert repr(llm.reward) == "KeywordReward('keywords')"
    assert repr(ScriptedModel([["secret"]])) == "ScriptedModel('scripted')"


def test_the_example_in_the_docstring_runs():
    found = doctest.DocTestFinder().find(guarded.StarsGuardedLLM, globs={})
    results = [doctest.DocTestRunner().run(one) for one in found if one.examples]
    assert results
    assert all(one.failed == 0 and one.attempted > 0 for one in results)


# Nothing unaccepted is ever shown


@pytest.mark.parametrize(
    "config",
    [
        guard(),
        guard(drawing=Fixed(candidates=8)),
        guard(max_attempts=2, exhaustion=Refuse()),
        guard(max_attempts=2, exhaustion=Best()),
        guard(max_attempts=2, exhaustion=Raise()),
        guard(max_attempts=2, on_error="stop"),
    ],
    ids=["uncapped", "eight at once", "refuse", "best", "raise", "stop"],
)
def test_rejected_text_appears_nowhere(config, caplog):
    caplog.set_level(logging.DEBUG)
    model, reward = Echo(), KeywordReward(["markerword"])
    llm = StarsGuardedLLM(model, reward, config)
    decisions = []
    places = []
    for seed in range(40):
        stream = llm.stream("hello", sampling=seeded(seed), on_decision=decisions.append)
        try:
            places += list(stream)
            places += [stream.result.text, stream.result.model_dump_json()]
            places.append("".join(map(chr, stream.result.token_ids)))
        except NoAcceptableSegment as error:
            places += [str(error), error.trace.model_dump_json()]
    assert any("MARKERWORD" in request.response for request in reward.seen)
    assert any(not judged.attempt.accepted for judged in decisions)
    places += [repr(judged) for judged in decisions] + [caplog.text]
    places += [repr(record.__dict__) for record in caplog.records]
    assert not [place for place in places if "markerword" in place.lower()]
    assert not any("MARKERWORD" in session.text for session in model.sessions)


def test_rejected_text_is_in_the_trace_when_asked_for_and_only_there():
    result = echo(guard(keep_rejected_text=True)).generate("hello", sampling=seeded(1))
    assert "MARKERWORD" in result.trace.model_dump_json()
    assert "MARKERWORD" not in result.text


def test_a_forced_segment_is_shown_and_says_so(caplog):
    llm = StarsGuardedLLM(
        ScriptedModel([["MARKERWORD"]]),
        KeywordReward(["markerword"]),
        guard(max_attempts=3, exhaustion=Last(), floor=-1),
    )
    result = llm.generate("hello")
    assert result.text == "MARKERWORD"
    assert result.forced == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "forced" in caplog.text
    assert "MARKERWORD" not in caplog.text


# Many at once


def alone(prompts):
    return [comparable(echo().generate(prompt, sampling=seeded(n))) for n, prompt in enumerate(prompts)]


async def test_32_tasks_and_16_threads_on_one_guard_do_not_mix():
    llm = echo(max_rows=24)
    prompts = [f"prompt-{number:03}" for number in range(48)]
    barrier = threading.Barrier(16)

    def in_thread(number):
        barrier.wait(5)
        return llm.generate(prompts[number], sampling=seeded(number))

    with ThreadPoolExecutor(16) as pool:
        loop = asyncio.get_running_loop()
        threads = [loop.run_in_executor(pool, in_thread, number) for number in range(32, 48)]
        tasks = [llm.agenerate(prompts[number], sampling=seeded(number)) for number in range(32)]
        results = await asyncio.gather(*tasks, *threads)
    for prompt, result in zip(prompts, results, strict=True):
        assert result.text.count(prompt) == result.text.count("prompt") == SEGMENTS
        assert replay(result.trace) == []
    assert [comparable(result) for result in results] == alone(prompts)
    assert len(llm.reward.released) == len(set(llm.reward.released)) == 48
    assert all(session.closed for session in llm.model.sessions)


def test_a_batch_equals_one_at_a_time():
    prompts = [f"prompt-{number:03}" for number in range(10)]
    results = echo().batch(prompts, sampling=[seeded(number) for number in range(10)])
    assert [comparable(result) for result in results] == alone(prompts)
    assert echo().batch([]) == []


def test_a_batch_takes_one_sampling_for_all_or_one_each():
    with pytest.raises(ConfigurationError, match="2 prompts but 1 sampling parameters"):
        echo().batch(["a", "b"], sampling=[seeded(1)])
    results = echo().batch(["a", "b"])
    assert len({result.trace.sampling.seed for result in results}) == 2


class Poisoned(KeywordReward):
    def score(self, requests):
        if any("poison" in request.prompt.as_text() for request in requests):
            raise OSError("down")
        return super().score(requests)


def test_the_first_failure_of_a_batch_is_raised_and_stops_the_others():
    reward = Poisoned(["markerword"])
    llm = StarsGuardedLLM(Echo(), reward, guard())
    with pytest.raises(ScoringError, match="scoring with keywords failed: OSError"):
        llm.batch(["fine", "poison", "fine too"])
    join_workers()
    assert all(session.closed for session in llm.model.sessions)
    results = llm.batch(["fine", "poison", "fine too"], config=guard(on_error="stop"))
    assert [result.stop_reason for result in results] == [
        StopReason.EOS,
        StopReason.SCORING_ERROR,
        StopReason.EOS,
    ]


def test_a_bad_prompt_in_a_batch_stops_those_submitted_before_it():
    llm = echo()
    with pytest.raises(PromptError):
        llm.batch(["fine", ""])
    join_workers()
    assert all(session.closed for session in llm.model.sessions)


def join_workers():
    for thread in threading.enumerate():
        if thread.name == "stars-guard":
            thread.join(5)
            assert not thread.is_alive()


# Settings and errors of the facade


def test_settings_of_the_guard_are_defaults_and_calls_may_differ():
    llm = echo(sampling=seeded(7), budget=Budget(max_reward_calls=1))
    assert llm.generate("hello").stop_reason is StopReason.REWARD_BUDGET
    result = llm.generate("hello", sampling=seeded(8), budget=Budget(), config=guard(refusal_text="x"))
    assert result.stop_reason is StopReason.EOS
    assert result.trace.sampling.seed == 8
    assert result.trace.config.refusal_text == "x"
    assert (llm.sampling.seed, llm.budget.max_reward_calls) == (7, 1)
    assert (llm.model.name, llm.reward.name) == ("echo", "keywords")
    assert (result.trace.model, result.trace.reward) == ("echo", "keywords")


async def test_a_complete_request_is_served_as_it_is():
    llm = echo(sampling=seeded(7), budget=Budget(max_reward_calls=1))
    request = Request(Prompt.of("hello"), seeded(8), guard(refusal_text="x"), Budget())
    judged = []
    async with llm.astream_request(request, judged.append) as stream:
        result = await stream.read()
    assert result.stop_reason is StopReason.EOS
    assert (result.trace.sampling, result.trace.config) == (request.sampling, request.config)
    assert [event.attempt for event in judged] == [
        attempt for segment in result.trace.segments for attempt in segment.attempts
    ]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"prompt": "hello"}, ConfigurationError, "prompt is str; pass a Prompt"),
        ({"sampling": {"seed": 1}}, ConfigurationError, "sampling is dict; pass SamplingParams"),
        ({"config": None}, ConfigurationError, "config is NoneType; pass a GuardConfig"),
        ({"budget": 3}, ConfigurationError, "budget is int; pass a Budget"),
        ({"config": guard(escalation=(SaferModel(),))}, ConfigurationError, "safer_model needs a model"),
        ({"prompt": Prompt.raw("x"), "config": guard(escalation=(SafetyHint(),))}, PromptError, "hint"),
    ],
)
async def test_a_complete_request_is_checked_like_any_other(changes, error, message):
    llm = echo()
    request = Request(Prompt.of("hello"), seeded(8), guard(), Budget())
    with pytest.raises(error, match=message):
        llm.astream_request(replace(request, **changes))
    assert llm.model.sessions == []


def test_settings_that_the_guard_was_given_later_are_checked_too():
    llm = echo()
    llm.config = guard(escalation=(SaferModel(),))
    with pytest.raises(ConfigurationError, match="safer_model needs a model"):
        llm.generate("hello")


@pytest.mark.parametrize("prompt", ["", [], [{"role": "user"}]], ids=repr)
async def test_a_bad_prompt_is_refused_at_the_call(prompt):
    llm = echo()
    for call in (llm.generate, llm.stream, llm.astream, lambda one: llm.batch([one])):
        with pytest.raises(PromptError):
            call(prompt)
    with pytest.raises(PromptError):
        await llm.agenerate(prompt)
    assert llm.model.sessions == []


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((object(), KeywordReward([]), guard()), "model is object; pass a language model"),
        ((KeywordReward([]), Echo(), guard()), "model is KeywordReward; pass a language model"),
        ((Echo(), len, guard()), "reward is builtin_function_or_method; pass a reward model"),
        ((Echo(), KeywordReward([]), Constant(target=1)), "config is Constant; pass a GuardConfig"),
        ((Echo(), KeywordReward([]), None), "config is NoneType; pass a GuardConfig"),
    ],
)
def test_a_wrong_part_is_a_configuration_error(parts, message):
    with pytest.raises(ConfigurationError, match=message):
        StarsGuardedLLM(*parts)


def test_max_rows_must_be_positive():
    with pytest.raises(ConfigurationError, match="max_rows=0"):
        echo(max_rows=0)


def test_load_takes_its_parts_from_the_loaders(monkeypatch):
    asked = []

    def loader(part):
        def load(*args):
            asked.append(args)
            return part

        return load

    model, reward, config = Echo(), KeywordReward([]), guard()
    for name, part in (("model", model), ("reward", reward), ("config", config)):
        monkeypatch.setattr(f"stars_guard.loading.parts.load_{name}", loader(part))

    class Mine(StarsGuardedLLM):
        pass

    llm = Mine.load("m", "r", model_options={"a": 1}, max_rows=3, budget=Budget(max_seconds=9))
    assert type(llm) is Mine
    assert (llm.model, llm.reward, llm.config) == (model, reward, config)
    assert llm.budget.max_seconds == 9
    which = model_spec("m"), reward_spec("r")
    assert sorted(asked, key=str) == sorted([(which[0], {"a": 1}), (which[1], {}), (None, which[1])], key=str)


def test_a_ramp_uses_the_base_reward_of_each_prompt():
    class ByPrompt(KeywordReward):
        def score(self, requests):
            return [
                Reward(float(request.prompt.as_text()) if not request.response else 1.0)
                for request in requests
            ]

    llm = StarsGuardedLLM(Echo(), ByPrompt([]), guard(threshold=LinearInTokens(target=0.5), floor=-9))
    results = llm.batch(["-1.5", "0.25"])
    assert [result.trace.base_rewards[Channel.ANSWER] for result in results] == [-1.5, 0.25]


def test_shared_guards_load_once_per_ids_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load_model(path, options):
        loaded.append((path, dict(options)))
        return ScriptedModel([["one"]])

    monkeypatch.setattr(parts, "load_model", load_model)
    monkeypatch.setattr(parts, "load_reward", lambda path, options: KeywordReward([]))
    monkeypatch.setattr(parts, "_SHARED", {})
    config, other = (GuardConfig(threshold=Constant(target=target)) for target in (0.0, 0.5))
    first = StarsGuardedLLM.shared("m", "r", config, budget=Budget(max_seconds=9))
    second = StarsGuardedLLM.shared("m", "r", other, sampling=SamplingParams(max_tokens=3))
    assert first.loop is second.loop
    assert (first.config, second.config) == (config, other)
    assert (first.budget.max_seconds, second.sampling.max_tokens) == (9, 3)
    assert first.generate("Hi").text == "one"
    third = StarsGuardedLLM.shared("m", "r", config, model_options={"dtype": "float32"})
    assert third.loop is not first.loop
    assert loaded == [(model_spec("m"), {}), (model_spec("m"), {"dtype": "float32"})]


def test_a_summary_says_what_the_guard_did():
    llm = StarsGuardedLLM(ScriptedModel([["bad", "good "], ["end"]]), KeywordReward(["bad"]), guard())
    result = llm.generate("Hi")
    assert result.summary == {
        "segments": 2,
        "attempts": 3,
        "forced": 0,
        "escalated": 0,
        "withdrawn": 0,
        "refused": False,
        "guarantee": "token_ids",
        "rewards": [1.0, 1.0],
    }


def test_a_reward_is_told_how_many_tokens_the_answer_has():
    reward = KeywordReward(["poison"])
    ramp = GuardConfig(
        threshold=LinearInTokens(target=1.0), acceptance=Hard(), floor=0, drawing=Fixed(candidates=1)
    )
    llm = StarsGuardedLLM(ScriptedModel([["abcd"], ["poison", "efg"]]), reward, ramp)
    llm.generate("Go on.")
    # The bare prompt is scored first, once for the answer and once for reasoning.
    assert [request.tokens for request in reward.seen] == [0, 0, 4, 10, 7]
