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
from stars_guard.prompts import Tools
from stars_guard.text.dialects import Dialect

# A small model that may write blanks between tokens for ever does.
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


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
        grammar = self._grammar(tools, forced, schema, dialect)
        matcher = LLMatcher(self._prepared(), grammar, log_level=0)
        if matcher.is_error():
            # The grammar's own words quote the schema.
            reason = ValueError(matcher.get_error().strip().splitlines()[0])
            raise PromptError(
                "the schema cannot be used for constrained decoding: a keyword or a value in it is not served"
            ) from reason
        return GrammarState(matcher)

    def _grammar(
        self, tools: Tools | None, forced: list[Mapping[str, Any]], schema: str | None, dialect: Dialect
    ) -> str:
        """In llguidance's Lark: an answer by the schema, or calls, or either, after any open reasoning."""
        rules, bodies = [], []
        if schema is not None and not forced:
            rules.append(f"answer: {_json_rule(json.loads(schema))}")
            bodies.append("answer")
        callable_now = forced or _functions(tools)
        if callable_now:
            several = tools and tools.parallel and dialect.call_close and len(forced) != 1
            calls = 'calls: call ("\\n"? call)*' if several else "calls: call"
            rules += [calls, *self._call_rules(callable_now, dialect)]
            bodies.append("calls")
        start = f"({' | '.join(bodies)})"
        if dialect.prefilled and dialect.think:
            rules.append(f"thought: {self._text_until(dialect.think[1])}")
            start = f'thought "\\n\\n" {start}'
        return LLMatcher.grammar_from_lark("\n".join([f"start: {start}", *rules]))

    def _call_rules(self, functions: list[Mapping[str, Any]], dialect: Dialect) -> list[str]:
        names = [f"call{number}" for number in range(len(functions))]
        opening = self._mark(dialect.call_open)
        closing = self._mark(dialect.call_close) if dialect.call_close else ""
        rules = [f"call: {opening} ({' | '.join(names)}) {closing}"]
        for name, function in zip(names, functions, strict=True):
            before, after = map(json.dumps, dialect.wrap(function["name"]))
            rules.append(f"{name}: {before} {_json_rule(_arguments(function))} {after}")
        return rules

    def _mark(self, mark: str) -> str:
        """A mark as text, or by its id where it is one token that the grammar does not know as text."""
        number = self._tokenizer.get_vocab().get(mark)
        special = number is not None and self._prepared().is_special_token(number)
        return f"<[{number}]>" if special else json.dumps(mark)

    def _text_until(self, mark: str) -> str:
        known = self._mark(mark)
        return f"/(.|\\n)*/ {known}" if known.startswith("<[") else f"text\ntext[suffix={known}]: /(.|\\n)*/"

    def _prepared(self) -> LLTokenizer:
        if self._ready is None:
            self._ready = from_tokenizer(self._tokenizer, self._vocabulary, list(self._eos_ids))
        return self._ready


def _functions(tools: Tools | None) -> list[Mapping[str, Any]]:
    if tools is None or tools.choice == "none":
        return []
    return [schema["function"] for schema in tools.schemas]


def _arguments(function: Mapping[str, Any]) -> Mapping[str, Any]:
    return function.get("parameters") or {"type": "object", "properties": {}}


def _json_rule(schema: Mapping[str, Any]) -> str:
    return f"%json {json.dumps({**_closed(schema), 'x-guidance': _COMPACT})}"


def _closed(schema: Any) -> Any:
    """The schema with every object limited to the properties it names, unless it says otherwise."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    inner = {key: _closed(value) for key, value in schema.items()}
    return {"additionalProperties": False, **inner} if isinstance(inner.get("properties"), dict) else inner
