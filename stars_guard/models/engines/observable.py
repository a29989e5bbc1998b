"""Models in vLLM that hand out their hidden states, over HTTP and in this process.

vLLM draws with the method ``extract_hidden_states``, which writes the states of some layers into files while
it draws. So a probe costs no pass of its own there either.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stars_guard.algorithm.config import SamplingParams
from stars_guard.errors import ConfigurationError, ContextLengthError, GenerationError
from stars_guard.http.hub import pretrained
from stars_guard.models.engines.by_ids import ByTokenIds
from stars_guard.models.engines.by_observed_ids import ByObservedIds
from stars_guard.models.engines.engine_model import EngineModel
from stars_guard.models.engines.local_tokenizer import LocalTokenizer
from stars_guard.models.engines.openai import OpenAICompatibleModel
from stars_guard.models.engines.profiles import ServerProfile, server_profile
from stars_guard.models.engines.session import EngineSession
from stars_guard.models.engines.vllm import VLLMModel
from stars_guard.models.engines.written_states import StateFiles, WrittenStates
from stars_guard.prompts import Prompt
from stars_guard.types import HiddenStates, ModelIdentity

_FAST = Path("/dev/shm")
"""Where files are memory, on Linux."""


class ModelShape(NamedTuple):
    """What the configuration of a model says, and no engine."""

    layers: int
    """Number of layers."""
    vocabulary: int
    """Rows of the embedding."""

    @classmethod
    def of(cls, config: Any) -> ModelShape:
        """The shape that a configuration of transformers says."""
        text = config.get_text_config()
        return cls(text.num_hidden_layers, text.vocab_size)


class ObservableEngine(EngineModel):
    """A model whose engine writes hidden states, so that candidates carry them.

    Attributes:
        identity: what tells the model from others.
        handed_out: layers whose states it hands out, rising.
    """

    identity: ModelIdentity
    handed_out: tuple[int, ...]
    tokenizer: Any
    _way: ByObservedIds

    def _hand_out(self, written: WrittenStates, shape: ModelShape) -> None:
        """Ask the engine for the states of a few tokens, by which the model is known.

        Args:
            written: where states are.
            shape: of the model.

        Raises:
            ConfigurationError: it hands out none, or cannot be asked by token ids.
        """
        way: Any = self._way
        if not isinstance(way, ByTokenIds) or not isinstance(way.tokenizer, LocalTokenizer):
            raise ConfigurationError(
                "hidden states belong to token ids: pass tokenizer=, and no guarantee but token_ids"
            )
        mark = f"stars-guard-{uuid.uuid4().hex}"
        self.handed_out = written.layers
        self._files = StateFiles(written, mark)
        self._encoder = way.tokenizer
        self._way = ByObservedIds(way, self._files, mark)
        try:
            self.identity = self._way.identity = self._identified(shape)
        except GenerationError as error:
            raise ConfigurationError(f"{self.name} hands out no hidden states: {error}") from error

    def _identified(self, shape: ModelShape) -> ModelIdentity:
        """Sizes, and the embeddings of a few tokens, as those of a model in this process."""
        ids = list(range(0, shape.vocabulary, max(1, shape.vocabulary // 8)))
        (answer,) = self._asked([ids])
        embeddings = self._files.take(answer, ids, 0, (0,))[0]
        return ModelIdentity(self.name, shape.layers, embeddings.shape[1], tuple(embeddings[:, 0].tolist()))

    def observe(self, prompt: Prompt, sampling: SamplingParams, layers: tuple[int, ...]) -> EngineSession:
        """A session whose candidates carry hidden states. The engine reads the prompt at once.

        Args:
            prompt: what is to be answered.
            sampling: how; its seed is set.
            layers: whose output is carried.

        Raises:
            ConfigurationError: the engine does not hand out those.
            PromptError: the prompt cannot be served.
            GenerationError: the engine failed.
        """
        self._check_layers(layers)
        session = self.start(prompt, sampling)
        most = sampling.max_tokens + 1  # what is drawn past the last segment needs room, too
        if self.context_window and session.prompt_tokens + most > self.context_window:
            raise ContextLengthError.of(session.prompt_tokens, most, self.context_window, self.name)
        self._files.sweep()
        (answer,) = self._asked([session.opening])
        session.layers = layers
        (session.hidden,) = self._states_of(answer, session.opening, [], layers, [None])
        return session

    def read_states(
        self,
        texts: Sequence[tuple[Prompt, str]],
        layers: tuple[int, ...],
        lengths: Sequence[int | None] = (None,),
    ) -> list[list[HiddenStates]]:
        """The states of answers that were not drawn here; the engine reads each text in a call.

        Arguments and outcome are those of :meth:`stars_guard.models.base.ReadsStates.read_states`, and so are
        the errors, with a ``GenerationError`` where the engine failed.
        """
        self._check_layers(layers)
        encoded = [(self._encoder.encode(prompt)[0], self._encoder.ids(text)) for prompt, text in texts]
        numbers = [length for length in lengths if length is not None]
        if len(numbers) == len(lengths):
            encoded = [(prompt, response[: max(numbers)]) for prompt, response in encoded]
        states: list[list[HiddenStates]] = []
        for start in range(0, len(encoded), self._max_parallel):
            some = encoded[start : start + self._max_parallel]
            answers = self._asked([[*prompt, *response] for prompt, response in some])
            for answer, (prompt, response) in zip(answers, some, strict=True):
                most = len(response)
                ends = [most if length is None else min(length, most) for length in lengths]
                states.append(self._states_of(answer, prompt, response, layers, ends))
        return states

    def close(self) -> None:
        """Abandon what is being drawn, let the engine go, and remove what it wrote for nobody."""
        super().close()
        self._files.sweep(seconds=0)

    def _check_layers(self, layers: Sequence[int]) -> None:
        if missing := sorted(set(layers) - set(self.handed_out)):
            raise ConfigurationError(
                f"{self.name} hands out the hidden states of layers {list(self.handed_out)}, and {missing} "
                "are wanted too; start the engine with those, and state them"
            )

    def _asked(self, texts: Sequence[Sequence[int]]) -> list[Any]:
        """The answers to calls that have the engine read texts."""
        bodies = [{**self._shared, **self._way.reading(ids)} for ids in texts]
        return self._client.post_all(self._way.path, bodies, lambda: True) or []

    def _states_of(
        self,
        answer: Any,
        prompt: Sequence[int],
        response: Sequence[int],
        layers: tuple[int, ...],
        lengths: Sequence[int | None],
    ) -> list[HiddenStates]:
        try:
            return self._way.states(answer, prompt, response, layers, lengths)
        except GenerationError as error:
            raise self._client.error(self._way.path, str(error)) from None


class ObservableServer(ObservableEngine, OpenAICompatibleModel):
    """A model on a vLLM server that writes hidden states into a folder which this process can read.

    Unlike others, it is asked when it is made.

    Args:
        url: root of the server.
        engine: name or profile of what serves there.
        tokenizer: of that very model: loaded by transformers, or its folder or hub id.
        states: where the server writes states, and of which layers.
        shape: of the model; by default what the ``config.json`` beside the tokenizer says.
        options: of :class:`stars_guard.models.OpenAICompatibleModel`.

    Raises:
        ConfigurationError: the server hands out no states, or something does not fit.
    """

    def __init__(
        self,
        url: str,
        engine: str | ServerProfile,
        *,
        states: WrittenStates,
        tokenizer: Any = None,
        shape: ModelShape | None = None,
        **options: Any,
    ) -> None:
        profile = observed_profile(server_profile(engine) if isinstance(engine, str) else engine)
        if tokenizer is None:
            raise ConfigurationError("hidden states belong to token ids: pass tokenizer=, its folder or id")
        super().__init__(url, profile, tokenizer=tokenizer, **options)
        revision = options.get("tokenizer_revision")
        self._hand_out(states, shape or _shape_beside(tokenizer, revision))


class ObservableVLLM(ObservableEngine, VLLMModel):
    """A model in vLLM's engine in this process that hands out hidden states.

    Args:
        model: folder or hub id.
        hidden_layers: layers whose states are handed out, from 1.
        kv_transfer_config: settings of vLLM's connector that writes the states, instead of those used here.
        options: of :class:`stars_guard.models.VLLMModel`, those of the engine included.

    Raises:
        ConfigurationError: vLLM cannot be imported, or refuses the arguments, or the model.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        hidden_layers: Sequence[int],
        kv_transfer_config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        folder = Path(tempfile.mkdtemp(prefix="stars-guard-", dir=_FAST if _FAST.is_dir() else None))
        self._folder = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        layers = tuple(sorted({0, *hidden_layers}))
        connector = {**_CONNECTOR, **(kv_transfer_config or {})}
        place = {"shared_storage_path": str(folder)}
        connector["kv_connector_extra_config"] = {**connector.get("kv_connector_extra_config", {}), **place}
        super().__init__(model, **options, **extracting(layers), kv_transfer_config=_transfer(connector))
        self.profile = self._way.profile = observed_profile(self.profile)
        config = self.engine_config.model_config.hf_config
        self._hand_out(WrittenStates(folder=folder, layers=layers), ModelShape.of(config))

    def close(self) -> None:
        """Abandon what is being drawn, and end the engine and its process."""
        super().close()
        self._folder()


_CONNECTOR = {"kv_connector": "ExampleHiddenStatesConnector", "kv_role": "kv_producer"}


def extracting(layers: Sequence[int]) -> dict[str, Any]:
    """Arguments of vLLM's engine that make it write the states of layers."""
    config = {"hf_config": {"eagle_aux_hidden_state_layer_ids": list(layers)}}
    method = {"method": "extract_hidden_states", "num_speculative_tokens": 1, "draft_model_config": config}
    return {"speculative_config": method}


def observed_profile(profile: ServerProfile) -> ServerProfile:
    """The profile of an engine that writes hidden states.

    Raises:
        ConfigurationError: it never does.
    """
    if profile.hidden_states is None:
        raise ConfigurationError(f"{profile.name} hands out no hidden states; vllm does (docs/rewards.md)")
    # vLLM refuses min_p where it drafts, and extraction is a kind of drafting.
    sampling = {setting: field for setting, field in profile.sampling.items() if setting != "min_p"}
    return profile.changed(sampling=sampling)


def _shape_beside(tokenizer: Any, revision: str | None) -> ModelShape:
    """The shape of the model whose tokenizer this is, by the configuration that lies beside it.

    Raises:
        ConfigurationError: there is none.
    """
    from transformers import AutoConfig

    place = str(tokenizer if isinstance(tokenizer, str | Path) else getattr(tokenizer, "name_or_path", ""))
    try:
        with pretrained(place, {"revision": revision}, setting="tokenizer_revision") as given:
            return ModelShape.of(AutoConfig.from_pretrained(place, **given))
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigurationError(
            f"there is no config.json beside the tokenizer in {place!r}, which says how large the model is; "
            "pass the model's own folder or hub id as tokenizer="
        ) from error


def _transfer(settings: Mapping[str, Any]) -> Any:
    """Vllm's own object for these settings."""
    try:
        from vllm.config import KVTransferConfig
    except ImportError:
        return None  # the model says what is to be done
    return KVTransferConfig(**settings)
