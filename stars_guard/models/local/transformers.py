"""Any causal language model that transformers loads, drawing candidates for many answers in one batch.

The prompt is read once. For each round, the prefix caches are forked into one batch of candidates, which is
decoded token by token; a candidate leaves the batch when it ends:
:mod:`stars_guard.models.local.prefix_cache`.

What company changes: in float32, an answer is the same alone and in a batch, unless a random number falls
within rounding error (about 1e-6) of the border between two tokens, or a router is that undecided between two
experts. With ``int8_linears``, linear layers give the same bits in any batch. In bfloat16 or float16 a batch
may draw other tokens; every decision stays valid for the tokens that were drawn, and the trace replays.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel

from stars_guard.algorithm.config import SamplingParams
from stars_guard.errors import ConfigurationError, PromptError
from stars_guard.models.base import Order, Proposal, Session
from stars_guard.models.chat import ChatTemplate, decoder, detect_dialect
from stars_guard.models.local import prefix_cache, reading
from stars_guard.models.local.grammar import Constraints
from stars_guard.models.local.observing import States, at_prompt, check_layers, chosen, extended
from stars_guard.models.local.round import Round
from stars_guard.models.local.session import TransformersSession, our_session
from stars_guard.text.dialects import PLAIN, Dialect
from stars_guard.types import HiddenStates, ModelIdentity, Prompt

PromptFormat = Literal["auto", "chat", "raw"]


class TransformersModel:
    """A local causal language model.

    Args:
        model: a loaded causal LM, in any dtype, on any device.
        tokenizer: its tokenizer.
        name: for traces; the model's own path or id by default.
        prompt_format: ``chat`` uses the chat template, ``raw`` feeds the text of the messages as it is,
            ``auto`` is chat when there is a template. :meth:`Prompt.raw` is always raw.
        template_arguments: passed to the chat template, for example ``{"enable_thinking": False}``.
        dialect: how the model marks reasoning and tool calls; by default what template and vocabulary say.
        sanitize_control_tokens: control tokens spelled out in messages and tools are encoded as mere text, so
            that a retrieved document cannot end the turn it is quoted in.

    Attributes:
        prefills: prompts read so far.
        forward_passes: passes through the model so far, prefills included.

    Raises:
        ConfigurationError: the model cannot be used, and why.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        *,
        name: str | None = None,
        prompt_format: PromptFormat = "auto",
        template_arguments: Mapping[str, Any] | None = None,
        dialect: Dialect | None = None,
        sanitize_control_tokens: bool = True,
    ) -> None:
        if model.config.is_encoder_decoder:
            raise ConfigurationError(f"{model.config.model_type} is an encoder-decoder; use a causal model")
        if prompt_format == "chat" and not tokenizer.chat_template:
            raise ConfigurationError("prompt_format='chat' needs a tokenizer with a chat template; use 'raw'")
        prefix_cache.empty(model.config)
        self.model = model.train(False)
        self.tokenizer = tokenizer
        self._name = name or model.config.name_or_path or model.config.model_type
        self._chat = bool(tokenizer.chat_template) if prompt_format == "auto" else prompt_format == "chat"
        self._accepted_arguments = set(signature(model.forward).parameters)
        self._lock = threading.Lock()
        self.eos_ids = _eos_ids(model, tokenizer)
        self.dialect = dialect or detect_dialect(tokenizer)
        self._template = ChatTemplate(
            tokenizer,
            self._name,
            self.dialect,
            template_arguments or {},
            sanitize_control_tokens=sanitize_control_tokens,
        )
        self._decode = decoder(tokenizer, self.dialect)
        vocabulary = model.config.get_text_config().vocab_size
        self._constraints = Constraints(tokenizer, vocabulary, self.eos_ids)
        self.prefills = 0
        self.forward_passes = 0

    @classmethod
    def load(
        cls,
        path: str,
        *,
        dtype: str | torch.dtype = "auto",
        device: str | None = None,
        prepare: Callable[[PreTrainedModel], PreTrainedModel] | None = None,
        prompt_format: PromptFormat = "auto",
        **from_pretrained: Any,
    ) -> TransformersModel:
        """Load a folder or a hub id.

        Args:
            path: folder or hub id.
            dtype: of the weights; ``auto`` takes what the checkpoint has.
            device: ``cpu``, ``cuda``, ``mps``...; the best available by default.
            prepare: applied to the loaded model, for example :func:`stars_guard.models.int8_linears`.
            prompt_format: see :class:`TransformersModel`.
            from_pretrained: passed on, for example ``quantization_config=`` or ``device_map=``.

        Raises:
            ConfigurationError: nothing usable is there, and what was tried.
        """
        if path.startswith((".", "/", "~")) and not Path(path).expanduser().is_dir():
            raise ConfigurationError(f"cannot load a language model from {path!r}: there is no such folder")
        try:
            tokenizer = AutoTokenizer.from_pretrained(path)
            model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, **from_pretrained)
            if "device_map" not in from_pretrained and "quantization_config" not in from_pretrained:
                model = model.to(device or _best_device())
        except (OSError, ValueError, KeyError, ImportError, AttributeError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigurationError(
                f"cannot load a language model from {path!r}: {reason} "
                "(give a folder with config.json, weights and tokenizer, or a hub id that can be reached; "
                "check dtype and device)"
            ) from error
        model = prepare(model) if prepare else model
        # A trace is to name the model, not the place on this machine where it lies.
        name = Path(path).name if Path(path).is_dir() else path
        return cls(model, tokenizer, name=name, prompt_format=prompt_format)

    @property
    def name(self) -> str:
        """Path or id of the model."""
        return self._name

    @property
    def context_window(self) -> int | None:
        """Most tokens of prompt and answer together; None if the model sets no limit."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def encode(self, prompt: Prompt) -> list[int]:
        """The prompt's token ids, chat template included.

        Raises:
            PromptError: the template refuses the messages.
        """
        if self._is_chat(prompt):
            return self._template.encode(prompt)
        if prompt.tools:
            raise PromptError(f"{self.name} has no chat template in use, and tools need one")
        return list(self.tokenizer(prompt.text or prompt.as_text())["input_ids"])

    def _is_chat(self, prompt: Prompt) -> bool:
        return prompt.text is None and self._chat

    @cached_property
    def identity(self) -> ModelIdentity:
        """By the embeddings of a few tokens, which quantisation and fine precision leave alone."""
        weights = self.model.get_input_embeddings().weight
        config = self.model.config.get_text_config()
        chosen = weights[:: max(1, len(weights) // 8), 0].detach().float().tolist()
        return ModelIdentity(self.name, config.num_hidden_layers, config.hidden_size, tuple(chosen))

    def start(self, prompt: Prompt, sampling: SamplingParams) -> Session:
        """Read the prompt: one forward pass."""
        return self._read(prompt, sampling, ())

    def observe(
        self, prompt: Prompt, sampling: SamplingParams, layers: tuple[int, ...]
    ) -> TransformersSession:
        """Likewise; candidates carry the states of ``layers``, from 0 (the embedding) on.

        The last token of a candidate is then read at once and not only when it was accepted, in the batch of
        all candidates.

        Raises:
            ConfigurationError: there is no such layer.
        """
        check_layers(layers, self.identity.layers)
        return self._read(prompt, sampling, layers)

    def _read(self, prompt: Prompt, sampling: SamplingParams, layers: tuple[int, ...]) -> TransformersSession:
        ids = self.encode(prompt)
        self._check_room(len(ids), sampling.max_tokens)
        dialect = self._template.dialect_after(ids) if self._is_chat(prompt) else PLAIN
        session = TransformersSession(
            self.model.config,
            self._decode,
            ids,
            sampling,
            raw=prompt.text is not None,
            dialect=dialect,
            constraint=self._constraints.compile(prompt.tools, sampling.response_schema, dialect),
        )
        with self._lock:
            logits, states = self.forward(torch.tensor([ids]), session.cache, observing=bool(layers))
            session.logits = logits[0]
            session.observed = self._before(layers, states) if layers else None
            session.forward_passes = 1
            self.prefills += 1
        return session

    def _before(self, layers: tuple[int, ...], states: States) -> HiddenStates:
        """The states of an answer that has not begun, after the pass over its prompt."""
        return at_prompt(self.identity, layers, chosen(layers, states)[0])

    def read_states(
        self,
        texts: Sequence[tuple[Prompt, str]],
        layers: tuple[int, ...],
        lengths: Sequence[int | None] = (None,),
    ) -> list[list[HiddenStates]]:
        """The states of answers that were not drawn here, in passes of their own.

        Args:
            texts: prompts and answers.
            layers: as for :meth:`observe`.
            lengths: response tokens after which to take them; None is the end.

        Returns:
            For each text, one for each length.

        Raises:
            ConfigurationError: there is no such layer.
            PromptError: the template refuses the messages.
        """
        check_layers(layers, self.identity.layers)
        with self._lock:
            return reading.read_states(self, texts, layers, lengths)

    def propose(self, orders: Sequence[Order]) -> list[Proposal]:
        """Draw for all orders in one batch."""
        with self._lock:
            self._catch_up([our_session(order.session) for order in orders])
            return Round(self, orders).draw()

    @torch.inference_mode()
    def forward(
        self,
        ids: torch.Tensor,
        cache: DynamicCache,
        *,
        padding: Sequence[int] = (),
        observing: bool = False,
    ) -> tuple[torch.Tensor, States]:
        """One pass: ``ids`` [rows, new] after ``cache``; returns the last logits [rows, vocabulary].

        With ``observing``, also the hidden states, one tensor [rows, new, hidden] per layer. ``padding`` is
        the number of columns of ``cache`` that each row must not see, on its left.
        """
        arguments: dict[str, Any] = {"input_ids": ids.to(self.model.device), "past_key_values": cache}
        if any(padding):
            arguments |= self._padded(padding, cache.get_seq_length(), ids.shape[1])
        if "logits_to_keep" in self._accepted_arguments:
            arguments["logits_to_keep"] = 1
        if observing:
            arguments["output_hidden_states"] = True
        self.forward_passes += 1
        output = self.model(**arguments, use_cache=True)
        return output.logits[:, -1], tuple(output.hidden_states or ())

    def _padded(self, padding: Sequence[int], cached: int, new: int) -> dict[str, torch.Tensor]:
        device = self.model.device
        hidden = torch.tensor(padding, device=device).unsqueeze(-1)
        columns = torch.arange(cached + new, device=device)
        arguments = {"attention_mask": (columns >= hidden).long(), "position_ids": columns[cached:] - hidden}
        return {key: value for key, value in arguments.items() if key in self._accepted_arguments}

    def _catch_up(self, sessions: Sequence[TransformersSession]) -> None:
        """Feed the accepted tokens that sessions have not read: once, before forking."""
        single = [session for session in sessions if len(session.pending) == 1]
        if single:
            self._feed_last(single)
        for session in sessions:
            if session.pending:
                self._feed_pending(session)

    def _feed_last(self, behind: Sequence[TransformersSession]) -> None:
        """One token each, in one batch."""
        lengths = [session.length for session in behind]
        batch = prefix_cache.join([session.cache for session in behind], lengths, room=1)
        ids = torch.tensor([session.pending for session in behind])
        padding = [max(lengths) - own for own in lengths]
        layers = next((session.observed.layers for session in behind if session.observed), ())
        logits, states = self.forward(ids, batch, padding=padding, observing=bool(layers))
        for row, session in enumerate(behind):
            session.forward_passes += 1
            if session.observed:
                session.observed = extended(session.observed, chosen(layers, states)[row])
            session.advance(prefix_cache.take(batch, row, session.length + 1), logits[row])

    def _feed_pending(self, session: TransformersSession) -> None:
        """Several tokens, drawn elsewhere, in a pass of their own."""
        tokens = torch.tensor([session.pending])
        cache = prefix_cache.join([session.cache], [session.length], room=len(session.pending))
        logits, states = self.forward(tokens, cache, observing=session.observed is not None)
        session.forward_passes += 1
        if session.observed:
            session.observed = extended(session.observed, chosen(session.observed.layers, states)[0])
        length = session.length + len(session.pending)
        session.advance(prefix_cache.take(cache, 0, length), logits[0])

    def _check_room(self, prompt_tokens: int, max_tokens: int) -> None:
        if prompt_tokens == 0:
            raise PromptError("the prompt has no tokens; give a text")
        limit = self.context_window
        if limit is not None and prompt_tokens + max_tokens > limit:
            raise PromptError(
                f"{prompt_tokens} prompt tokens plus max_tokens={max_tokens} exceed the {limit} positions of "
                f"{self.name}; shorten the prompt or lower max_tokens"
            )


def _eos_ids(model: PreTrainedModel, tokenizer: Any) -> frozenset[int]:
    configured = model.generation_config.eos_token_id if model.generation_config else None
    several = configured if isinstance(configured, list) else [configured]
    return frozenset(one for one in [*several, tokenizer.eos_token_id] if one is not None)


def _best_device() -> str:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return str(accelerator) if accelerator else "cpu"
