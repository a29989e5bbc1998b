"""Whether settings, models and reward go together: asked before anything is drawn."""

from __future__ import annotations

from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.escalation import SaferModel, SafetyHint
from stars_guard.algorithm.openings import RefusalOpening, WriteRefusal
from stars_guard.errors import ConfigurationError
from stars_guard.loading.calibrated import CalibratedConfig
from stars_guard.loop.sources import Proposers
from stars_guard.models.base import ChecksSegments, HasTokenizer, LanguageModel, takes_openings
from stars_guard.rewards.base import RewardModel, hidden_state_readers


def check_compatible(config: GuardConfig, proposers: Proposers, reward: RewardModel) -> None:
    """Refuse settings that these models cannot keep.

    Args:
        config: the STARS settings.
        proposers: the language models that are to draw.
        reward: the reward model that is to judge.

    Raises:
        ConfigurationError: naming the setting and the model.
    """
    _check_guarantee(config, proposers)
    _check_segments(config, proposers)
    _check_escalation(config, proposers, reward)
    _check_made_for(config, reward)


def check_vocabulary(model: LanguageModel, safer_model: LanguageModel) -> None:
    """The prefix is handed over as token ids, which must mean the same to both.

    Raises:
        ConfigurationError: they do not.
    """
    vocabularies = [
        llm.tokenizer.get_vocab() for llm in (model, safer_model) if isinstance(llm, HasTokenizer)
    ]
    if len(vocabularies) == 2 and vocabularies[0] != vocabularies[1]:
        raise ConfigurationError(
            f"{safer_model.name} has another vocabulary than {model.name}; take a model of the same family"
        )


def _check_guarantee(config: GuardConfig, proposers: Proposers) -> None:
    declared, least = proposers.guarantee, config.min_guarantee
    if least is not None and not declared.covers(least):
        raise ConfigurationError(
            f"{proposers.model.name} continues answers at the level {declared.value!r}, but min_guarantee is "
            f"{least.value!r}; use an engine that takes token ids, or demand less"
        )


def _check_segments(config: GuardConfig, proposers: Proposers) -> None:
    for model in (proposers.model, proposers.safer_model):
        if isinstance(model, ChecksSegments):
            model.check_segments(config.segments)


def _check_escalation(config: GuardConfig, proposers: Proposers, reward: RewardModel) -> None:
    kinds = {type(policy) for policy in config.escalation}
    if SaferModel in kinds and proposers.safer_model is None:
        raise ConfigurationError(
            "the policy safer_model needs a model: StarsGuardedLLM(..., safer_model=...)"
        )
    if _needs_openings(config) and not takes_openings(proposers.model):
        raise ConfigurationError(
            f"{proposers.model.name} cannot be made to go on with a text, which refusal_opening and "
            "write_refusal need; leave them out, or use a model that can"
        )
    if kinds & {SaferModel, SafetyHint}:
        # Their candidates carry no states: another prompt or model would be in them.
        for reader in hidden_state_readers(reward):
            reader.observes(None)


def _needs_openings(config: GuardConfig) -> bool:
    asked = any(isinstance(policy, RefusalOpening) and not policy.optional for policy in config.escalation)
    return asked or isinstance(config.exhaustion, WriteRefusal)


def _check_made_for(config: GuardConfig, reward: RewardModel) -> None:
    if isinstance(config, CalibratedConfig):
        config.check_reward(reward)
