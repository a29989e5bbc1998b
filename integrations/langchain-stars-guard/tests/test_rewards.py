"""Chains as reward models, and that nobody overhears them."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda
from stars_guard import ConfigurationError, Constant, GuardConfig, Hard, Prompt, ScoringError, StarsGuardedLLM
from stars_guard.rewards import RewardModel, ScoreRequest, score_checked
from stars_guard.testing import ScriptedModel

from langchain_stars_guard import ChatStarsGuardedLLM, RunnableReward

FIRM = GuardConfig(threshold=Constant(target=0.0), acceptance=Hard(), max_attempts=3)
SCRIPT = [["SECRET!! ", "Mix. "], ["Bake!", "Bake."]]


def calm(text: dict[str, str]) -> float:
    return -float(text["response"].count("!"))


def requests(*answers: str) -> list[ScoreRequest]:
    return [ScoreRequest(Prompt.of("How do I bake?"), answer, finished=False) for answer in answers]


def values(reward: RunnableReward, *answers: str) -> list[float]:
    return [scored.value for scored in score_checked(reward, requests(*answers))]


def guarded(reward: RunnableReward) -> ChatStarsGuardedLLM:
    return ChatStarsGuardedLLM(guard=StarsGuardedLLM(ScriptedModel(SCRIPT), reward, FIRM))


class Listener(BaseCallbackHandler):
    """Everything that a handler can hear of chains and models."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.chains = 0

    def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
        self.chains += 1
        self.heard.append(repr(args))

    def on_chain_end(self, *args: Any, **kwargs: Any) -> None:
        self.heard.append(repr(args))

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.heard.append(repr(args))

    def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        self.heard.append(repr(args))


def test_numbers_are_taken_as_they_are():
    seen = []

    def judge(text):
        seen.append(text)
        return calm(text)

    reward = RunnableReward(RunnableLambda(judge, name="calm"))
    assert isinstance(reward, RewardModel)
    assert reward.name == "calm"
    assert RunnableReward(RunnableLambda(calm), name="own").name == "own"
    assert values(reward, "Mix!") == [-1.0]
    assert seen == [{"prompt": "How do I bake?", "response": "Mix!"}]
    assert values(reward, "Mix.", "Mix!", "Mix!!") == [0.0, -1.0, -2.0]
    assert reward.score([]) == []
    reward.release("run")


def test_a_chain_with_a_chat_model_is_read():
    prompt = ChatPromptTemplate.from_template("Rate: {prompt} / {response}")
    chain = prompt | FakeListChatModel(responses=["3", "-1.5"])
    reward = RunnableReward(chain, read=lambda message: float(message.text))
    assert values(reward, "a") + values(reward, "b") == [3.0, -1.5]
    parsed = prompt | FakeListChatModel(responses=["7"]) | StrOutputParser() | float
    assert values(RunnableReward(parsed), "a") == [7.0]


def test_one_batch_a_round_with_the_given_config():
    calls: list[tuple[int, RunnableConfig]] = []

    class Counting(RunnableLambda):
        def batch(self, inputs, config=None, **kwargs):
            calls.append((len(inputs), config))
            return super().batch(inputs, config, **kwargs)

    listener = Listener()
    config: RunnableConfig = {"callbacks": [listener], "max_concurrency": 1, "tags": ["judge"]}
    reward = RunnableReward(Counting(calm), config=config)
    assert values(reward, "a", "b!") == [0.0, -1.0]
    assert calls == [(2, config)]
    assert listener.chains == 2


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("7", "returned str and no number"),
        (None, "returned NoneType"),
        (True, "returned bool"),
        ([1.0], "list"),
    ],
)
def test_other_outputs_are_errors(output, message):
    with pytest.raises(ScoringError, match=message):
        values(RunnableReward(RunnableLambda(lambda text: output), name="judge"), "Mix.")


def test_an_unread_message_is_not_quoted():
    chain = RunnableLambda(lambda text: "Rate it.") | FakeListChatModel(responses=["They said SECRET."])
    reward = RunnableReward(chain)
    with pytest.raises(ScoringError, match="AIMessage and no number") as caught:
        values(reward, "SECRET")
    assert "SECRET" not in str(caught.value)


def test_what_is_no_runnable_is_refused():
    with pytest.raises(ConfigurationError, match="needs a runnable, got function"):
        RunnableReward(calm)
    with pytest.raises(ConfigurationError, match="must be a function"):
        RunnableReward(RunnableLambda(calm), read="text")


def test_the_guard_shows_what_the_chain_likes():
    answer = guarded(RunnableReward(RunnableLambda(calm))).invoke("How do I bake?")
    assert answer.text == "Mix. Bake."
    assert answer.response_metadata["stars"]["attempts"] == 4


@pytest.mark.parametrize("output", ["7", None, float("nan")])
def test_a_chain_that_fails_passes_nothing(output):
    def judge(text):
        if output is None:
            raise ConnectionError("the judge is away")
        return output

    model = guarded(RunnableReward(RunnableLambda(judge), name="judge"))
    with pytest.raises(ScoringError):
        model.invoke("How do I bake?")
    shown = []
    with pytest.raises(ScoringError):
        shown.extend(model.stream("How do I bake?"))
    assert "".join(chunk.text for chunk in shown) == ""


@pytest.mark.parametrize("with_config", [True, False])
def test_the_chain_around_the_model_does_not_overhear_the_judge(with_config):
    judge = ChatPromptTemplate.from_template("{response}") | RunnableLambda(
        lambda prompt: -float(prompt.to_string().count("!"))
    )
    inner, outer = Listener(), Listener()
    model = guarded(RunnableReward(judge, config={"callbacks": [inner]} if with_config else None))
    chain = RunnableLambda(lambda text: text) | model | StrOutputParser()
    assert chain.invoke("How do I bake?", config={"callbacks": [outer]}) == "Mix. Bake."
    assert not [line for line in outer.heard if "SECRET" in line]
    assert any("SECRET" in line for line in inner.heard) == with_config


async def test_event_streams_do_not_show_the_judge():
    model = guarded(RunnableReward(RunnableLambda(calm, name="the judge")))
    chain = RunnableLambda(lambda text: text) | model
    events = [event async for event in chain.astream_events("How do I bake?", version="v2")]
    assert events
    assert not [event for event in events if event["name"] == "the judge" or "SECRET" in repr(event)]


def test_callers_that_are_judged_together_stay_apart():
    """Whoever reads does the work for all, so the judge may run in another caller's chain."""
    listeners = [Listener() for _ in range(4)]
    model = guarded(RunnableReward(RunnableLambda(calm)))

    def call(listener: Listener) -> None:
        chain = RunnableLambda(lambda text: text) | model
        assert chain.invoke("How do I bake?", config={"callbacks": [listener]}).text == "Mix. Bake."

    threads = [threading.Thread(target=call, args=[listener]) for listener in listeners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {listener.chains for listener in listeners} == {2}
