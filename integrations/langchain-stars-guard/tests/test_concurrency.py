"""Many requests on one guard: no cross-talk, and nobody is disturbed by a neighbour's failure."""

from __future__ import annotations

import asyncio
import threading

import pytest
from stars_guard import Constant, GenerationError, GuardConfig, ScoringError, Soft, StarsGuardedLLM
from stars_guard.testing import KeywordReward, ScriptedModel

import langchain_stars_guard
from langchain_stars_guard import ChatStarsGuardedLLM

MANY = 32
# A soft rule, so that what is accepted hangs on the seed.
SOFT = GuardConfig(threshold=Constant(target=1.0), acceptance=Soft(beta=2.0), max_attempts=8)


def echo(prompt):
    """Repeats the marker of the prompt in each of several segments, in one of many ways."""
    marker = prompt.messages[-1]["content"].split()[-1]
    return [[f"{marker}-{segment}.{attempt} bad " for attempt in range(8)] for segment in range(4)]


class Choosy(KeywordReward):
    """Fails for marker 13, and for nobody else."""

    def score(self, requests):
        if any("m13" in request.prompt.as_text() and request.response for request in requests):
            raise OSError("reward model is down")
        return super().score(requests)


class PerRequest(ScriptedModel):
    """Raises for one prompt only, when its session is opened."""

    def start(self, prompt, sampling):
        if "m13" in prompt.as_text():
            raise OSError("no memory for this one")
        return super().start(prompt, sampling)


def prompts() -> list[str]:
    return [f"Say m{number}" for number in range(MANY)]


def soft_guard() -> StarsGuardedLLM:
    return StarsGuardedLLM(ScriptedModel(echo), KeywordReward(["bad"]), SOFT)


async def test_each_of_many_gets_its_own_answer_equal_to_that_of_one_at_a_time():
    model = ChatStarsGuardedLLM(guard=soft_guard())
    together = await asyncio.gather(
        *(model.ainvoke(prompt, seed=number) for number, prompt in enumerate(prompts()))
    )
    for number, answer in enumerate(together):
        assert {word.split("-")[0] for word in answer.text.split() if word != "bad"} == {f"m{number}"}
    alone = [
        ChatStarsGuardedLLM(guard=soft_guard()).invoke(prompt, seed=number)
        for number, prompt in enumerate(prompts())
    ]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert len({answer.text.replace(f"m{n}-", "") for n, answer in enumerate(together)}) > 1


def test_batch_answers_side_by_side():
    model = ChatStarsGuardedLLM(guard=soft_guard(), seed=5)
    together = model.batch(prompts())
    assert [answer.text for answer in together] == [model.invoke(prompt).text for prompt in prompts()]


def test_batch_really_overlaps():
    both = threading.Barrier(2)

    class Meeting(ScriptedModel):
        def start(self, prompt, sampling):
            session = super().start(prompt, sampling)
            opened.append(session)
            return session

    class Patient(ChatStarsGuardedLLM):
        def _generate(self, *arguments, **options):
            both.wait(30)
            return super()._generate(*arguments, **options)

    opened: list[object] = []
    model = Patient(guard=StarsGuardedLLM(Meeting([["Hello."]]), KeywordReward([]), SOFT))
    assert [answer.text for answer in model.batch(["a", "b"])] == ["Hello."] * 2
    assert len(opened) == 2


@pytest.mark.parametrize("kind", [ChatStarsGuardedLLM, langchain_stars_guard.StarsGuardedLLM])
@pytest.mark.parametrize(
    ("parts", "error"),
    [({"model": PerRequest}, GenerationError), ({"reward": Choosy}, ScoringError)],
    ids=["model", "reward"],
)
async def test_one_failure_disturbs_no_other(kind, parts, error):
    def fresh(model=ScriptedModel, reward=KeywordReward):
        return kind(guard=StarsGuardedLLM(model(echo), reward(["bad"]), SOFT), seed=3)

    def texts(answers):
        return [answer if isinstance(answer, str | Exception) else answer.text for answer in answers]

    expected = texts([fresh().invoke(prompt) for prompt in prompts()])
    broken = fresh(**parts)
    for answers in (
        await asyncio.gather(*map(broken.ainvoke, prompts()), return_exceptions=True),
        await broken.abatch(prompts(), return_exceptions=True),
        broken.batch(prompts(), return_exceptions=True),
    ):
        got = texts(answers)
        assert isinstance(got.pop(13), error)
        assert got == expected[:13] + expected[14:]


async def test_one_cancellation_disturbs_no_other():
    model = ChatStarsGuardedLLM(guard=soft_guard(), seed=3)
    expected = [model.invoke(prompt).text for prompt in prompts()]
    tasks = [asyncio.create_task(model.ainvoke(prompt)) for prompt in prompts()]
    await asyncio.sleep(0)
    tasks[13].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers.pop(13), asyncio.CancelledError)
    assert [answer.text for answer in answers] == expected[:13] + expected[14:]


async def test_one_abandoned_stream_disturbs_no_other():
    model = ChatStarsGuardedLLM(guard=soft_guard(), seed=3)
    expected = [model.invoke(prompt).text for prompt in prompts()[:4]]

    async def read(prompt, most):
        text = ""
        stream = model.astream(prompt)
        async for chunk in stream:
            text += chunk.text
            if len(text) >= most:
                break
        await stream.aclose()
        return text

    texts = await asyncio.gather(*(read(p, 1 if n == 2 else 10_000) for n, p in enumerate(prompts()[:4])))
    assert expected[2].startswith(texts[2])
    assert texts[2] != expected[2]
    assert [texts[n] for n in (0, 1, 3)] == [expected[n] for n in (0, 1, 3)]


async def test_the_first_failure_of_a_text_batch_stops_the_rest():
    model = langchain_stars_guard.StarsGuardedLLM(
        guard=StarsGuardedLLM(PerRequest(echo), KeywordReward(["bad"]), SOFT)
    )
    with pytest.raises(GenerationError, match=r"failed: OSError$"):
        await model.abatch(prompts())
    with pytest.raises(GenerationError, match=r"failed: OSError$"):
        model.batch(prompts())
    # The others stop within one token step, which need not be before the failure is raised.
    for _ in range(1000):
        if all(session.closed for session in model.guard.model.sessions):
            return
        await asyncio.sleep(0.01)
    pytest.fail("a request of the failed batch goes on")
