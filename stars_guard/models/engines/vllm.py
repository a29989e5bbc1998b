"""A language model in vLLM's own engine, in this process: ``vllm:FOLDER_OR_HUB_ID`` where models are named.

It is asked just as a vLLM server is, without the server: with the same token ids, the same settings and the
same seeds. So a seed gives the guarded answer that it gives over HTTP, if the engine is started alike.

Whether it gives that answer beside other requests too is up to the engine: in bfloat16, results depend a
little on what else is in the batch, and now and then another token is drawn; in float32 on a CPU they did
not. The law is the same either way, and decisions replay from the trace. On a CPU, vLLM 0.32 dies of
a seeded prompt that it reads in several steps; pass ``enable_chunked_prefill=False`` there.

vLLM pins its own torch, so it is no extra of this package: install this package into vLLM's environment, or
run vLLM elsewhere and name it by ``vllm@URL``. A script that makes a :class:`VLLMModel` needs the usual
``if __name__ == "__main__":``, since vLLM may start a process that imports it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from stars_guard.errors import ConfigurationError, GenerationError
from stars_guard.forks import renew_in_children
from stars_guard.http.event_loop import EventLoop
from stars_guard.http.hub import warn_without_revision
from stars_guard.models.chat import PromptFormat
from stars_guard.models.engines.by_ids import ByTokenIds
from stars_guard.models.engines.engine_model import EngineModel, salted
from stars_guard.models.engines.local_tokenizer import local_tokenizer
from stars_guard.models.engines.profiles import VLLM, IdsRoute
from stars_guard.text.dialects import Dialect

_ROUTE = IdsRoute(path="vLLM", extra={})
_HITS, _LOOKUPS = "vllm:prefix_cache_hits", "vllm:prefix_cache_queries"


class VLLMModel(EngineModel):
    """A language model in vLLM's engine. Starts it, which takes from seconds to minutes.

    Safe to use from many threads at once, each for its own request. Close it after use, or use it in a
    ``with`` statement.

    Args:
        model: folder or hub id.
        tokenizer: of that very model, loaded or to be loaded, if it is not beside it.
        name: for traces; by default the last part of ``model``.
        prompt_format: as for :class:`stars_guard.models.TransformersModel`.
        template_arguments: passed to the chat template.
        dialect: how the model marks reasoning and tool calls; by default what the template says.
        cache_salt: keeps this guard's part of the prefix cache from others who use the same engine.
        max_parallel: candidates being drawn from which on the engine is taken to be busy, and most choices
            of a call; by default the engine's ``max_num_seqs``.
        engine: arguments of vLLM's ``AsyncEngineArgs``, such as ``dtype`` or ``gpu_memory_utilization``; the
            ``revision`` of a hub id is one, and so is ``tokenizer_revision``.

    Raises:
        ConfigurationError: vLLM cannot be imported, or refuses the arguments, or the model.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        tokenizer: Any = None,
        name: str | None = None,
        prompt_format: PromptFormat = "auto",
        template_arguments: Mapping[str, Any] | None = None,
        dialect: Dialect | None = None,
        cache_salt: str | None = None,
        max_parallel: int | None = None,
        **engine: Any,
    ) -> None:
        place = _expanded(model)
        name = name or place.rstrip("/").rpartition("/")[2]
        shared = salted(VLLM, cache_salt)
        vllm = _imported()
        given = place if tokenizer is None else tokenizer
        warn_without_revision(place, engine.get("revision"))
        revision = engine.get("tokenizer_revision") or (engine.get("revision") if given == place else None)
        local = local_tokenizer(given, name, prompt_format, template_arguments, dialect, revision)
        self.tokenizer = local.tokenizer
        running = _Engine(vllm, {"model": place, **engine})
        # Also at the interpreter's end: the engine's process must not outlive this one.
        self._finalizer = weakref.finalize(self, running.close)
        self._snapshot: Callable[[], Sequence[Any]] = vllm.get_metrics_snapshot
        self.engine_config = running.config
        """What the engine was started with, as vLLM has it."""
        most = max_parallel or running.max_parallel
        super().__init__(
            running,
            name=name,
            profile=VLLM,
            way=ByTokenIds(VLLM, _ROUTE, local, most),
            shared=shared,
            max_parallel=most,
            context_window=running.context_window,
        )

    def cached_prompt_tokens(self) -> tuple[int, int]:
        """Prompt tokens that vLLM read in this process: those found in its prefix cache, and all of them.

        Raises:
            GenerationError: the engine does not count, as with ``disable_log_stats``.
        """
        counters = [counter for counter in self._snapshot() if counter.name in (_HITS, _LOOKUPS)]
        if not counters:
            raise GenerationError("vLLM counts nothing; leave disable_log_stats out")
        hits = sum(counter.value for counter in counters if counter.name == _HITS)
        lookups = sum(counter.value for counter in counters if counter.name == _LOOKUPS)
        return hits, lookups

    def close(self) -> None:
        """Abandon what is being drawn, and end the engine and its process."""
        self._finalizer()


class _Engine:
    """vLLM's asynchronous engine in an event loop of its own, called as its server is."""

    def __init__(self, vllm: SimpleNamespace, arguments: Mapping[str, Any]) -> None:
        self._vllm = vllm
        self._engine: Any = None
        self._numbers = count()
        self._loop = EventLoop("stars-guard-vllm", self._end)
        self._forked = False
        renew_in_children(self)
        try:
            engine: Any = self._loop.run(self._begin(arguments), lambda: True)
        except Exception as error:
            self.close()
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigurationError(f"vLLM does not start: {reason}") from error
        self.config: Any = engine.vllm_config
        self.max_parallel: int = self.config.scheduler_config.max_num_seqs
        self.context_window: int = self.config.model_config.max_model_len

    def renew(self) -> None:
        """A forked process cannot talk to the engine, which is its parent's."""
        self._forked = True

    def post_all(
        self, path: str, bodies: Sequence[dict[str, Any]], alive: Callable[[], bool]
    ) -> list[Any] | None:
        """The answers to calls made at the same time; None, and they are aborted, once they are not wanted.

        Raises:
            GenerationError: the engine failed, or was closed.
        """
        if self._forked:
            raise self.error(path, "this engine serves the process that started it; start one after a fork")
        try:
            return self._loop.run(self._all(bodies), alive)
        except CancelledError:
            raise self.error(path, "this model is closed; make a new one") from None
        except Exception as error:
            # vLLM's own words may hold parts of a prompt.
            raise self.error(path, f"{type(error).__name__}; look into its log") from error

    def error(self, path: str, what: str) -> GenerationError:
        """An error that names vLLM."""
        return GenerationError(f"{path}: {what}")

    def close(self) -> None:
        """End the engine and its loop."""
        self._loop.stop()

    async def _begin(self, arguments: Mapping[str, Any]) -> Any:
        # In the loop, since the engine's sockets belong to the loop in which they are made.
        self._engine = self._vllm.AsyncLLM.from_engine_args(self._vllm.AsyncEngineArgs(**arguments))
        return self._engine

    async def _end(self) -> None:
        if self._engine is not None:
            self._engine.shutdown()

    async def _all(self, bodies: Sequence[dict[str, Any]]) -> list[Any]:
        tasks = [asyncio.create_task(self._answer(**body)) for body in bodies]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _answer(
        self,
        prompt: list[int],
        cache_salt: str | None = None,
        kv_transfer_params: dict[str, Any] | None = None,
        request_id: str = "stars-guard",
        **sampling: Any,
    ) -> Any:
        """The answer of a server to the same body, as far as it is read."""
        vllm = self._vllm
        if kv_transfer_params is not None:
            sampling["extra_args"] = {"kv_transfer_params": kv_transfer_params}
        params = vllm.SamplingParams(
            **sampling, detokenize=False, output_kind=vllm.RequestOutputKind.FINAL_ONLY
        )
        salted = {} if cache_salt is None else {"cache_salt": cache_salt}
        ids = vllm.TokensPrompt(prompt_token_ids=prompt, **salted)
        outputs: Sequence[Any] = ()
        written = None
        async for answer in self._engine.generate(ids, params, f"{request_id}-{next(self._numbers)}"):
            outputs = answer.outputs
            written = getattr(answer, "kv_transfer_params", None)
        return {"choices": [_choice(output) for output in outputs], "kv_transfer_params": written}


def _choice(output: Any) -> dict[str, Any]:
    ids = list(output.token_ids)
    return {"index": output.index, "token_ids": ids, "finish_reason": output.finish_reason}


def _expanded(model: str | Path) -> str:
    if not str(model):
        raise ConfigurationError("no model is named; give its folder or hub id, as in vllm:FOLDER")
    return str(Path(model).expanduser()) if str(model).startswith("~") else str(model)


def _imported() -> SimpleNamespace:
    """What is used of vLLM."""
    try:
        from vllm import SamplingParams, TokensPrompt
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.async_llm import AsyncLLM
        from vllm.v1.metrics.reader import get_metrics_snapshot
    except ImportError as error:
        raise ConfigurationError(
            f"vLLM cannot be imported here ({error}); it pins its own torch, so install stars_guard into "
            "vLLM's environment, or serve with vLLM in an environment of its own and name it by vllm@URL"
        ) from error
    return SimpleNamespace(
        AsyncEngineArgs=AsyncEngineArgs,
        AsyncLLM=AsyncLLM,
        RequestOutputKind=RequestOutputKind,
        SamplingParams=SamplingParams,
        TokensPrompt=TokensPrompt,
        get_metrics_snapshot=get_metrics_snapshot,
    )
