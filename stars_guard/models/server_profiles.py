"""What inference servers call things: one frozen record for each, so that another server needs no new code.

Checked in their sources (vLLM 0.33, SGLang 0.5.23, transformers 5.23) and against a running llama.cpp server
(October 2026).

Seeds. A candidate is to be the same however many are drawn in a call. vLLM (``ParentRequest``) and llama.cpp
draw choice ``i`` of a call with ``seed + i``; then one call with ``n`` choices gives just what ``n`` calls
would. SGLang gives all choices of a seeded call the same seed, so that they would be alike, and a server that
is not known may do anything: there, each candidate is a call of its own, which a prefix cache makes cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from stars_guard.errors import ConfigurationError
from stars_guard.settings import Settings
from stars_guard.types import Finish

_OPENAI_FINISHES = {"stop": Finish.EOS, "length": Finish.LENGTH}
_EVERYTHING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
}


class IdsRoute(Settings):
    """Completions with token ids in and out."""

    path: str = "/v1/completions"
    """Where they are asked for."""
    extra: Mapping[str, Any] = {"return_token_ids": True}
    """Fields of every call."""
    length: str = "max_tokens"
    """Field for the most tokens of a choice."""
    count: str = "n"
    """Field for the number of choices."""
    choices: str | None = "choices"
    """Where in the answer the choices are; None: the answer is a list of them, or the only one."""
    ids: str = "token_ids"
    """Field of a choice with the ids that were drawn."""
    finish: str = "finish_reason"
    """Field of a choice that says why it ended."""
    finishes: Mapping[str, Finish] = _OPENAI_FINISHES
    """What the values of ``finish`` mean; any other is a failure. ``LENGTH`` may be the segment's end."""
    stop_token_ids: str | None = "stop_token_ids"
    """Field for ids that end a choice."""


class ServerProfile(Settings):
    """How one kind of server is spoken to. Paths are those after the root of the URL."""

    name: str
    """By which it is asked for."""
    ids: IdsRoute | None = None
    """How it takes and gives token ids, if it does."""
    seed: str | None = "seed"
    """Field for the seed."""
    seed_bits: int = Field(default=31, ge=16, le=62)
    """Seeds are under two to the power of this."""
    successive_seeds: bool = False
    """Whether choice ``i`` of a call is drawn with ``seed + i``; otherwise a call draws one candidate."""
    sampling: Mapping[str, str] = _EVERYTHING
    """Fields for settings of :class:`stars_guard.SamplingParams`, by setting."""
    sampling_extra: Mapping[str, Any] = {}
    """Fields that make the server sample by these settings alone."""
    salt: str | None = None
    """Field that keeps the prefix caches of different salts apart."""
    max_parallel: int = Field(default=64, ge=1)
    """Candidates that it draws at once without getting slower for each, if it does not say itself."""
    hit_counters: tuple[str, str] | None = None
    """Metrics at ``/metrics``: prompt tokens found in the prefix cache, and those looked up or read."""


VLLM = ServerProfile(
    name="vllm",
    ids=IdsRoute(),
    seed_bits=62,
    successive_seeds=True,
    salt="cache_salt",
    hit_counters=("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"),
)
SERVERS = {one.name: one for one in (VLLM,)}


def server_profile(name: str) -> ServerProfile:
    """The profile of that name.

    Raises:
        ConfigurationError: there is none.
    """
    if name not in SERVERS:
        raise ConfigurationError(f"there is no engine {name!r}; there are: {', '.join(SERVERS)}")
    return SERVERS[name]
