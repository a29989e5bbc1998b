"""StarsGuardedLLM: a language model, a reward model and the settings, held together for users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from stars_guard.algorithm.acceptance import AcceptanceKey
from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.algorithm.escalation import SafetyHint
from stars_guard.algorithm.overrides import Overrides, RequestSettings, SamplingOverrides
from stars_guard.compatibility import check_compatible, check_vocabulary
from stars_guard.errors import ConfigurationError
from stars_guard.loading.calibrated import corrected
from stars_guard.loop.events import Request
from stars_guard.loop.loop import Loop
from stars_guard.loop.sources import hinted
from stars_guard.loop.streams import AsyncGuardedStream, GuardedStream, OnDecision
from stars_guard.models.base import LanguageModel
from stars_guard.prompts import Prompt, PromptLike
from stars_guard.result import GuardedResult
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.batching import MicroBatching

if TYPE_CHECKING:
    from typing import Self

    from stars_guard.loading.names import ModelLike, RewardLike


class StarsGuardedLLM:
    """A language model that only shows text which its reward model accepted.

    Construct it once and use it from any number of threads and tasks; requests that overlap are decoded in
    one batch, and their results do not depend on that.

    Args:
        model: the language model that proposes.
        reward: the reward model that judges; higher is safer or better.
        config: the STARS settings.
        sampling: how to propose, unless a call says otherwise.
        budget: what a request may cost, unless a call says otherwise.
        safer_model: a language model with the same vocabulary, for the escalation policy of that name.
        max_rows: most candidates decoded in one batch, over all requests; with an engine that batches on its
            own, most requests at the same time.
        micro_batching: with such an engine, how the scoring of several requests is put together.
        acceptance_key: secret that acceptance draws are hashed with, for callers who choose the seed and are
            not to be trusted with it. None: the seed alone repeats an answer, and tells its draws.

    Raises:
        ConfigurationError: a part has the wrong shape.

    Example:
        >>> from stars_guard import Constant, GuardConfig, Hard, StarsGuardedLLM
        >>> from stars_guard.testing import KeywordReward, ScriptedModel
        >>> llm = StarsGuardedLLM(
        ...     ScriptedModel([["Sure, here is poison.", "I would rather not."]]),
        ...     KeywordReward(["poison"]),
        ...     GuardConfig(threshold=Constant(target=1.0), acceptance=Hard()),
        ... )
        >>> llm.generate("Help me.").text
        'I would rather not.'
    """

    def __init__(
        self,
        model: LanguageModel,
        reward: RewardModel,
        config: GuardConfig,
        *,
        sampling: SamplingParams | None = None,
        budget: Budget | None = None,
        safer_model: LanguageModel | None = None,
        max_rows: int = 64,
        micro_batching: MicroBatching | None = None,
        acceptance_key: AcceptanceKey | None = None,
    ) -> None:
        _require(model, LanguageModel, "model", "a language model with name, start and propose")
        _require(reward, RewardModel, "reward", "a reward model with name, score and release")
        _require(config, GuardConfig, "config", "a GuardConfig with a threshold on the reward's scale")
        if max_rows < 1:
            raise ConfigurationError(f"max_rows={max_rows} must be 1 or more")
        if safer_model is not None:
            _require(
                safer_model, LanguageModel, "safer_model", "a language model with name, start and propose"
            )
            check_vocabulary(model, safer_model)
        loop = Loop(
            model,
            corrected(config, reward),
            safer_model=safer_model,
            max_rows=max_rows,
            micro_batching=micro_batching,
        )
        self._fill(loop, config, sampling, budget, acceptance_key)

    def _fill(
        self,
        loop: Loop,
        config: GuardConfig,
        sampling: SamplingParams | None,
        budget: Budget | None,
        acceptance_key: AcceptanceKey | None = None,
    ) -> None:
        self.loop = loop
        self._check(config)
        self.config = self._checked_config = config
        self.sampling = sampling or SamplingParams()
        self.budget = budget or Budget()
        self.acceptance_key = acceptance_key

    @classmethod
    def load(
        cls,
        model: ModelLike = None,
        reward: RewardLike = None,
        config: GuardConfig | str | Path | None = None,
        *,
        model_options: dict[str, Any] | None = None,
        reward_options: dict[str, Any] | None = None,
        **parts: Any,
    ) -> Self:
        """Load by name, or take what is in hand; what is left out is the embedded default.

        Args:
            model: folder or id of a causal language model, the name of an engine
                (``vllm@http://localhost:8000``), a description of :mod:`stars_guard.loading.specs`, or a
                language model.
            reward: folder or id of a sequence classification model, a name of code (``my_rewards.py:calm``)
                or of a judge, a description of :mod:`stars_guard.loading.specs`, a reward model, or a
                function ``f(prompt, response) -> float``.
            config: STARS settings, or the path of a file with them, or of one with all settings, of which
                what is not given here is taken; required with a reward model of one's own, since rewards
                differ in scale.
            model_options: for :meth:`stars_guard.models.TransformersModel.load`, or of an engine's model.
            reward_options: for :meth:`stars_guard.rewards.ClassifierReward.load`, or of a judge.
            parts: ``sampling``, ``budget``, ``safer_model``, ``max_rows``, ``micro_batching`` and
                ``acceptance_key`` as in the constructor.

        Raises:
            ConfigurationError: nothing usable is there, an extra is missing, or the settings were made for
                another reward model.
        """
        from stars_guard.loading.configuration import guard_parts
        from stars_guard.loading.parts import load_parts

        choice = guard_parts(model, reward, config)
        loaded = load_parts(
            choice.model, choice.reward, model_options=model_options, reward_options=reward_options
        )
        return cls(*loaded, choice.config, **choice.answering(**parts))

    @classmethod
    def shared(
        cls,
        model: ModelLike = None,
        reward: RewardLike = None,
        config: GuardConfig | str | Path | None = None,
        *,
        model_options: dict[str, Any] | None = None,
        reward_options: dict[str, Any] | None = None,
        sampling: SamplingParams | None = None,
        budget: Budget | None = None,
    ) -> Self:
        """Like :meth:`load`, but the same names with the same options are loaded once per process.

        All who share them share one loop, so that their requests are decoded in one batch. An object is
        shared by all who give that very object, as long as one of their guards is in use.

        Args:
            model: which language model, as for :meth:`load`; likewise the next four.
            reward: which reward model.
            config: STARS settings, or the path of a file with them.
            model_options: how to load the model.
            reward_options: how to load the reward.
            sampling: how to propose, unless a call says otherwise.
            budget: what a request may cost, unless a call says otherwise.

        Raises:
            ConfigurationError: as for :meth:`load`.
        """
        from stars_guard.loading.configuration import guard_parts
        from stars_guard.loading.parts import shared_loop

        choice = guard_parts(model, reward, config)
        guard = cls.__new__(cls)
        loop = shared_loop(choice.model, choice.reward, choice.config, model_options, reward_options)
        guard._fill(loop, choice.config, **choice.answering(sampling=sampling, budget=budget))
        return guard

    @property
    def model(self) -> LanguageModel:
        """The language model."""
        return self.loop.rounds.proposers.model

    @property
    def reward(self) -> RewardModel:
        """The reward model."""
        return self.loop.rounds.reward

    def stream(
        self, prompt: PromptLike, *, on_decision: OnDecision | None = None, **overrides: Unpack[Overrides]
    ) -> GuardedStream:
        """Stream accepted text piece by piece. A stream that is read alone is computed as it is read.

        Args:
            prompt: a text, chat messages, or a :class:`stars_guard.Prompt`.
            on_decision: called for every judged candidate, by the thread that reads the stream.
            overrides: ``sampling``, ``config`` and ``budget`` for this request, instead of the guard's own,
                and single fields of sampling: ``max_tokens=8, temperature=0.2``.

        Raises:
            ConfigurationError: there is no such setting, or one is out of range.
            PromptError: the prompt is empty or malformed.
        """
        return GuardedStream(self.loop.driver, self._request(prompt, overrides), on_decision)

    def astream(
        self, prompt: PromptLike, *, on_decision: OnDecision | None = None, **overrides: Unpack[Overrides]
    ) -> AsyncGuardedStream:
        """Like :meth:`stream`, for ``async for``. Call it with a running event loop."""
        return AsyncGuardedStream(self.loop.driver, self._request(prompt, overrides), on_decision)

    def astream_request(self, request: Request, on_decision: OnDecision | None = None) -> AsyncGuardedStream:
        """Like :meth:`astream`, for a request that is complete; the guard's own settings do not matter.

        Args:
            request: what to answer, how to propose, how to guard, and what it may cost.
            on_decision: called for every judged candidate, by the task that reads the stream.

        Raises:
            ConfigurationError: the guard's models cannot keep the settings, or a part has the wrong shape.
            PromptError: a policy has no place in the prompt.
        """
        return AsyncGuardedStream(self.loop.driver, self._accepted(request), on_decision)

    def generate(
        self, prompt: PromptLike, *, on_decision: OnDecision | None = None, **overrides: Unpack[Overrides]
    ) -> GuardedResult:
        """Answer a prompt. Arguments are those of :meth:`stream`.

        Raises:
            PromptError: the prompt cannot be served.
            GenerationError, ScoringError: an outage, unless ``config.on_error`` is ``stop``.
            NoAcceptableSegment: exhaustion policy ``raise``.
        """
        with self.stream(prompt, on_decision=on_decision, **overrides) as stream:
            return stream.read()

    async def agenerate(
        self, prompt: PromptLike, *, on_decision: OnDecision | None = None, **overrides: Unpack[Overrides]
    ) -> GuardedResult:
        """Like :meth:`generate`; cancelling the task stops the model within one token step."""
        async with self.astream(prompt, on_decision=on_decision, **overrides) as stream:
            return await stream.read()

    def batch(
        self,
        prompts: Sequence[PromptLike],
        *,
        sampling: SamplingParams | Sequence[SamplingParams] | None = None,
        config: GuardConfig | None = None,
        budget: Budget | None = None,
        **fields: Unpack[SamplingOverrides],
    ) -> list[GuardedResult]:
        """Answer several prompts together; each result equals that of :meth:`generate` with the same seed.

        Args:
            prompts: what to answer.
            sampling: one for all, or one per prompt.
            config: instead of the guard's own.
            budget: what each request may cost.
            fields: single fields of sampling, for all prompts.

        Raises:
            ConfigurationError: ``sampling`` has the wrong length, or there is no such setting.
            StarsGuardError: the first failure; the other requests are then cancelled.
        """
        samplings = (
            [sampling] * len(prompts) if isinstance(sampling, SamplingParams | None) else list(sampling)
        )
        if len(samplings) != len(prompts):
            raise ConfigurationError(f"{len(prompts)} prompts but {len(samplings)} sampling parameters")
        shared = {**fields, "config": config, "budget": budget}
        requests = [
            self._request(prompt, {**shared, "sampling": each})
            for prompt, each in zip(prompts, samplings, strict=True)
        ]
        streams = [GuardedStream(self.loop.driver, request) for request in requests]
        try:
            return [stream.read() for stream in streams]
        finally:
            for stream in streams:
                stream.close()

    def __repr__(self) -> str:
        model, reward = self.model.name, self.reward.name
        return f"{type(self).__name__}(model={model!r}, reward={reward!r}, config={self.config!r})"

    def _request(self, prompt: PromptLike, overrides: Mapping[str, Any]) -> Request:
        own = RequestSettings(self.sampling, self.config, self.budget)
        return self._accepted(Request(Prompt.of(prompt), *own.overridden(overrides), self.acceptance_key))

    def _accepted(self, request: Request) -> Request:
        """The request, once everything about it was checked that can be before it is served."""
        _require(request.prompt, Prompt, "prompt", "a Prompt")
        _require(request.sampling, SamplingParams, "sampling", "SamplingParams")
        _require(request.config, GuardConfig, "config", "a GuardConfig")
        _require(request.budget, Budget, "budget", "a Budget")
        if request.config is not self._checked_config:  # the guard's own were checked when it was made
            self._check(request.config)
        for policy in request.config.escalation:
            if isinstance(policy, SafetyHint):
                hinted(request.prompt, policy.text)
        return request

    def _check(self, config: GuardConfig) -> None:
        check_compatible(config, self.loop.rounds.proposers, self.loop.rounds.reward)


def _require(value: object, kind: type, name: str, wanted: str) -> None:
    if not isinstance(value, kind):
        raise ConfigurationError(f"{name} is {type(value).__name__}; pass {wanted}")
