"""Grammars of answers that must be a tool call, or must satisfy a JSON schema.

The work is llguidance's. The base law becomes the model's own given that every token fits the
grammar; the guard judges and resamples as always.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer

from stars_guard.errors import PromptError
from stars_guard.models.local.call_rules import CallRules
from stars_guard.models.local.schemas import json_rule, served
from stars_guard.prompts import Tools
from stars_guard.text.dialects import Dialect


class GrammarState:
    """Where an unfinished answer is in its grammar, so what it may go on with. Cheap to fork."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def allowed(self) -> torch.Tensor:
        """A boolean tensor ``[vocabulary]``: the tokens that fit."""
        return torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8).bool()

    def advance(self, tokens: Iterable[int]) -> None:
        """Tokens were drawn, or accepted."""
        for token in tokens:
            self._matcher.consume_token(token)

    def fork(self) -> GrammarState:
        """An independent copy."""
        return GrammarState(self._matcher.deep_copy())


class GrammarCompiler:
    """Compiles grammars for one tokenizer, which is read on first use.

    Args:
        tokenizer: a fast tokenizer.
        vocabulary: width of the model's logits.
        eos_ids: ids that end an answer.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, eos_ids: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._eos_ids = sorted(eos_ids)
        self._ready: LLTokenizer | None = None

    def compile(self, tools: Tools | None, schema: str | None, dialect: Dialect) -> GrammarState | None:
        """The grammar of an answer that has not begun, or None if it is free.

        Args:
            tools: what may or must be called; None for none.
            schema: JSON schema of the answer, as JSON text; None for none.
            dialect: how the model marks reasoning and calls.

        Raises:
            PromptError: the schema cannot be served.
        """
        forced = tools.forced if tools else []
        if not forced and schema is None:
            return None
        grammar = LLMatcher.grammar_from_lark(self._grammar(tools, forced, schema, dialect))
        matcher = LLMatcher(self._prepared(), grammar, log_level=0)
        if matcher.is_error():
            # The grammar's own words quote the schema.
            reason = ValueError(matcher.get_error().strip().splitlines()[0])
            raise PromptError(
                "the tools or the schema cannot be used for constrained decoding: together they are more "
                "than a grammar takes; offer fewer tools, or a smaller schema"
            ) from reason
        return GrammarState(matcher)

    def _grammar(
        self, tools: Tools | None, forced: list[Mapping[str, Any]], schema: str | None, dialect: Dialect
    ) -> str:
        """In llguidance's Lark: an answer by the schema, or calls, or either, after any open reasoning."""
        rules = CallRules(dialect, self._special_token)
        bodies = []
        if schema is not None and not forced:
            answer = json_rule(served(json.loads(schema), "response_schema"))
            bodies.append(f"{rules.literal(dialect.answer_open)} {rules.named(answer)}")
        callable_now = forced or _functions(tools)
        if callable_now:
            several = tools and tools.parallel and dialect.call_close and len(forced) != 1
            call = rules.any_of(callable_now)
            bodies.append(f'{call} ("\\n"? {call})*' if several else call)
        start = f"({' | '.join(bodies)})"
        if dialect.prefilled and dialect.think:
            start = f'{rules.text_until(dialect.think[1])} "\\n\\n" {start}'
        return "\n".join([f"start: {start}", *rules.rules])

    def _special_token(self, text: str) -> int | None:
        """The id of a token that the grammar does not know as text."""
        number = self._tokenizer.get_vocab().get(text)
        special = number is not None and self._prepared().is_special_token(number)
        return number if special else None

    def _prepared(self) -> LLTokenizer:
        if self._ready is None:
            self._ready = from_tokenizer(self._tokenizer, self._vocabulary, list(self._eos_ids))
        return self._ready


def _functions(tools: Tools | None) -> list[Mapping[str, Any]]:
    if tools is None or tools.choice == "none":
        return []
    return [schema["function"] for schema in tools.schemas]
