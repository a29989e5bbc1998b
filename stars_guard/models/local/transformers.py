"""Any causal language model that transformers loads, drawing candidates for many answers in one batch.

The prompt is read once, a long one in pieces. For each round, the prefix caches are forked into one batch of
candidates, which is decoded token by token; a candidate leaves the batch when it ends:
:mod:`stars_guard.models.local.prefix_cache`.

What may be shared is proven when a model is constructed, by running it:
:mod:`stars_guard.models.local.proof`. Where nothing may, every token is drawn from a pass over the whole
text, and :attr:`TransformersModel.guarantee` says so.

What company changes: in float32, an answer is the same alone and in a batch, unless a random number falls
within rounding error (about 1e-6) of the border between two tokens, or a router is that undecided between two
experts. With ``int8_linears``, linear layers give the same bits in any batch. In bfloat16 or float16 a batch
may draw other tokens; every decision stays valid for the tokens that were drawn, and the trace replays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from stars_guard.algorithm.config import SamplingParams
from stars_guard.errors import ConfigurationError, ContextLengthError, PromptError
from stars_guard.http.hub import SHARED_OPTIONS, pretrained
from stars_guard.http.load_faults import check_complete, check_tokenizer, load_failures
from stars_guard.models.base import Order, Proposal, Session
from stars_guard.models.chat import ChatTemplate, PromptFormat, decoder, detect_dialect, raw_ids
from stars_guard.models.local.answers import ReadsAnswers
from stars_guard.models.local.grammar import GrammarCompiler
from stars_guard.models.local.passes import Passes
from stars_guard.models.local.proof import proven, tokens_to_try
from stars_guard.models.local.round import draw_together
from stars_guard.models.local.session import TransformersSession, our_session
from stars_guard.models.observing import at_prompt, check_layers, chosen
from stars_guard.prompts import Prompt
from stars_guard.text.answer_text import AnswerText
from stars_guard.text.dialects import PLAIN, Dialect
from stars_guard.types import Candidate, Guarantee, ModelIdentity, Named

PREFILL_TOKENS = 512
"""Most tokens of a prompt read in one pass, unless told otherwise."""


class TransformersModel(ReadsAnswers, Named):
    """A local causal language model.

    Args:
        model: a loaded causal LM, in any dtype, on any device.
        tokenizer: its tokenizer.
        name: for traces; the model's own path or id by default.
        prompt_format: ``chat`` uses the chat template, ``raw`` feeds the text of the messages as it is,
            ``auto`` is chat when there is a template. :meth:`Prompt.raw` is always raw.
        template_arguments: passed to the chat template, for example ``{"enable_thinking": False}``.
        dialect: how the model marks reasoning and tool calls; by default what template and vocabulary say.
        prefill_tokens: most tokens of a prompt that are read in one pass; between two, others are served, and
            a request that was cancelled or is out of time ends. A model whose cache cannot be read on from
            exactly reads every prompt in one pass.
        sanitize_control_tokens: control tokens spelled out in messages and tools are encoded as mere text, so
            that a retrieved document cannot end the turn it is quoted in.

    Attributes:
        passes: the forward passes through the model, and what they may share.

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
        prefill_tokens: int = PREFILL_TOKENS,
        sanitize_control_tokens: bool = True,
    ) -> None:
        if prefill_tokens < 1:
            raise ConfigurationError(f"prefill_tokens={prefill_tokens} must be 1 or more")
        if model.config.is_encoder_decoder:
            raise ConfigurationError(f"{model.config.model_type} is an encoder-decoder; use a causal model")
        if prompt_format == "chat" and not tokenizer.chat_template:
            raise ConfigurationError("prompt_format='chat' needs a tokenizer with a chat template; use 'raw'")
        self._prefill_tokens = prefill_tokens
        self.model = model.train(False)
        self.tokenizer = tokenizer
        self._name = name or model.config.name_or_path or model.config.model_type
        self._chat = bool(tokenizer.chat_template) if prompt_format == "auto" else prompt_format == "chat"
        tokens = tokens_to_try(tokenizer, model.config)
        self.passes = Passes(self.model, proven(self.model, tokens, self._name))
        self._lock = self.passes.lock
        self.dialect = dialect or detect_dialect(tokenizer)
        self._template = ChatTemplate(
            tokenizer,
            self._name,
            self.dialect,
            template_arguments or {},
            sanitize_control_tokens=sanitize_control_tokens,
        )
        turn_ends = self._template.turn_ends() if self._chat else frozenset()
        self.eos_ids = _eos_ids(model, tokenizer) | turn_ends
        self._decode = decoder(tokenizer, self.dialect, turn_ends)
        vocabulary = model.config.get_text_config().vocab_size
        self._grammars = GrammarCompiler(tokenizer, vocabulary, self.eos_ids)

    @classmethod
    def load(
        cls,
        path: str,
        *,
        dtype: str | torch.dtype = "auto",
        device: str | None = None,
        prepare: Callable[[PreTrainedModel], PreTrainedModel] | None = None,
        prompt_format: PromptFormat = "auto",
        prefill_tokens: int = PREFILL_TOKENS,
        revision: str | None = None,
        **from_pretrained: Any,
    ) -> TransformersModel:
        """Load a folder or a hub id.

        Args:
            path: folder or hub id.
            dtype: of the weights; ``auto`` takes what the checkpoint has.
            device: ``cpu``, ``cuda``, ``mps``...; the best available by default.
            prepare: applied to the loaded model, for example :func:`stars_guard.models.int8_linears`.
            prompt_format: see :class:`TransformersModel`.
            prefill_tokens: likewise.
            revision: commit, tag or branch of a hub id; a warning is logged without one.
            from_pretrained: passed on, for example ``quantization_config=`` or ``device_map=``.
                ``trust_remote_code`` is False unless it is given.

        Raises:
            ConfigurationError: nothing usable is there, and what was tried.
        """
        if path.startswith((".", "/", "~")) and not Path(path).expanduser().is_dir():
            raise ConfigurationError(f"cannot load a language model from {path!r}: there is no such folder")
        what, placed = f"cannot load a language model from {path!r}", {"dtype": dtype, "device": device}
        with (
            load_failures(what, path, placed),
            pretrained(path, {"revision": revision, **from_pretrained}) as options,
        ):
            shared = {name: options[name] for name in SHARED_OPTIONS if name in options}
            tokenizer = AutoTokenizer.from_pretrained(path, **shared)
            check_tokenizer(tokenizer, path)
            model = _with_all_weights(path, {"dtype": dtype, **options})
            if "device_map" not in from_pretrained and "quantization_config" not in from_pretrained:
                model = model.to(device or _best_device())
        model = prepare(model) if prepare else model
        # A trace is to name the model, not the place on this machine where it lies.
        name = Path(path).name if Path(path).is_dir() else path
        return cls(model, tokenizer, name=name, prompt_format=prompt_format, prefill_tokens=prefill_tokens)

    @property
    def name(self) -> str:
        """Path or id of the model."""
        return self._name

    @property
    def guarantee(self) -> Guarantee:
        """Exact in any case; unshared where its cache could not be relied on."""
        return Guarantee.TOKEN_IDS if self.passes.sharing.shared else Guarantee.UNSHARED

    @property
    def prefills(self) -> int:
        """Prompts read so far."""
        return self.passes.prefills

    @property
    def forward_passes(self) -> int:
        """Passes through the model so far, prefills included."""
        return self.passes.count

    @property
    def context_window(self) -> int | None:
        """Most tokens of prompt and answer together; None if the model sets no limit."""
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return positions if positions and positions > 0 else None

    def encode(self, prompt: Prompt) -> list[int]:
        """The prompt's token ids, chat template included.

        Raises:
            PromptError: the template refuses the messages.
        """
        if self._is_chat(prompt):
            return self._template.encode(prompt)
        if prompt.tools:
            raise PromptError(f"{self.name} has no chat template in use, and tools need one")
        return raw_ids(self.tokenizer, prompt.text or prompt.as_text())

    def prompt_tokens(self, prompt: Prompt) -> int:
        """Length of the prompt, in tokens, chat template included.

        Raises:
            PromptError: the template refuses the messages.
        """
        return len(self.encode(prompt))

    def _is_chat(self, prompt: Prompt) -> bool:
        return prompt.text is None and self._chat

    @cached_property
    def identity(self) -> ModelIdentity:
        """Sizes, and the embeddings of a few tokens, which quantisation and fine precision leave alone."""
        weights = self.model.get_input_embeddings().weight
        config = self.model.config.get_text_config()
        chosen = weights[:: max(1, len(weights) // 8), 0].detach().float().tolist()
        return ModelIdentity(self.name, config.num_hidden_layers, config.hidden_size, tuple(chosen))

    def start(self, prompt: Prompt, sampling: SamplingParams) -> Session:
        """Read the prompt, in as many passes as it has pieces."""
        return self._read(self.begin(prompt, sampling))

    def observe(
        self, prompt: Prompt, sampling: SamplingParams, layers: tuple[int, ...]
    ) -> TransformersSession:
        """Read the prompt; the candidates of the session carry hidden states.

        The last token of a candidate is then read at once and not only when it was accepted, in the batch of
        all candidates.

        Args:
            prompt: what is to be answered.
            sampling: how; its seed is set.
            layers: whose output is carried, from 0, the embedding.

        Raises:
            ConfigurationError: there is no such layer.
        """
        check_layers(layers, self.identity.layers)
        return self._read(self.begin(prompt, sampling, layers))

    def _read(self, session: TransformersSession) -> TransformersSession:
        while not self.read_on(session):
            pass
        return session

    def begin(
        self, prompt: Prompt, sampling: SamplingParams, layers: tuple[int, ...] = ()
    ) -> TransformersSession:
        """A session whose prompt has yet to be read, piece by piece.

        Args:
            prompt: what is to be answered.
            sampling: how; its seed is set.
            layers: as for :meth:`observe`; none for none.

        Raises:
            ConfigurationError: there is no such layer.
            PromptError: the prompt cannot be served.
        """
        if layers:
            check_layers(layers, self.identity.layers)
        ids = self.encode(prompt)
        self._check_room(len(ids), sampling.max_tokens)
        dialect = self._template.dialect_after(ids) if self._is_chat(prompt) else PLAIN
        decode = self._decode if prompt.text is None else self._decode.after(ids)
        return TransformersSession(
            self.passes.fresh(len(ids)),
            self.passes.sharing.side(len(ids)),
            ids,
            AnswerText(decode, sampling.stop, dialect, tools=prompt.tools is not None),
            sampling,
            dialect=dialect,
            grammar=self._grammars.compile(prompt.tools, sampling.response_schema, dialect),
            layers=layers,
        )

    def read_on(self, session: Session) -> bool:
        """Read the next piece of a session's prompt; True once it was read to its end."""
        reading = our_session(session)
        with self._lock:
            states = self.passes.prefill(reading, self._prefill_tokens)
        if states is not None and reading.layers:
            new = chosen(reading.layers, states)[0]
            reading.observed = at_prompt(self.identity, reading.layers, new)
        return states is not None

    def opened(self, session: Session, text: str, most: int) -> tuple[Session, Candidate]:
        """A session that goes on with a text: it is read after the same cache, which stays as it is.

        Args:
            session: whose prompt was read to its end.
            text: what the answer goes on with; control tokens in it are real ones.
            most: most tokens of it.
        """
        before = our_session(session)
        ids = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"][:most])
        opening = Candidate(ids, before.decode(ids))
        return before.branch(opening), opening

    def propose(self, orders: Sequence[Order]) -> list[Proposal]:
        """Draw for all orders in one batch."""
        with self._lock:
            return draw_together(self.passes, self.eos_ids, orders)

    def _check_room(self, prompt_tokens: int, max_tokens: int) -> None:
        if prompt_tokens == 0:
            raise PromptError("the prompt has no tokens; give a text")
        limit = self.context_window
        if limit is not None and prompt_tokens + max_tokens > limit:
            raise ContextLengthError.of(prompt_tokens, max_tokens, limit, self.name)


def _with_all_weights(path: str, options: Mapping[str, Any]) -> Any:
    if "quantization_config" in options:  # weights that are quantised meanwhile go by other names
        return AutoModelForCausalLM.from_pretrained(path, **options)
    loaded: Any = AutoModelForCausalLM.from_pretrained(path, output_loading_info=True, **options)
    model, report = loaded
    check_complete(report, path, "language model")
    return model


def _eos_ids(model: PreTrainedModel, tokenizer: Any) -> frozenset[int]:
    configured = model.generation_config.eos_token_id if model.generation_config else None
    several = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in [*several, tokenizer.eos_token_id] if token is not None)


def _best_device() -> str:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return str(accelerator) if accelerator else "cpu"
