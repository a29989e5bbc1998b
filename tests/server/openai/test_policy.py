"""What a request may set: it can raise the operator's bar, and lower it only where that was allowed."""

from __future__ import annotations

import math
from itertools import product
from operator import attrgetter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from stars_guard import (
    Adaptive,
    Best,
    Budget,
    Constant,
    GuardConfig,
    Last,
    LinearInTokens,
    Raise,
    Refuse,
    SamplingParams,
)
from stars_guard.algorithm.acceptance import AcceptanceKey
from stars_guard.algorithm.openings import WriteRefusal
from stars_guard.algorithm.rules import FrontLoaded, Hard, LinearInSegments, Position, Soft, Table
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import ConfigurationError
from stars_guard.server.anthropic.wire import MessagesRequest
from stars_guard.server.app import create_app
from stars_guard.server.doors import of_message, of_response
from stars_guard.server.entry.gate import LITELLM
from stars_guard.server.judging.verdicts import held
from stars_guard.server.openai.faults import Fault
from stars_guard.server.openai.limits import RequestLimits, SizeLimits
from stars_guard.server.openai.policy import RequestPolicy
from stars_guard.server.openai.translate import Translator
from stars_guard.server.openai.wire import ChatRequest, CompletionRequest, Stars
from stars_guard.server.responses.wire import ResponseRequest
from stars_guard.types import Channel, Reward
from tests.support.server_client import BAD, CHAT, asking, guard, quiet, served

SECRET = AcceptanceKey.fresh()
DOORS = {
    CHAT: (asking(), ChatRequest, attrgetter("chat")),
    "/v1/completions": ({"prompt": "Hi"}, CompletionRequest, attrgetter("completion")),
    "/v1/responses": ({"input": "Hi"}, ResponseRequest, of_response),
    "/v1/messages": (asking(max_tokens=9), MessagesRequest, of_message),
}
"""A request for each door by which an answer is asked for, its fields, and what reads them."""
OPERATOR = GuardConfig(
    threshold=LinearInTokens(target=1.0), acceptance=Soft(beta=0.5), max_attempts=10, exhaustion=Last()
)
DRAWN = SamplingParams(temperature=0.8, top_p=0.9, top_k=40, min_p=0.1, stop=("User:",), stop_token_ids=(7,))


def policy(config=OPERATOR, sampling=DRAWN, budget=None, **limits):
    limits = {"temperature": "stricter", "top_p": "stricter", **limits}
    return RequestPolicy(RequestLimits(**limits), config, sampling, budget or Budget(max_seconds=60))


def chat(**fields):
    return ChatRequest.model_validate({"messages": [{"role": "user", "content": "Hi"}], **fields})


WEAKER = [
    ({"target": 0.9}, "stars.target=0.9: at least 1 is allowed here"),
    ({"beta": 0.6}, "stars.beta=0.6: at most 0.5 is allowed here"),
    ({"segment_tokens": 1}, "stars.segment_tokens=1: it is not a request's to choose here, where it is 32"),
    ({"segment_tokens": 33}, "stars.segment_tokens=33: it is not a request's to choose here"),
    ({"max_attempts": 11}, "stars.max_attempts=11: at most 10 is allowed here"),
    ({"max_seconds": 61}, "stars.max_seconds=61: at most 60 is allowed here"),
]


@pytest.mark.parametrize(("fields", "message"), WEAKER)
def test_a_weaker_guard_is_refused_with_field_range_and_remedy(fields, message):
    with pytest.raises(Fault) as fault:
        policy().guarding(Stars(**fields), DRAWN)
    (name,) = fields
    assert fault.value.message.startswith(message)
    assert fault.value.message.endswith(f"; the operator can allow it by limits.requests.{name}")
    assert (fault.value.status, fault.value.param) == (400, f"stars.{name}")


LIVELIER = [
    ({"temperature": 0.9}, "temperature=0.9: over 0 and at most 0.8 is allowed here"),
    ({"temperature": 0.0}, "temperature=0: over 0 and at most 0.8 is allowed here"),
    ({"top_p": 0.95}, "top_p=0.95: at most 0.9 is allowed here"),
    ({"top_k": 41}, "top_k=41: 1 to 40 is allowed here"),
    ({"top_k": 0}, "top_k=0: 1 to 40 is allowed here"),
    ({"min_p": 0.05}, "min_p=0.05: at least 0.1 is allowed here"),
    (
        {"repetition_penalty": 1.1},
        "repetition_penalty=1.1: it is not a request's to choose here, where it is 1",
    ),
]


@pytest.mark.parametrize(("fields", "message"), LIVELIER)
def test_livelier_drawing_is_refused_likewise(fields, message):
    with pytest.raises(Fault) as fault:
        policy().proposing(chat(**fields))
    assert fault.value.message.startswith(message)
    assert fault.value.param == next(iter(fields))


def test_a_greedy_operator_has_greedy_requests_only():
    greedy = policy(sampling=SamplingParams(temperature=0))
    assert greedy.proposing(chat(temperature=0.0)).temperature == 0
    with pytest.raises(Fault, match=r"temperature=0\.1: 0 is allowed here"):
        greedy.proposing(chat(temperature=0.1))


def test_what_is_stricter_or_the_operators_own_is_taken():
    config, budget = policy().guarding(Stars(target=2.0, beta=0, max_attempts=3, max_seconds=5), DRAWN)
    assert (config.threshold.target, config.acceptance, config.max_attempts) == (2.0, Hard(), 3)
    assert budget == Budget(max_seconds=5)
    own = Stars(target=1.0, beta=0.5, segment_tokens=32, max_attempts=10, max_seconds=60, max_reward_calls=9)
    assert policy().guarding(own, DRAWN) == (OPERATOR, Budget(max_seconds=60, max_reward_calls=9))
    drawn = policy().proposing(chat(temperature=0.5, top_p=0.5, top_k=5, min_p=0.2, repetition_penalty=1.0))
    assert (drawn.temperature, drawn.top_p, drawn.top_k, drawn.min_p) == (0.5, 0.5, 5, 0.2)
    assert policy(sampling=SamplingParams()).proposing(chat(top_k=5)).top_k == 5


def test_the_operators_stops_hold_beside_those_of_a_request():
    drawn = policy().proposing(chat(stop="END", stop_token_ids=[9, 7]))
    assert (drawn.stop, drawn.stop_token_ids) == (("User:", "END"), (7, 9))
    assert policy().proposing(chat(stop=["a", "User:"])).stop == ("User:", "a")


@pytest.mark.parametrize("fields", [{"target": 2.0}, {"beta": 0.1}, {"max_attempts": 9}])
@pytest.mark.parametrize("exhaustion", [Last(), Best(floor=-9), Refuse(), Raise()])
def test_a_request_gets_no_text_by_a_bar_so_high_that_it_is_forced(fields, exhaustion):
    config, _ = policy(OPERATOR.changed(exhaustion=exhaustion)).guarding(Stars(**fields), DRAWN)
    assert config.exhaustion == (Raise() if exhaustion == Raise() else Refuse())


def test_within_an_operators_range_all_goes_unchanged():
    allowing = policy(
        target={"least": 0.0},
        max_attempts={"most": 20},
        segment_tokens={"least": 8, "most": 64},
        temperature={"least": 0, "most": 1.5},
        max_seconds={"most": 100},
    )
    config, _ = allowing.guarding(Stars(target=0.5, max_attempts=20, segment_tokens=64), DRAWN)
    assert (config.threshold.target, config.max_attempts, config.exhaustion) == (0.5, 20, Last())
    assert allowing.proposing(chat(temperature=0.0)).temperature == 0
    for stars, message in [
        (Stars(target=-1.0), "at least 0 is allowed here"),
        (Stars(segment_tokens=65), "at most 64 is allowed here"),
        (Stars(max_seconds=80), "at most 60 is allowed here"),  # the budget is the operator's as well
    ]:
        with pytest.raises(Fault, match=message):
            allowing.guarding(stars, DRAWN)


FREE = {
    "seed": 3,
    "stop": "x",
    "stop_token_ids": [1],
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "response_format": {"type": "json_object"},
}


@pytest.mark.parametrize("name", FREE)
def test_what_is_free_can_be_closed(name):
    policy().proposing(chat(**{name: FREE[name]}))
    closed = policy(**{name: "fixed"})
    with pytest.raises(Fault, match=f"{name} is not a request's to choose here; .*limits.requests.{name}"):
        closed.proposing(chat(**{name: FREE[name]}))
    closed.proposing(chat(tools=[], response_format={"type": "text"}))


def test_a_budget_that_may_not_be_chosen_may_be_left():
    with pytest.raises(Fault, match="max_reward_calls=3: it is not a request's to choose here; "):
        policy(max_reward_calls="fixed").guarding(Stars(max_reward_calls=3), DRAWN)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"segment_tokens": "stricter"}, "fixed"),
        ({"target": "lower"}, "stricter"),
        ({"seed": {"least": 1}}, "any"),
    ],
)
def test_a_limit_that_is_none_is_refused_at_construction(limits, message):
    with pytest.raises(ConfigurationError, match=message):
        RequestLimits(**limits)


async def test_a_table_has_no_target_of_its_own():
    table = GuardConfig(threshold=Table(positions=(8, 16), thresholds=(0.0, 1.0)))
    assert policy(table).guarding(Stars(target=1.0), DRAWN)[0] == table
    with pytest.raises(Fault, match="target") as fault:
        policy(table).guarding(Stars(target=2.0), DRAWN)
    assert fault.value.param == "stars"


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 1.1},
        {"stars": {"max_attempts": 21}},
        {"stars": {"segment_tokens": 1}},
        {"repetition_penalty": 1.5},
        {"stars": {"threshold": {"kind": "constant", "target": -9}}},
        {"stars": {"alpha": 0}},
        {"stars": {"floor": -9}},
        {"stars": {"exhaustion": {"kind": "last"}}},
        {"stars": {"on_error": "stop"}},
        {"stars": {"keep_rejected_text": True}},
    ],
)
@pytest.mark.parametrize("path", DOORS)
async def test_over_http_each_is_a_400_that_names_its_field(fields, path):
    async with served(guard(), quiet()) as client:
        response = await client.post(path, json={**DOORS[path][0], **fields})
    (name, value) = next(iter(fields.items()))
    named = f"{name}.{next(iter(value))}" if isinstance(value, dict) else name
    assert (response.status_code, response.json()["error"]["param"]) == (400, named)


numbers = st.floats(-4, 4, allow_nan=False)
positive = st.floats(0.01, 4, allow_nan=False)
fractions = st.floats(0.01, 1, allow_nan=False)
thresholds = st.one_of(
    st.builds(LinearInTokens, target=numbers, alpha=fractions),
    st.builds(LinearInSegments, target=numbers, alpha=fractions, segments=st.integers(1, 5)),
    st.builds(Constant, target=numbers),
    st.builds(lambda target, over: FrontLoaded(target=target, start=target + over), numbers, positive),
    st.builds(lambda a, b: Table(positions=(8, 16), thresholds=(a, b)), numbers, numbers),
)
configs = st.builds(
    GuardConfig,
    threshold=thresholds,
    acceptance=st.one_of(st.builds(Soft, beta=positive), st.just(Hard())),
    segments=st.builds(FixedLength, max_tokens=st.integers(1, 64)),
    max_attempts=st.integers(1, 30),
    exhaustion=st.sampled_from([Best(), Best(floor=-9.0), Last(), Refuse(), Raise()]),
)
drawing = st.builds(
    SamplingParams,
    temperature=st.one_of(st.just(0.0), fractions),
    top_p=fractions,
    top_k=st.integers(0, 50),
    min_p=st.just(0.0) | fractions,
    repetition_penalty=st.sampled_from([1.0, 1.2]),
)
asks = st.builds(
    Stars,
    target=st.none() | numbers,
    beta=st.none() | st.just(0.0) | positive,
    segment_tokens=st.none() | st.integers(1, 64),
    max_attempts=st.none() | st.integers(1, 30),
    max_seconds=st.none() | positive,
    max_reward_calls=st.none() | st.integers(1, 9),
)
draws = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.just(0.0) | st.floats(0.01, 2),
        "top_p": fractions,
        "top_k": st.integers(0, 50),
        "min_p": st.just(0.0) | fractions,
        "repetition_penalty": st.sampled_from([0.5, 1.0, 1.2, 2.0]),
        "stop": st.sampled_from(["a", ["b", "c"]]),
    },
)
PLACES = [
    Position(tokens, tokens // 8 + 1, 64, base) for tokens, base in product((1, 8, 33, 64), (-3.0, 0.0, 3.0))
]
REWARDS = [reward / 2 for reward in range(-10, 11)]


def test_what_clients_send_as_a_matter_of_course_is_taken():
    own = RequestPolicy(RequestLimits(), OPERATOR, DRAWN, Budget())
    for fields in ({"temperature": 0}, {"temperature": 1, "top_p": 1}):
        own.proposing(chat(**fields))
    with pytest.raises(Fault, match=r"temperature=1\.1: at most 1 is allowed here"):
        own.proposing(chat(temperature=1.1))


@pytest.mark.parametrize(
    "fields", [{"temperature": 0}, {"temperature": 1e-7}, {"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1}]
)
def test_candidates_that_are_all_alike_are_accepted_by_the_rule_or_refused(fields):
    own = RequestPolicy(RequestLimits(), OPERATOR, DRAWN, Budget())
    narrow = own.proposing(chat(**fields))
    assert own.guarding(Stars(), narrow)[0] == OPERATOR.changed(exhaustion=Refuse())
    # Where the operator draws like that, the policy is what the operator chose for it.
    assert policy(sampling=narrow).guarding(Stars(), narrow)[0] == OPERATOR


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"temperature": 0.01}, {"top_p": 0.01}])
async def test_a_request_near_temperature_0_is_repaired_and_never_forced(fields):
    watched = {"exhaustion": Last(), "floor": -9.0, "max_attempts": 3}
    async with served(guard(**watched), quiet()) as client:
        repaired = (await client.post(CHAT, json=asking(**fields))).json()
    assert repaired["choices"][0]["message"]["content"] == "one two three"
    async with served(guard([["poison one", "poison two"]], **watched), quiet()) as client:
        refused = (await client.post(CHAT, json=asking(**fields))).json()
    assert refused["choices"][0]["finish_reason"] == "content_filter"
    assert refused["stars"][0]["attempts"] == 3


def test_ordinary_sampling_leaves_the_policy():
    own = RequestPolicy(RequestLimits(), OPERATOR, DRAWN, Budget())
    assert own.guarding(Stars(), own.proposing(chat(temperature=0.5, top_p=0.8)))[0] == OPERATOR


def test_failing_more_often_does_not_lower_a_stricter_bar():
    slack = OPERATOR.changed(drawing=Adaptive(slack=2.0, target_rate=0.9))
    taken, _ = policy(slack).guarding(Stars(target=1.15), DRAWN)
    assert taken.drawing == Adaptive(slack=0.0, target_rate=0.9)
    assert policy(slack).guarding(Stars(), DRAWN)[0] == slack


def test_the_floor_of_a_policy_that_a_request_does_without_stays():
    own = OPERATOR.changed(acceptance=Soft(beta=2.0), exhaustion=Best(floor=OPERATOR.threshold.target - 9.0))
    taken, _ = policy(own).guarding(Stars(max_attempts=own.max_attempts - 1), DRAWN)
    assert taken.exhaustion == Refuse()
    assert taken.lowest == own.lowest == own.exhaustion.floor


def _forcing(policy):
    return isinstance(policy, Best | Last)


@given(configs, asks, st.one_of(st.none(), positive))
def test_no_request_that_is_taken_weakens_the_guard(config, stars, seconds):
    own = policy(config, budget=Budget(max_seconds=seconds))
    try:
        taken, budget = own.guarding(stars, DRAWN)
    except Fault:
        return
    assert taken.max_attempts <= config.max_attempts
    assert taken.segments == config.segments
    assert (budget.max_seconds or math.inf) <= (seconds or math.inf)
    assert _forcing(taken.exhaustion) <= _forcing(config.exhaustion)
    if _forcing(taken.exhaustion):
        assert taken == config
    for channel, at in product(Channel, PLACES):
        before, after = config.rules(channel), taken.rules(channel)
        assert after.lowest >= before.lowest
        for reward in REWARDS:
            most = before.probability(reward, before.bar(at))
            assert after.probability(reward, after.bar(at)) <= most + 1e-12


def asked_by(path, own, fields):
    """How the guard answers what is asked by a door, and what for; None where it is refused."""
    body, wire, read = DOORS[path]
    translator = Translator("stars-guard", own, SizeLimits(), traces=False, acceptance_key=SECRET)
    try:
        (request,) = read(translator)(wire.model_validate({**body, "seed": 7, **fields}), None).requests
    except (Fault, ValidationError):
        return None
    return request.config, request.budget, request.sampling.changed(max_tokens=1)


OWN = GuardConfig(threshold=Constant(target=1.0))


@given(configs, asks, drawing, draws)
@example(OWN, Stars(), SamplingParams(), {"stop": ["a"], "temperature": 0.5})
@example(OWN, Stars(target=2.0, max_attempts=2), SamplingParams(), {})
@example(OWN, Stars(target=0.5), SamplingParams(), {})
def test_all_doors_let_a_request_have_the_same(config, stars, sampling, fields):
    own = policy(config, sampling, Budget(max_seconds=60))
    fields = {**fields, "stars": stars.model_dump(exclude_none=True)}
    taken = asked_by(CHAT, own, fields)
    for path in DOORS:
        named = dict(fields)
        if path == "/v1/messages" and "stop" in named:
            named["stop_sequences"] = list(named.pop("stop"))
        assert asked_by(path, own, named) == taken, path


@given(configs, asks)
def test_no_request_lowers_the_bar_that_texts_of_others_are_held_against(config, stars):
    translator = Translator("x", policy(config), SizeLimits(), traces=False, acceptance_key=SECRET)
    try:
        raised = translator.bar(stars)
    except Fault:
        return
    for channel, reward in product(Channel, REWARDS):
        before, after = (held(each, Reward(reward), channel=channel) for each in (config, raised))
        assert before.threshold <= after.threshold
        assert after.passes <= before.passes


@pytest.mark.parametrize("path", DOORS)
def test_what_may_be_asked_for_is_taken_at_every_door(path):
    assert asked_by(path, policy(OWN), {"temperature": 0.5, "stars": {"target": 2.0}}) is not None


def test_there_is_no_other_door():
    paths = {route.path for route in create_app(guard(), quiet()).routes if "POST" in (route.methods or ())}
    judging = {"/v1/guard/score", "/v1/moderations", LITELLM}
    assert paths == DOORS.keys() | judging | {"/v1/messages/count_tokens"}


@given(drawing, draws)
def test_no_request_that_is_taken_draws_more_freely(sampling, fields):
    try:
        taken = policy(sampling=sampling).proposing(chat(**fields))
    except Fault:
        return
    assert taken.temperature <= sampling.temperature
    assert bool(taken.temperature) == bool(sampling.temperature)
    assert taken.top_p <= sampling.top_p
    assert (taken.top_k or math.inf) <= (sampling.top_k or math.inf)
    assert taken.min_p >= sampling.min_p
    assert taken.repetition_penalty == sampling.repetition_penalty
    assert set(taken.stop) >= set(sampling.stop)


async def test_a_refusal_that_the_model_wrote_is_filtered_content():
    llm = guard([[BAD], [" it hurts."]], max_attempts=1, exhaustion=WriteRefusal(openings=("No, since",)))
    async with served(llm, quiet()) as client:
        answer = (await client.post(CHAT, json=asking())).json()
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == "No, since it hurts."
    assert (choice["finish_reason"], answer["stars"][0]["refused"]) == ("content_filter", True)
    assert answer["usage"]["completion_tokens"] == len("No, since it hurts.")
