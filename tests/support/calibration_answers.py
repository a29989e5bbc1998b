"""Simulated answers, for tests of what calibration says about rewards."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stars_guard.calibration.samples import SampledAnswer, SampledPosition

Scorer = Callable[[np.random.Generator, float, float, int], np.ndarray]
"""From randomness, the prompt's level, the path's reward so far and the segment, to four rewards."""

SEGMENT = 16
CANDIDATES = 4


def random_walk(random, level, before, segment):
    """A good reward: what was written stays."""
    return before + random.normal(size=CANDIDATES)


def noise(random, level, before, segment):
    """Has nothing to do with the text."""
    return random.normal(size=CANDIDATES)


def prompt_only(random, level, before, segment):
    """Reads the prompt and no answer."""
    return np.full(CANDIDATES, level)


def prompt_and_noise(random, level, before, segment):
    """Tells prompts apart, and nothing else."""
    return level + 0.5 * random.normal(size=CANDIDATES)


def constant(random, level, before, segment):
    return np.full(CANDIDATES, 0.25)


def squashed(random, level, before, segment):
    """A good reward, shown as a probability of almost 1."""
    logit = np.log(before / (1 - before)) if 0 < before < 1 else 9.0
    return 1 / (1 + np.exp(-(logit + 2 * random.normal(size=CANDIDATES))))


def answers(
    scorer: Scorer, *, prompts: int = 60, each: int = 1, segments: int = 6, seed: int = 0
) -> list[SampledAnswer]:
    random = np.random.default_rng(seed)
    levels = random.normal(size=prompts)
    return [
        _answer(scorer, random, prompt, n, float(levels[prompt]), segments)
        for prompt in range(prompts)
        for n in range(each)
    ]


def _answer(scorer, random, prompt, seed, level, segments):
    positions, before = [], level
    for number in range(int(random.integers(max(1, segments - 2), segments + 1))):
        rewards = tuple(float(one) for one in scorer(random, level, before, number))
        tokens = ((number + 1) * SEGMENT,) * CANDIDATES
        positions.append(
            SampledPosition(
                segment=number, prefix_tokens=number * SEGMENT, tokens=tokens, rewards=rewards, chosen=0
            )
        )
        before = rewards[0]
    return SampledAnswer(
        prompt=prompt,
        seed=seed,
        max_tokens=segments * SEGMENT,
        base_reward=level,
        positions=tuple(positions),
        finished=len(positions) < segments,
    )
