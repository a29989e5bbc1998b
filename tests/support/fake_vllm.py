"""vLLM's interface without its weights: behind it is the engine of :mod:`tests.support.http_engine`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.support.http_engine import FakeEngine


class RequestOutputKind(Enum):
    CUMULATIVE = 0
    FINAL_ONLY = 2


class SamplingParams:
    """Knows the fields that are used, and no others."""

    def __init__(
        self,
        *,
        max_tokens: int,
        temperature: float,
        top_p: float,
        top_k: int,
        min_p: float = 0.0,
        repetition_penalty: float,
        seed: int = 0,
        detokenize: bool,
        output_kind: RequestOutputKind,
        n: int = 1,
        stop_token_ids: list[int] | None = None,
        extra_args: dict[str, Any] | None = None,
    ) -> None:
        assert output_kind is RequestOutputKind.FINAL_ONLY
        assert not detokenize
        self.fields = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p}
        self.fields |= {"repetition_penalty": repetition_penalty}
        self.body = {"max_tokens": max_tokens, "seed": seed, "n": n, "stop_token_ids": stop_token_ids or ()}
        self.body |= extra_args or {}


@dataclass
class FakeVLLM:
    """The module, and what it was asked.

    Attributes:
        engine: draws.
        refuses: raised instead of starting.
        fails: raised instead of the next answer.
        finish: reason of every choice, instead of the real one.
        silent: nothing is answered, until the request is aborted.
        begun: an answer is being waited for.
        aborted: it was given up.
        arguments: of the engine that was started.
        asked: prompt, salt, settings and request id of every call.
        counts: whether it keeps counters.
        starting: is handed the settings of the connector of hidden states, if there are any.
        ended: engines that were shut down.
    """

    engine: FakeEngine
    refuses: Exception | None = None
    fails: Exception | None = None
    finish: str | None = None
    silent: bool = False
    begun: threading.Event = field(default_factory=threading.Event)
    aborted: threading.Event = field(default_factory=threading.Event)
    arguments: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    counts: bool = True
    starting: Callable[[Any], None] = lambda transfer: None
    ended: int = 0

    def modules(self) -> dict[str, ModuleType]:
        """For ``sys.modules``."""
        fake, started = self, AsyncLLM

        class Started(started):
            @classmethod
            def from_engine_args(cls, arguments: SimpleNamespace) -> AsyncLLM:
                asyncio.get_running_loop()  # where vLLM makes its sockets
                if fake.refuses is not None:
                    raise fake.refuses
                fake.arguments = vars(arguments)
                if "kv_transfer_config" in fake.arguments:
                    fake.starting(fake.arguments["kv_transfer_config"])
                return cls(fake)

        contents: dict[str, dict[str, Any]] = {
            "vllm": {"SamplingParams": SamplingParams, "TokensPrompt": dict},
            "vllm.config": {"KVTransferConfig": SimpleNamespace},
            "vllm.engine": {},
            "vllm.engine.arg_utils": {"AsyncEngineArgs": engine_arguments},
            "vllm.sampling_params": {"RequestOutputKind": RequestOutputKind},
            "vllm.v1": {},
            "vllm.v1.engine": {},
            "vllm.v1.engine.async_llm": {"AsyncLLM": Started},
            "vllm.v1.metrics": {},
            "vllm.v1.metrics.reader": {"get_metrics_snapshot": self.snapshot},
        }
        modules = {}
        for name, parts in contents.items():
            modules[name] = ModuleType(name)
            vars(modules[name]).update(parts)
        return modules

    def snapshot(self) -> list[SimpleNamespace]:
        counters = {"prefix_cache_hits": self.engine.hits, "prefix_cache_queries": self.engine.looked_up}
        counters |= {"request_success": 1000}
        found = [SimpleNamespace(name=f"vllm:{name}", value=value) for name, value in counters.items()]
        return found if self.counts else found[2:]


def engine_arguments(
    model: str,
    dtype: str = "auto",
    enforce_eager: bool = False,
    speculative_config: Any = None,
    kv_transfer_config: Any = None,
) -> SimpleNamespace:
    given = {"speculative_config": speculative_config, "kv_transfer_config": kv_transfer_config}
    writing = {name: value for name, value in given.items() if value is not None}
    return SimpleNamespace(model=model, dtype=dtype, enforce_eager=enforce_eager, **writing)


class AsyncLLM:
    def __init__(self, fake: FakeVLLM) -> None:
        self.fake = fake
        self.vllm_config = SimpleNamespace(
            scheduler_config=SimpleNamespace(max_num_seqs=5),
            model_config=SimpleNamespace(max_model_len=100, hf_config=self._shape()),
        )

    def _shape(self) -> SimpleNamespace:
        text = SimpleNamespace(num_hidden_layers=2, vocab_size=384)
        return SimpleNamespace(get_text_config=lambda: text)

    async def generate(self, prompt: Any, params: SamplingParams, request_id: str) -> AsyncIterator[Any]:
        fake = self.fake
        fake.asked.append((prompt["prompt_token_ids"], prompt.get("cache_salt"), params.fields, request_id))
        if fake.fails is not None:
            raise fake.fails
        if fake.silent:
            fake.begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                fake.aborted.set()
        ids = prompt["prompt_token_ids"]
        body = {"prompt": ids, "return_token_ids": True, "request_id": request_id, **params.body}
        answer = fake.engine.completions(body)
        outputs = [self._output(one) for one in answer["choices"]]
        yield SimpleNamespace(outputs=outputs, kv_transfer_params=answer.get("kv_transfer_params"))

    def _output(self, choice: dict[str, Any]) -> SimpleNamespace:
        finish = self.fake.finish or choice["finish_reason"]
        ids = tuple(choice["token_ids"])
        return SimpleNamespace(index=choice["index"], token_ids=ids, finish_reason=finish)

    def shutdown(self) -> None:
        self.fake.ended += 1
