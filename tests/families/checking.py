"""Guarded answers of an architecture, held against passes that know neither cache, batch nor rejection."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.random_numbers import uniform
from stars_guard.algorithm.rules import Constant, Hard, Last
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import ConfigurationError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.models.local.sampling import draw_tokens
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.result import GuardedResult
from stars_guard.rewards.function import FunctionReward
from tests.families.architectures import VOCABULARY, build

_FIRST = 0x4E00
"""Characters from here on are tokens, one each."""
_LENGTHS = (5, 17, 9)
"""Tokens of the prompts; some windows and chunks are shorter."""
PROMPTS = [
    "".join(chr(_FIRST + (place * 7 + number * 13) % (VOCABULARY - 1)) for place in range(length))
    for number, length in enumerate(_LENGTHS)
]
_MOST = 12
"""Tokens of an answer."""
_GUARD = GuardConfig(
    threshold=Constant(target=0.0),
    acceptance=Hard(),
    segments=FixedLength(max_tokens=4),
    drawing=Fixed(candidates=2),
    max_attempts=8,
    exhaustion=Last(),
    floor=-2,
)


def one_token_a_character() -> PreTrainedTokenizerFast:
    """A tokenizer without merges, so that ids and text are the same."""
    vocabulary = {chr(_FIRST + number): number for number in range(VOCABULARY - 1)} | {
        "<eos>": VOCABULARY - 1
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


@dataclass(frozen=True)
class Row:
    """What came of one architecture.

    Attributes:
        name: of the architecture.
        proven: what was tried and came out as it must.
        guarantee: the level that the model declares; or ``refused``, or ``not built``.
        note: why not everything is shared, or why it was refused or not built.
    """

    name: str
    proven: str
    guarantee: str
    note: str = ""


def check(name: str) -> Row:
    """Build a model of an architecture and hold its guarded answers against passes that share nothing.

    Args:
        name: of the architecture.

    Raises:
        AssertionError: an answer is not the one that the model itself would give.
    """
    try:
        model = build(name)
    except Exception as error:  # noqa: BLE001 - a configuration may fail in any way
        return Row(name, "", "not built", _line(error))
    return check_model(name, model)


def check_model(name: str, model: PreTrainedModel) -> Row:
    """As :func:`check`, of a model that was built.

    Args:
        name: of the architecture.
        model: of that architecture.
    """
    try:
        with _quiet():
            local = TransformersModel(model, one_token_a_character(), name=name)
    except ConfigurationError as error:
        return Row(name, "", "refused", _line(error))
    local.eos_ids = frozenset()  # an answer that ends at once proves little
    check_greedy(local)
    check_rejections(local)
    sharing = local.passes.sharing
    return Row(name, "alone, batch, rejections", local.guarantee.value, sharing.reason)


def check_greedy(local: TransformersModel) -> None:
    """Greedy answers, alone and in a batch, are the greedy tokens of whole passes."""
    guard = StarsGuardedLLM(local, FunctionReward(lambda prompt, response: 1.0), _GUARD)
    sampling = SamplingParams(max_tokens=_MOST, temperature=0, seed=1)
    prompts = [Prompt.raw(text) for text in PROMPTS]
    expected = [_greedy(local, local.encode(prompt)) for prompt in prompts]
    alone = [guard.generate(prompt, sampling=sampling).token_ids for prompt in prompts]
    together = [result.token_ids for result in guard.batch(prompts, sampling=sampling)]
    assert alone == expected, f"alone: {alone} is not {expected}"
    assert together == expected, f"in a batch: {together} is not {expected}"


def check_rejections(local: TransformersModel) -> None:
    """Drawn answers with rejections, alone and in a batch, are made of what whole passes would have drawn."""
    guard = StarsGuardedLLM(local, FunctionReward(_changing), _GUARD)
    samplings = [SamplingParams(max_tokens=_MOST, temperature=1.0, seed=seed) for seed in range(len(PROMPTS))]
    prompts = [Prompt.raw(text) for text in PROMPTS]
    alone = [guard.generate(prompt, sampling=each) for prompt, each in zip(prompts, samplings, strict=True)]
    together = guard.batch(prompts, sampling=samplings)
    for prompt, sampling, result in zip(prompts, samplings, alone, strict=True):
        _check_drawn(local, local.encode(prompt), sampling, result)
    assert sum(result.trace.attempts - len(result.trace.segments) for result in alone) > 0
    assert [result.token_ids for result in together] == [result.token_ids for result in alone]


def _check_drawn(
    local: TransformersModel, prompt: Sequence[int], sampling: SamplingParams, result: GuardedResult
) -> None:
    ids = list(prompt)
    for segment in result.trace.segments:
        assert segment.chosen is not None
        for step in range(segment.attempts[segment.chosen].tokens):
            number = uniform(sampling.seed or 0, segment.index, segment.chosen, step)
            drawn = draw_tokens(whole_pass(local.model, ids)[None], sampling, [number])
            ids.extend(drawn)
    assert result.token_ids == ids[len(prompt) :]


def _changing(prompt: object, response: str) -> float:
    """A reward that rejects about half of all candidates."""
    return 1.0 if sum(map(ord, response)) % 2 else -1.0


def _greedy(local: TransformersModel, prompt: Sequence[int]) -> list[int]:
    ids = list(prompt)
    while len(ids) < len(prompt) + _MOST:
        ids.append(int(whole_pass(local.model, ids).argmax()))
    return ids[len(prompt) :]


@torch.inference_mode()
def whole_pass(model: PreTrainedModel, ids: Sequence[int]) -> torch.Tensor:
    """The last logits ``[vocabulary]`` of a pass over a whole text, without a cache.

    Args:
        model: a causal LM.
        ids: of the text.
    """
    # The few that take no such argument keep no cache unless they are handed one.
    options = {} if model.config.model_type in ("openai-gpt", "xlm", "xlnet") else {"use_cache": False}
    logits: torch.Tensor = model(input_ids=torch.tensor([list(ids)]), **options).logits[0, -1]
    return logits


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("stars_guard")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _line(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words if isinstance(error, ConfigurationError) else f"{type(error).__name__}: {words[:120]}"
