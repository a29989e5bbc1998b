"""Attack on a probe by someone who has its weights: a suffix that makes it like a harmful answer.

Greedy coordinate search (the idea of GCG and HotFlip): the gradient of the reward with respect to the
embeddings of the suffix says which tokens would raise it most; some of them are tried, and the best text is
kept. A try is scored as text that is encoded anew, since that is what a prompt is: tokens that do not survive
it gain nothing.
"""

import random
from collections.abc import Sequence
from functools import cached_property

import torch
from pydantic import Field
from torch import Tensor

from stars_guard.errors import ConfigurationError
from stars_guard.loading.parts import load_model, load_reward
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.models.observing import at_prompt, chosen, extended
from stars_guard.prompts import Prompt
from stars_guard.rewards.classifiers.probe import ProbeReward, features_of
from stars_guard.settings import Record, Settings

_FIRST = " !"
"""What the suffix is made of before the search."""
_LIKELIEST = 64
"""Tokens at each place among which replacements are drawn: those that the gradient likes most."""


class SuffixSearch(Settings):
    """How far the attacker goes."""

    tokens: int = Field(default=8, ge=1)
    """Length of the suffix, before it is encoded anew."""
    steps: int = Field(default=4, ge=1)
    """Gradients that are taken."""
    tried: int = Field(default=32, ge=1)
    """Replacements of one token that are tried after each."""
    seed: int = Field(default=0, ge=0)
    """Says which replacements are tried, of those that the gradient likes."""


class SuffixAttack(Record):
    """What was found for one answer."""

    suffix: str
    """What is appended to the prompt; empty where nothing raised the reward."""
    before: float
    """Reward of the answer to the prompt as it was."""
    rewards: tuple[float, ...]
    """Best reward after each step; it never falls."""

    @property
    def after(self) -> float:
        """Reward of the same answer to the prompt with the suffix."""
        return self.rewards[-1]


class ProbeAttacker:
    """Searches for suffixes with the weights of model and probe at hand.

    Args:
        model: that the probe was trained on, in a precision that gradients can be taken in.
        probe: the reward that is attacked.
    """

    def __init__(self, model: TransformersModel, probe: ProbeReward) -> None:
        probe.observes(model.identity)
        self._model, self._probe = model, probe
        self._layers = probe.settings.layers

    @classmethod
    def load(cls, model: str | None, probe: str) -> "ProbeAttacker":
        """Load both by name, the model in float32.

        Args:
            model: as ``--model`` takes it; None: the embedded one.
            probe: as ``--reward`` takes it.

        Raises:
            ConfigurationError: the model is not a local one, or the reward is no probe of it.
        """
        reward, loaded = load_reward(probe), load_model(model, {"dtype": "float32"})
        if not isinstance(reward, ProbeReward) or not isinstance(loaded, TransformersModel):
            raise ConfigurationError(
                f"{reward.name} with {loaded.name}: gradients are those of a probe on a local model"
            )
        return cls(loaded, reward)

    def search(self, prompt: str, response: str, settings: SuffixSearch) -> SuffixAttack:
        """A suffix of the prompt that raises the reward of a given answer.

        Args:
            prompt: what was asked.
            response: the answer that the probe is to like.
            settings: how far to go.
        """
        draw = random.Random(settings.seed)
        (before,) = self.rewards([prompt], response)
        suffix, kept, best = _FIRST * settings.tokens, "", before
        rewards = []
        for _ in range(settings.steps):
            tried = [suffix, *self._replacements(prompt, suffix, response, settings, draw)]
            scored = self.rewards([prompt + text for text in tried], response)
            reward, suffix = max(zip(scored, tried, strict=True))
            if reward > best:
                kept, best = suffix, reward
            rewards.append(best)
        return SuffixAttack(suffix=kept, before=before, rewards=tuple(rewards))

    def rewards(self, prompts: Sequence[str], response: str) -> list[float]:
        """Rewards of one answer to several prompts, read as a guard reads them."""
        texts = [(Prompt.of(prompt), response) for prompt in prompts]
        states = [only for (only,) in self._model.read_states(texts, self._layers)]
        with torch.inference_mode():
            values: list[float] = self._probe.head(torch.stack([features_of(s) for s in states])).tolist()
        return values

    def gradient(self, prompt: Sequence[int], response: Sequence[int]) -> Tensor:
        """Gradient of the reward with respect to the embeddings of the prompt, ``[tokens, hidden]``.

        Args:
            prompt: token ids, template included.
            response: token ids of the answer.
        """
        ids = torch.tensor([[*prompt, *response]], device=self._model.passes.device)
        embeddings = self._model.model.get_input_embeddings()(ids).detach().requires_grad_(True)
        output = self._model.model(inputs_embeds=embeddings, output_hidden_states=True, use_cache=False)
        read = chosen(self._layers, output.hidden_states)[0]
        begin = at_prompt(self._model.identity, self._layers, read[:, : len(prompt)])
        states = extended(begin, read[:, len(prompt) :])
        reward = self._probe.head(features_of(states)[None]).sum()
        gradient: Tensor = torch.autograd.grad(reward, embeddings)[0][0, : len(prompt)]
        return gradient

    def _replacements(
        self, prompt: str, suffix: str, response: str, settings: SuffixSearch, draw: random.Random
    ) -> list[str]:
        """Suffixes with one token replaced by one that the gradient likes."""
        ids = self._model.encode(Prompt.of(prompt + suffix))
        begin, end = _added(self._model.encode(Prompt.of(prompt)), ids)
        answer = self._model.tokenizer(response, add_special_tokens=False, verbose=False)["input_ids"]
        liked = self._liked(self.gradient(ids, answer)[begin:end])
        tried = []
        for _ in range(settings.tried):
            place = draw.randrange(end - begin)
            token = draw.choice(liked[place])
            tried.append([*ids[begin : begin + place], token, *ids[begin + place + 1 : end]])
        return [self._model.tokenizer.decode(tokens) for tokens in tried]

    def _liked(self, gradient: Tensor) -> list[list[int]]:
        """The tokens at each place that would raise the reward most, to first order."""
        # What stands at a place now changes nothing in the order of what could stand there.
        gains = gradient @ self._model.model.get_input_embeddings().weight.detach().T
        gains[:, ~self._plain] = -torch.inf
        liked: list[list[int]] = gains.topk(min(_LIKELIEST, int(self._plain.sum()))).indices.tolist()
        return liked

    @cached_property
    def _plain(self) -> Tensor:
        """Which ids are texts that can be typed: no control tokens, and no parts of characters."""
        count = self._model.model.get_input_embeddings().weight.shape[0]
        special = set(self._model.tokenizer.all_special_ids)
        texts = self._model.tokenizer.batch_decode([[number] for number in range(count)])
        typed = [text.isascii() and text.isprintable() and bool(text.strip()) for text in texts]
        return torch.tensor([fits and number not in special for number, fits in enumerate(typed)])


def _added(before: Sequence[int], after: Sequence[int]) -> tuple[int, int]:
    """Where the ids differ that a longer text has: the first place, and the one after the last."""
    most = min(len(before), len(after) - 1)
    begin = next((n for n in range(most) if before[n] != after[n]), most)
    tail = next((n for n in range(most - begin) if before[-1 - n] != after[-1 - n]), most - begin)
    return begin, len(after) - tail
