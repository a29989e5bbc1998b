"""An inference server on 127.0.0.1 whose model is a function: what the real ones say, without their weights.

It speaks as vLLM, SGLang and llama.cpp do on the paths used here, counts what they count, and takes faults
of :mod:`tests.support.http_judge` before it answers.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from stars_guard.algorithm.random_numbers import uniform
from tests.support.http_judge import Handler, HttpJudge, Reply, Script

Draw = Callable[[tuple[int, ...], int, int], int]
"""Next id, after all ids so far, for a seed and a step."""
PROMPT = 1000
"""Ids of prompts that a :class:`TableTokenizer` made are from here on."""


class TableTokenizer:
    """The tokenizer of a model given as a table: one text for each id, and nothing else to know."""

    chat_template = None

    def __init__(self, vocabulary: Sequence[str], eos: int) -> None:
        self.vocabulary = list(vocabulary)
        self.eos_token_id = eos
        self.added_tokens_decoder: dict[int, Any] = {}

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": [PROMPT + ord(one) for one in text]}

    def read(self, text: str) -> list[int]:
        """Prompt and answer in one text: what is in the vocabulary is the answer's."""
        return [self.vocabulary.index(one) if one in self.vocabulary else PROMPT + ord(one) for one in text]

    def decode(self, ids: Sequence[int], **options: Any) -> str:
        known = (one for one in ids if one != self.eos_token_id)
        return "".join(chr(one - PROMPT) if one >= PROMPT else self.vocabulary[one] for one in known)


def tabular(distribution: Callable[[tuple[int, ...]], Sequence[float]]) -> Draw:
    """Draws from next-token probabilities after the response's ids."""

    def draw(ids: tuple[int, ...], seed: int, step: int) -> int:
        cumulative = list(accumulate(distribution(tuple(one for one in ids if one < PROMPT))))
        return bisect_right(cumulative, uniform(seed, 0, 0, step) * cumulative[-1])

    return draw


def written(*answers: Sequence[int]) -> Draw:
    """Goes on with the answer of number ``seed % len(answers)``, from where the prompt ends."""

    def draw(ids: tuple[int, ...], seed: int, step: int) -> int:
        return answers[seed % len(answers)][sum(one < PROMPT for one in ids)]

    return draw


@dataclass
class FakeEngine:
    """What serves behind the HTTP.

    Attributes:
        draw: the model.
        tokenizer: its own.
        same_seed: all choices of a call share its seed, as with SGLang.
        bodies: every body that came, in order, by path.
        said: messages that are answered instead of what was drawn, one a call of a chat.
        drawn: tokens drawn.
        looked_up: prompt tokens so far.
        hits: those of them that were read before.
    """

    draw: Draw
    tokenizer: TableTokenizer
    same_seed: bool = False
    bodies: dict[str, list[Any]] = field(default_factory=dict)
    said: list[Any] = field(default_factory=list)
    drawn: int = 0
    looked_up: int = 0
    hits: int = 0
    _read: set[tuple[int, ...]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, handler: Handler, body: Any) -> Reply:
        """Answer a call."""
        if handler.path == "/metrics":
            return Reply(raw=self._metrics().encode())
        route = {
            "/v1/completions": self.completions,
            "/v1/chat/completions": self._chat,
            "/completion": self._native,
            "/tokenize": self._tokenize,
            "/detokenize": self._detokenize,
            "/apply-template": lambda body: {"prompt": self._templated(body["messages"])},
            "/v1/models": lambda _: {"data": [{"id": "/models/fake", "max_model_len": 512}]},
            "/props": lambda _: {"total_slots": 3},
        }.get(handler.path)
        if route is None:
            return Reply(status=404)
        self.bodies.setdefault(handler.path, []).append(body)
        return Reply(route(body))

    def completions(self, body: Any) -> Any:
        """As at ``/v1/completions``."""
        prompt = body["prompt"]
        ids = self.tokenizer.read(prompt) if isinstance(prompt, str) else prompt
        choices, tokens = [], 0
        for number in range(body.get("n", 1)):
            seed = body.get("seed", 0) + (0 if self.same_seed else number)
            drawn, reason = self._sequence(ids, seed, body["max_tokens"], body.get("stop_token_ids", ()))
            tokens += len(drawn)
            choice = {"index": number, "text": self.tokenizer.decode(drawn), "finish_reason": reason}
            choices.append({**choice, "token_ids": drawn} if body.get("return_token_ids") else choice)
        return {"choices": choices[::-1], "usage": {"completion_tokens": tokens}}

    def _chat(self, body: Any) -> Any:
        messages = body["messages"]
        begun = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
        ids = self.tokenizer.read(self._templated(messages))
        ends = body.get("stop_token_ids", ())
        drawn, reason = self._sequence(ids, body["seed"], body["max_tokens"], ends)
        message = self.said.pop(0) if self.said else {"content": self.tokenizer.decode(drawn)}
        if begun and "continue_final_message" not in body:  # as llama.cpp does
            message = {"content": begun + message["content"]}
        reason = "tool_calls" if message.get("tool_calls") else reason
        choice = {"message": message, "finish_reason": reason}
        return {"choices": [choice], "usage": {"completion_tokens": len(drawn)}}

    def _native(self, body: Any) -> Any:
        answers = []
        for number in range(body.get("n_cmpl", 1)):
            drawn, reason = self._sequence(body["prompt"], body["seed"] + number, body["n_predict"], ())
            kind = {"stop": "eos", "length": "limit"}[reason]
            answers.append({"index": number, "tokens": drawn, "stop_type": kind})
        return answers if len(answers) > 1 else answers[0]

    def _tokenize(self, body: Any) -> Any:
        text = body.get("prompt") or body.get("content") or self._templated(body["messages"])
        return {"tokens": self.tokenizer(text)["input_ids"]}

    def _detokenize(self, body: Any) -> Any:
        text = self.tokenizer.decode(body["tokens"])
        return {"prompt": text, "content": text}

    def _templated(self, messages: Any) -> str:
        return "".join(f"{one['role'][0].upper()}{one['content']}" for one in messages)

    def _metrics(self) -> str:
        return (
            "# TYPE vllm:prefix_cache_hits counter\n"
            f'vllm:prefix_cache_hits_total{{model_name="fake"}} {float(self.hits)}\n'
            f'vllm:prefix_cache_queries_total{{model_name="fake"}} {float(self.looked_up)}\n'
            f'vllm:generation_tokens_total{{model_name="fake"}} {float(self.drawn)}\n'
        )

    def _sequence(self, ids: list[int], seed: int, most: int, ends: Sequence[int]) -> tuple[list[int], str]:
        with self._lock:
            self.looked_up += len(ids)
            self.hits += max((n for n in range(len(ids)) if tuple(ids[:n]) in self._read), default=0)
            self._read.update(tuple(ids[:n]) for n in range(1, len(ids) + 1))
        ends = (*ends, self.tokenizer.eos_token_id)
        drawn: list[int] = []
        while len(drawn) < most and not (drawn and drawn[-1] in ends):
            drawn.append(self.draw((*ids, *drawn), seed, len(drawn)))
        with self._lock:
            self.drawn += len(drawn)
            self._read.update(tuple([*ids, *drawn][:n]) for n in range(1, len(ids) + len(drawn)))
        return drawn, "stop" if drawn[-1] in ends else "length"


class HttpEngine(HttpJudge):
    """The fake engine at a URL; ``faults`` come first, one a call."""

    def __init__(self, engine: FakeEngine, *faults: Script) -> None:
        super().__init__(*faults, engine)
        self.engine = engine


class Abandoned:
    """A step that says nothing until the client hangs up, which sets ``noticed``."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.noticed = threading.Event()

    def __call__(self, handler: Handler, body: Any) -> None:
        self.begun.set()
        if handler.connection.recv(1) == b"":
            self.noticed.set()
        handler.close_connection = True
