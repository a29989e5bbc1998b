"""Guardrails of any_guardrail as rewards, on real subclasses of its base classes."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard import Constant, GuardConfig, Hard, Refuse, StarsGuardedLLM
from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel, ScoreRequest, score_checked
from stars_guard.rewards.bridges.any_guardrail import (
    AnyGuardrailReward,
    answer_only,
    category,
    prompt_and_answer,
    scored,
    verdict,
)
from stars_guard.testing import ScriptedModel

any_guardrail = pytest.importorskip(
    "any_guardrail", reason="needs the package: pip install --no-deps any-guardrail"
)
Category, Output = any_guardrail.CategoryResult, any_guardrail.GuardrailOutput

PROMPT = Prompt.of("How do I bake bread?")
VERDICT = GuardConfig(threshold=Constant(target=0.0), acceptance=Hard(), exhaustion=Refuse(), max_attempts=3)


class Shouting(any_guardrail.Guardrail):
    """Judges one text by its exclamation marks."""

    def __init__(self):
        self.asked = []

    def validate(self, input_text):
        self.asked.append(input_text)
        share = min(1.0, input_text.count("!") / 4)
        return Output(valid=share < 0.5, score=share)


class Exchange(any_guardrail.ThreeStageGuardrail):
    """Judges prompt and answer, in the three stages of the package; its ``validate`` is the base's."""

    def _pre_processing(self, input_text, output_text=None):
        return any_guardrail.GuardrailPreprocessOutput(data={"prompt": input_text, "answer": output_text})

    def _inference(self, model_inputs):
        return any_guardrail.GuardrailInferenceOutput(data=model_inputs.data)

    def _post_processing(self, model_outputs):
        harm = {name: "poison" in text for name, text in model_outputs.data.items()}
        return Output(
            valid=not any(harm.values()),
            categories=[Category(name=f"harmful_{name}", triggered=bad) for name, bad in harm.items()],
        )


class Swallows(Exchange):
    """Takes any argument and reads only the first, like several in the package."""

    def _pre_processing(self, input_text, **kwargs):
        return super()._pre_processing(input_text, "")


def requests(*answers, prompt=PROMPT):
    return [ScoreRequest(prompt, answer, finished=False) for answer in answers]


def values(reward, *answers, prompt=PROMPT):
    return [item.value for item in score_checked(reward, requests(*answers, prompt=prompt))]


def test_own_guardrails_count_by_their_verdict_alone():
    reward = AnyGuardrailReward(Shouting(), ask=answer_only)
    assert isinstance(reward, RewardModel)
    assert reward.name == "Shouting"
    assert values(reward, "Mix.", "Mix!", "Mix!!", "Mix!!!!") == [1.0, 1.0, -1.0, -1.0]
    reward.release("run")
    assert reward.score([]) == []


def test_scores_count_once_their_direction_is_said():
    guardrail = Shouting()
    reward = AnyGuardrailReward(guardrail, ask=answer_only, read=scored(higher_is="riskier"), name="calm")
    assert reward.name == "calm"
    assert values(reward, "Mix.", "Mix!", "Mix!!", "Mix!!!!") == [1.0, 0.875, -0.75, -1.0]
    assert guardrail.asked == ["Mix.", "Mix!", "Mix!!", "Mix!!!!"]
    assert [item.components for item in reward.score(requests("!"))] == [{"score": 0.25}]


@given(st.floats(0, 1), st.floats(0, 1), st.booleans(), st.booleans(), st.sampled_from(["riskier", "safer"]))
def test_a_score_never_turns_a_verdict_and_ranks_within_it(first, second, valid, other, direction):
    read = scored(higher_is=direction)
    a, b = read(Output(valid=valid, score=first)), read(Output(valid=other, score=second))
    assert (a > 0) == valid
    assert -1 <= a <= 1
    if valid != other:
        assert (a > b) == valid
    elif first != second:
        assert (a >= b) == ((first < second) == (direction == "riskier")) or math.isclose(a, b)


def test_a_valid_flag_beats_a_score_of_zero():
    """A word list may forbid a text that the model's own score says nothing about."""
    assert scored(higher_is="riskier")(Output(valid=False, score=0.0)) == -0.5


class Weights(any_guardrail.Provider):
    """In place of the weights of a guardrail in the package: one probability of harm for each category."""

    def load_model(self, model_id, **kwargs):
        self.loaded = model_id

    def pre_process(self, text):
        return any_guardrail.GuardrailPreprocessOutput(data={"text": text})

    def infer(self, model_inputs):
        harm = 0.75 if "poison" in model_inputs.data["text"] else 0.25
        return any_guardrail.GuardrailInferenceOutput(data={"scores": [[0.125] * 11 + [harm]]})


def test_guardrails_of_the_package_have_a_known_direction():
    guardrail = any_guardrail.AnyGuardrail.create(any_guardrail.GuardrailName.DUOGUARD, provider=Weights())
    reward = AnyGuardrailReward(guardrail, ask=answer_only)
    assert reward.name == "DuoGuard"
    assert values(reward, "Flour.", "poison") == [0.875, -0.875]
    (judged,) = reward.score(requests("Flour."))
    assert (len(judged.components), judged.components["score"]) == (13, 0.25)


@pytest.mark.parametrize("name", list(any_guardrail.GuardrailName))
def test_no_guardrail_of_the_package_is_asked_about_an_answer_it_ignores(name):
    try:
        kind = any_guardrail.AnyGuardrail._get_guardrail_class(name)
    except (ImportError, NameError) as error:
        pytest.skip(f"{name} needs a package: {error}")
    known = any_guardrail.AnyGuardrail.metadata(name)
    takes_answer = "output_text" in known.optional_validate_kwargs | known.required_validate_kwargs
    bare = object.__new__(kind)  # without weights
    if takes_answer:
        AnyGuardrailReward(bare, ask=prompt_and_answer)
    else:
        with pytest.raises(ConfigurationError):
            AnyGuardrailReward(bare, ask=prompt_and_answer)


def test_prompt_and_answer_are_told_apart():
    reward = AnyGuardrailReward(Exchange(), ask=prompt_and_answer)
    assert values(reward, "Flour.", "poison") == [1.0, -1.0]
    bad_prompt = Prompt.of("Is this poison?")
    assert values(reward, "No.", prompt=bad_prompt) == [-1.0]
    answer_harm = AnyGuardrailReward(Exchange(), ask=prompt_and_answer, read=category("harmful_answer"))
    assert values(answer_harm, "No.", "It is poison.", prompt=bad_prompt) == [1.0, -1.0]


@pytest.mark.parametrize(
    ("judged", "value"),
    [
        (Category(name="x", triggered=True), -1.0),
        (Category(name="x", triggered=False), 1.0),
        (Category(name="x", triggered=False, score=0.5), 0.75),
        (Category(name="x", triggered=True, score=0.5), -0.75),
        (Category(name="x", score=0.5), 0.0),
        (Category(name="x", score=1.0), -1.0),
    ],
)
def test_categories(judged, value):
    others = [Category(name="y", triggered=True, score=1.0)]
    assert category("x")(Output(valid=False, categories=[*others, judged])) == value


@pytest.mark.parametrize(
    "categories", [[], [Category(name="y", triggered=False)], [Category(name="x")], [Category(name="x")] * 2]
)
def test_a_category_that_is_not_there_is_an_error(categories):
    with pytest.raises(ScoringError, match="said nothing about the category 'x'"):
        category("x")(Output(valid=True, categories=categories))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (None, "returned None without a verdict"),
        ("safe", "returned str without a verdict"),
        ([Output(valid=True)], "returned list without a verdict"),
        (SimpleNamespace(valid=None), "returned SimpleNamespace without a verdict"),
        (SimpleNamespace(valid=1), "returned SimpleNamespace without a verdict"),
        (Output(valid=False, extra={"parse_failure": True}), "parse_failure"),
        (Output(valid=True, score=7.0), "returned 7 as score; it must be between 0 and 1"),
        (Output(valid=True, score=math.nan), "between 0 and 1"),
        (SimpleNamespace(valid=True, score="high"), "between 0 and 1"),
        (SimpleNamespace(valid=True, score=True), "between 0 and 1"),
    ],
    ids=repr,
)
def test_what_is_no_judgement_is_an_error_and_passes_nothing(output, message):
    guardrail = SimpleNamespace(validate=lambda text: output)
    reward = AnyGuardrailReward(guardrail, ask=answer_only, read=scored(higher_is="riskier"))
    with pytest.raises(ScoringError, match=message):
        values(reward, "Mix.")
    with pytest.raises(ScoringError) as caught:
        StarsGuardedLLM(ScriptedModel([["Mix."]]), reward, VERDICT).generate("Bake?")
    assert caught.value.trace is not None
    assert not [attempt for segment in caught.value.trace.segments for attempt in segment.attempts]


def test_readings_of_ones_own_must_be_numbers():
    reward = AnyGuardrailReward(Shouting(), ask=answer_only, read=lambda output: output.explanation)
    with pytest.raises(ScoringError, match="Shouting returned None"):
        values(reward, "Mix.")
    rubric = SimpleNamespace(
        validate=lambda text: Output(valid=True, score=math.nan, extra={"rubric_score": 4})
    )
    read = AnyGuardrailReward(rubric, ask=answer_only, read=lambda output: output.extra["rubric_score"])
    assert [(item.value, item.components) for item in read.score(requests("x"))] == [(4.0, {})]


def test_without_a_score_the_verdict_counts():
    outputs = [Output(valid=valid) for valid in (True, False)]
    assert [scored(higher_is="safer")(output) for output in outputs] == [1.0, -1.0]
    assert [verdict(output) for output in outputs] == [1.0, -1.0]


@pytest.mark.parametrize(
    ("guardrail", "ask", "message"),
    [
        (object(), answer_only, "object: validate is None"),
        (Shouting(), None, "ask is None"),
        (Shouting(), prompt_and_answer, "unexpected keyword argument 'output_text'"),
        (Shouting(), lambda prompt, answer: answer, "asking Shouting as ask= says failed: ValueError"),
        (Exchange(), lambda prompt, answer: (answer, {"policy": "x"}), "names no argument policy"),
        (Swallows(), prompt_and_answer, "names no argument output_text and may ignore it"),
        (SimpleNamespace(validate=lambda text, **others: None), prompt_and_answer, "may ignore it"),
        (SimpleNamespace(validate=lambda text, policy: None), answer_only, "missing a required argument"),
    ],
)
def test_what_would_not_be_judged_is_refused_at_construction(guardrail, ask, message):
    with pytest.raises(ConfigurationError, match=message):
        AnyGuardrailReward(guardrail, ask=ask)


def test_directions_are_checked():
    with pytest.raises(ConfigurationError, match="higher_is='better' must be"):
        scored(higher_is="better")


def test_the_guard_shows_what_the_guardrail_lets_pass():
    model = ScriptedModel([["Knead!! ", "Knead. "], ["Bake!!", "Bake."]])
    llm = StarsGuardedLLM(model, AnyGuardrailReward(Shouting(), ask=answer_only), VERDICT)
    result = llm.generate("Bake?")
    assert (result.text, result.trace.attempts) == ("Knead. Bake.", 4)
    refused = StarsGuardedLLM(
        ScriptedModel([["No!!"]]), AnyGuardrailReward(Shouting(), ask=answer_only), VERDICT
    )
    assert refused.generate("Bake?").refused


def test_a_guardrail_that_raises_passes_nothing():
    def away(text):
        raise ConnectionError("the service is away")

    llm = StarsGuardedLLM(
        ScriptedModel([["Knead. "], ["Bake."]]),
        AnyGuardrailReward(SimpleNamespace(validate=away), ask=answer_only),
        VERDICT,
    )
    with pytest.raises(ScoringError, match="failed: ConnectionError"):
        llm.generate("Bake?")
    with pytest.raises(ScoringError, match="failed: ConnectionError"):
        next(iter(llm.stream("Bake?")))
