"""How a process reward model is shown the steps of an answer: a mark behind each, at which it is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from stars_guard.errors import ScoringError
from stars_guard.prompts import Message
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.chat import chat_text
from stars_guard.rewards.encoding import Encoded, broken_up, harmless
from stars_guard.settings import by_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Opening: TypeAlias = "Callable[[PreTrainedTokenizerBase, list[Message]], str]"
"""From the conversation to all that stands before the first step."""

Split: TypeAlias = Callable[[str], Sequence[str]]
"""From an answer, which may be unfinished, to its steps; the last may still be open."""

_REASON = "Please reason step by step, and put your final answer within \\boxed{}."


def at_lines(answer: str) -> list[str]:
    """One step a line; empty lines are none."""
    return _steps(answer.split("\n"))


def at_blank_lines(answer: str) -> list[str]:
    """One step a paragraph: steps are apart by at least one empty line."""
    return _steps(re.split(r"\n\s*\n", answer))


def plain(tokenizer: PreTrainedTokenizerBase, turns: list[Message]) -> str:
    """The texts of the conversation, one turn a line, and a blank."""
    return "\n".join(turn["content"] for turn in turns) + " "


def chat_with_instruction(tokenizer: PreTrainedTokenizerBase, turns: list[Message]) -> str:
    """The chat template up to the answer; with the usual instruction if there is no system message."""
    if turns[0]["role"] != "system":
        turns = [Message(role="system", content=_REASON), *turns]
    return chat_text(tokenizer, turns, opening=True)


@dataclass(frozen=True, slots=True)
class StepStyle:
    """How one family of process reward models reads an answer, and where its judgement is.

    Attributes:
        opening: writes the conversation.
        mark: text behind each step, at whose last token the model is read.
        good: what means that a step is right: a label of a token classifier, or the next token of a language
            model, as a word.
        bad: the word for the opposite; of labels, all others mean that.
        between: text between a mark and the next step.
        split: finds the steps.
        adds_bos: whether the tokenizer's first token goes before ``opening``, which does not write it.
        auto_class: class of transformers that loads the model.
    """

    opening: Opening
    mark: str
    good: str
    bad: str = ""
    between: str = ""
    split: Split = at_blank_lines
    adds_bos: bool = False
    auto_class: str = "AutoModelForTokenClassification"

    def prefixes(self, tokenizer: PreTrainedTokenizerBase, answer: str) -> list[str]:
        """The answer up to the mark of each step; an answer without steps has one, which is empty."""
        steps = [f"{self._clean(tokenizer, step)}{self.mark}" for step in self.split(answer) or [""]]
        return [self.between.join(steps[: count + 1]) for count in range(len(steps))]

    def encode(self, tokenizer: PreTrainedTokenizerBase, request: ScoreRequest, max_length: int) -> Encoded:
        """Token ids up to the last mark.

        What does not fit is dropped from the beginning of the conversation.

        Args:
            tokenizer: the model's own.
            request: what is judged; its response is one of ``prefixes``.
            max_length: most tokens.

        Raises:
            ScoringError: the answer alone does not fit; a part of it would be another answer.
        """
        turns = [
            Message(
                role=harmless(tokenizer, turn["role"])[0], content=self._clean(tokenizer, turn["content"])
            )
            for turn in request.prompt.as_messages()
        ]
        opening = self.opening(tokenizer, turns)
        encoding = tokenizer(
            opening + request.response, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ids = list(encoding["input_ids"])
        bos = tokenizer.bos_token_id
        first = [bos] if self.adds_bos and bos not in (None, *ids[:1]) else []
        answer = sum(end > len(opening) for _, end in encoding["offset_mapping"])
        room = max_length - answer - len(first)
        if room < 0:
            raise ScoringError(
                f"the answer and its step marks have {answer + len(first)} tokens, and the model reads "
                f"{max_length}; allow fewer answer tokens, or raise max_length"
            )
        dropped = max(0, len(ids) - answer - room)
        return Encoded(ids=(*first, *ids[dropped:]), dropped=dropped)

    def _clean(self, tokenizer: PreTrainedTokenizerBase, text: str) -> str:
        """The text with control tokens and marks broken up, so that no step can be marked by writing so."""
        return broken_up(harmless(tokenizer, text)[0], [self.mark.strip()])


MATH_SHEPHERD = StepStyle(
    plain,
    mark=" ки",
    good="+",
    bad="-",
    between="\n",
    split=at_lines,
    adds_bos=True,
    auto_class="AutoModelForCausalLM",
)
"""``peiyi9979/math-shepherd-mistral-7b-prm``: a language model that says ``+`` or ``-`` behind ``ки``."""

QWEN_MATH_PRM = StepStyle(
    chat_with_instruction,
    mark="<extra_0>",
    good="LABEL_1",
    auto_class="AutoModel",
)
"""``Qwen/Qwen2.5-Math-PRM-7B``, ``-72B`` and ``Qwen2.5-Math-7B-PRM800K``: two labels at ``<extra_0>``.

Their head is code of their own, so pass ``trust_remote_code=True``; for a token classifier of transformers
that reads the same marks use ``replace(QWEN_MATH_PRM, auto_class="AutoModelForTokenClassification")``.
"""


STYLES: Mapping[str, StepStyle] = MappingProxyType(
    {"math_shepherd": MATH_SHEPHERD, "qwen_math_prm": QWEN_MATH_PRM}
)


def choose_style(style: str | StepStyle) -> StepStyle:
    """The style of that name, or the style itself.

    Raises:
        ConfigurationError: unknown name.
    """
    return by_name(StepStyle, "style", style, STYLES, "a StepStyle")


def _steps(pieces: Sequence[str]) -> list[str]:
    return [piece.strip() for piece in pieces if piece.strip()]
