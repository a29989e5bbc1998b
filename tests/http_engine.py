"""An inference server on 127.0.0.1 whose model is a function: what the real ones say, without their weights.

It speaks as vLLM, SGLang and llama.cpp do on the paths used here, counts what they count, and takes faults
of :mod:`tests.http_judge` before it answers.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from stars_guard.randomness import uniform
from tests.http_judge import Handler, HttpJudge, Reply, Script

Draw = Callable[[tuple[int, ...], int, int], int]
"""Next id, after all ids so far, for a seed and a step."""
PROMPT = 1000
"""Ids of prompts that a :class:`TableTokenizer` made are from here on."""


class TableTokenizer:
    """The tokenizer of a model given as a table: one text for each id, and nothing else to know."""

    chat_template = None

    def __init__(self, vocabulary: Sequence[str], eos: int) -> None:
        self.vocabulary = vocabulary
        self.eos_token_id = eos
        self.added_tokens_decoder: dict[int, Any] = {}

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [PROMPT + ord(one) for one in text]}

    def decode(self, ids: Sequence[int], **options: Any) -> str:
        return "".join(self.vocabulary[one] for one in ids if one < PROMPT and one != self.eos_token_id)


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
        eos: id that ends an answer.
        decode: its tokenizer's.
        same_seed: all choices of a call share its seed, as with SGLang.
        prompts: every prompt that came, in order.
        drawn: tokens drawn.
        looked_up: prompt tokens so far.
        hits: those of them that were read before.
    """

    draw: Draw
    eos: int
    decode: Callable[[Sequence[int]], str] = str
    encode: Callable[[str], list[int]] = lambda text: [PROMPT + ord(one) for one in text]
    same_seed: bool = False
    prompts: list[Any] = field(default_factory=list)
    drawn: int = 0
    looked_up: int = 0
    hits: int = 0
    _read: set[tuple[int, ...]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, handler: Handler, body: Any) -> Reply:
        """Answer a call."""
        route = {
            "/v1/completions": self._completions,
            "/completion": self._native,
            "/v1/models": lambda _: {"data": [{"id": "fake", "max_model_len": 512}]},
        }.get(handler.path)
        return Reply(status=404) if route is None else Reply(route(body))

    def _completions(self, body: Any) -> Any:
        ids = self.encode(body["prompt"]) if isinstance(body["prompt"], str) else body["prompt"]
        choices = []
        for number in range(body.get("n", 1)):
            seed = body["seed"] + (0 if self.same_seed else number)
            drawn, reason = self._sequence(ids, seed, body["max_tokens"], body.get("stop_token_ids", ()))
            choice = {"index": number, "text": self.decode(drawn), "finish_reason": reason}
            choices.append({**choice, "token_ids": drawn} if body.get("return_token_ids") else choice)
        tokens = sum(len(one.get("token_ids", ())) for one in choices)
        return {"choices": choices, "usage": {"completion_tokens": tokens}}

    def _native(self, body: Any) -> Any:
        answers = []
        for number in range(body.get("n_cmpl", 1)):
            drawn, reason = self._sequence(body["prompt"], body["seed"] + number, body["n_predict"], ())
            kind = {"stop": "eos", "length": "limit"}[reason]
            answers.append({"index": number, "tokens": drawn, "stop_type": kind})
        return answers if len(answers) > 1 else answers[0]

    def _sequence(self, ids: list[int], seed: int, most: int, ends: Sequence[int]) -> tuple[list[int], str]:
        with self._lock:
            self._look_up(ids, body=ids)
        drawn: list[int] = []
        while len(drawn) < most:
            drawn.append(self.draw((*ids, *drawn), seed, len(drawn)))
            if drawn[-1] == self.eos or drawn[-1] in ends:
                break
        with self._lock:
            self.drawn += len(drawn)
            self._read.update(tuple([*ids, *drawn][:n]) for n in range(1, len(ids) + len(drawn)))
        return drawn, "stop" if drawn[-1] == self.eos or drawn[-1] in ends else "length"

    def _look_up(self, ids: list[int], body: Any) -> None:
        self.prompts.append(body)
        self.looked_up += len(ids)
        self.hits += max((n for n in range(len(ids)) if tuple(ids[:n]) in self._read), default=0)
        self._read.update(tuple(ids[:n]) for n in range(1, len(ids) + 1))


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
