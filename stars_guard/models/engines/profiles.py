"""What inference servers call things: one frozen record for each, so that another server needs no new code.

Checked in the sources of vLLM 0.33, SGLang 0.5.23 and transformers 5.23, and against running servers of
vLLM 0.32 and of llama.cpp of October 2026. Ollama, LM Studio, TensorRT-LLM and mlx-lm are as their sources or
documentation of 2026 say, and were not run.

Seeds. A candidate is to be the same however many are drawn in a call. vLLM (``ParentRequest``) and llama.cpp
draw choice ``i`` of a call with ``seed + i``; then one call with ``n`` choices gives just what ``n`` calls
would. SGLang gives all choices of a call the same seed, so that they would be alike, and a server that is not
known may do anything: there, each candidate is a call of its own, which a prefix cache makes cheap.
transformers takes no ``n``, and has one seed for all that it serves at a time: answers are independent there,
but only repeatable when nobody else asks.
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
    setting: setting for setting in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
}
_CONTINUED = {"continue_final_message": True, "add_generation_prompt": False}


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
    """Field of a choice with the ids that were drawn, that of the end included."""
    finish: str = "finish_reason"
    """Field of a choice that says why it ended."""
    finishes: Mapping[str, Finish] = _OPENAI_FINISHES
    """What the values of ``finish`` mean; any other is a failure. ``LENGTH`` may be the segment's end."""
    stop_token_ids: str | None = "stop_token_ids"
    """Field for ids that end a choice."""


class TokenizingRoute(Settings):
    """How the server turns prompts into token ids and back."""

    template: str | None = None
    """Path that turns messages into a text in ``prompt``; None: ``/tokenize`` takes messages itself."""
    text: str = "prompt"
    """Field for a text to be tokenized, and of one that was put together from ids."""
    raw: Mapping[str, Any] = {"add_special_tokens": True}
    """Fields beside a text that is to be continued as it stands."""
    templated: Mapping[str, Any] = {"add_special_tokens": False}
    """Fields beside one that a template made."""


class ServerProfile(Settings):
    """How one kind of server is spoken to. Paths are those after the root of the URL."""

    name: str
    """Name by which the profile is asked for."""
    aliases: tuple[str, ...] = ()
    """Other names for it. Case and punctuation do not matter in any."""
    models: str = "/v1/models"
    """Path that lists the models under ``data``, each with its ``id``."""
    windows: tuple[str, ...] = ("max_model_len", "meta.n_ctx")
    """Where a listed model says how many tokens fit, in the order of preference."""
    loaded: Mapping[str, Any] = {}
    """Fields by which a listed model is one that is loaded; empty: all are."""
    tag: str = ""
    """What the server adds to the name of a model that has no tag."""
    model_required: bool = False
    """Whether every call must name the model."""
    raw_text: bool = True
    """Whether it goes on with a text as it stands; otherwise it puts a template around each."""
    ids: IdsRoute | None = None
    """How it takes and gives token ids, if it does."""
    tokenizing: TokenizingRoute | None = None
    """How it tokenizes, if it does."""
    text: Mapping[str, Any] = {}
    """Fields beside a prompt in text that is complete with its special tokens."""
    prefill: Mapping[str, Any] | None = None
    """Fields that make it go on with the last message of a chat; None if it cannot."""
    prefill_echo: bool = False
    """Whether its answer then begins with that message."""
    response_format: bool = True
    """Whether it takes a JSON schema in ``response_format``."""
    seed: str | None = "seed"
    """Field for the seed."""
    seed_bits: int = Field(default=31, ge=16, le=62)
    """Seeds are under two to the power of this."""
    successive_seeds: bool = False
    """Whether choice ``i`` of a call is drawn with ``seed + i``; otherwise a call draws one candidate."""
    sampling: Mapping[str, str] = _EVERYTHING
    """Fields for settings of :class:`stars_guard.SamplingParams`, by setting."""
    sampling_extra: Mapping[str, Any] = {}
    """Fields that make it sample by these settings alone."""
    sampling_json: str | None = None
    """Field that takes all those as JSON text; None: each is a field of its own."""
    every_token: int = 0
    """The ``top_k`` that keeps all tokens."""
    salt: str | None = None
    """Field that keeps the prefix caches of different salts apart."""
    max_parallel: int = Field(default=64, ge=1)
    """Candidates that it draws at once without getting slower for each, and most choices of a call."""
    slots: tuple[str, str] | None = None
    """Path and field where it says how many those are."""
    hidden_states: Mapping[str, Any] | None = None
    """Fields of a call that have it write the hidden states of drawn tokens too; None if it never does."""
    cache_hits: tuple[str, ...] = ()
    """Counter at ``/metrics`` of the prompt tokens that were found in the prefix cache; empty: none known."""
    cache_lookups: tuple[str, ...] = ()
    """Counters whose sum is all prompt tokens."""


VLLM = ServerProfile(
    name="vllm",
    ids=IdsRoute(),
    tokenizing=TokenizingRoute(),
    text={"add_special_tokens": False},
    prefill=_CONTINUED,
    seed_bits=62,
    successive_seeds=True,
    salt="cache_salt",
    hidden_states={"kv_transfer_params": {"include_output_tokens": True}},
    cache_hits=("vllm:prefix_cache_hits_total",),
    cache_lookups=("vllm:prefix_cache_queries_total",),
)
SGLANG = ServerProfile(
    name="sglang",
    ids=IdsRoute(extra={"return_token_ids": True, "no_stop_trim": True}),
    prefill=_CONTINUED,
    every_token=-1,
    salt="cache_salt",
    cache_hits=("sglang:cached_tokens_total",),
    cache_lookups=("sglang:prompt_tokens_total",),
)
LLAMA_CPP = ServerProfile(
    name="llamacpp",
    aliases=("llama", "llamaserver"),
    ids=IdsRoute(
        path="/completion",
        extra={"return_tokens": True, "response_fields": ["index", "tokens", "stop_type", "timings"]},
        length="n_predict",
        count="n_cmpl",
        choices=None,
        ids="tokens",
        finish="stop_type",
        finishes={"eos": Finish.EOS, "limit": Finish.LENGTH},
        stop_token_ids=None,
    ),
    tokenizing=TokenizingRoute(
        template="/apply-template",
        text="content",
        raw={"add_special": True, "parse_special": True},
        templated={"add_special": False, "parse_special": True},
    ),
    prefill={},
    prefill_echo=True,
    successive_seeds=True,
    sampling={**_EVERYTHING, "repetition_penalty": "repeat_penalty"},
    sampling_extra={
        "samplers": ["penalties", "temperature", "top_k", "top_p", "min_p"],
        "repeat_last_n": 2**17,  # more than any context; -1 was once all of it
        "cache_prompt": True,
    },
    max_parallel=4,
    slots=("/props", "total_slots"),
    cache_hits=("llamacpp:prompt_tokens_cached_total",),
    cache_lookups=("llamacpp:prompt_tokens_cached_total", "llamacpp:prompt_tokens_total"),
)
TRANSFORMERS = ServerProfile(
    name="transformers",
    response_format=False,
    sampling_extra={"do_sample": True},
    sampling_json="generation_config",
    max_parallel=1,
)
_OPENAI_SAMPLING = {"temperature": "temperature", "top_p": "top_p"}
OLLAMA = ServerProfile(
    name="ollama",
    prefill={},
    # The model's own settings hold for what its OpenAI endpoints have no field for, top_k among them.
    sampling=_OPENAI_SAMPLING,
    tag=":latest",
    model_required=True,
    raw_text=False,
    max_parallel=1,
)
LM_STUDIO = ServerProfile(
    name="lmstudio",
    models="/api/v0/models",
    windows=("loaded_context_length", "max_context_length"),
    loaded={"state": "loaded"},
    prefill={},
    sampling={**_OPENAI_SAMPLING, "top_k": "top_k", "repetition_penalty": "repeat_penalty"},
    model_required=True,
    max_parallel=4,
)
TENSORRT_LLM = ServerProfile(
    name="trtllm",
    aliases=("tensorrtllm", "trtllmserve"),
    # Ids come only where no text is made of them, and the id that ended a choice only where that is kept.
    ids=IdsRoute(extra={"detokenize": False, "include_stop_str_in_output": True}),
    text={"add_special_tokens": False},
    model_required=True,
)
MLX_LM = ServerProfile(
    name="mlx",
    aliases=("mlxlm",),
    response_format=False,
    sampling_extra={"repetition_context_size": 2**17},  # as for llama.cpp, more than any context
    max_parallel=1,  # what has a seed is served alone
)
OPENAI = ServerProfile(name="openai", sampling=_OPENAI_SAMPLING, model_required=True)
"""Anything else that speaks like OpenAI's API, of which nothing more is known."""
SERVERS = {
    profile.name: profile
    for profile in (
        VLLM,
        SGLANG,
        LLAMA_CPP,
        TRANSFORMERS,
        OLLAMA,
        LM_STUDIO,
        TENSORRT_LLM,
        MLX_LM,
        OPENAI,
    )
}


def server_profile(name: str) -> ServerProfile:
    """The profile of that name, whatever its case and punctuation: ``LM Studio`` is ``lmstudio``.

    Raises:
        ConfigurationError: there is none.
    """
    plain = "".join(filter(str.isalnum, name.lower()))
    for known, profile in SERVERS.items():
        if name == known or plain in (known, *profile.aliases):
            return profile
    raise ConfigurationError(
        f"there is no engine {name!r}; there are: {', '.join(SERVERS)}; any other server that speaks like "
        "OpenAI's API is openai"
    )
