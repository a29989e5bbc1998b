"""What a reward costs: end to end against plain decoding, and per candidate for every kind of scorer.

    python -m benchmarks.rewards [--probe FOLDER] [--tokens 128] [--candidates 2] [--repeats 5]

End to end, every round draws the same number of candidates and takes the first, so that each variant proposes
the same number of tokens; plain is ``model.generate`` of as many in one batch. The variants take turns, and
medians of the ratios within a turn are reported. Per candidate, each scorer reads eight answers of 32 to 64
tokens that go on, anew each time.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.decoding import PROMPTS, timed
from benchmarks.scorers import all_scorers
from stars_guard import embedded
from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.parts import load_model, load_reward
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel, ScoreRequest
from stars_guard.rewards.classifiers.probe import ProbeReward
from stars_guard.rewards.function import FunctionReward

ANSWER = (
    "It begins with a plan. Think about what you have, what you need and how much time there is, and put it "
    "down in a few short lines. Then take the first step, look at the result, and go on from there. If it "
    "does not work, go back one step and try another way, since most things are learnt like that."
)


class EndToEnd:
    """The variants that are timed against each other.

    Args:
        model: whose end of text is switched off, so that every answer has the same length.
        tokens: of every answer.
        candidates: a round.
    """

    def __init__(self, model: TransformersModel, tokens: int, candidates: int) -> None:
        model.eos_ids = frozenset()
        self._model, self._tokens, self._candidates = model, tokens, candidates
        self._config = GuardConfig(threshold=Constant(target=-1e9), drawing=Fixed(candidates=candidates))

    def plain(self, seed: int) -> None:
        """As many tokens by ``model.generate``, in a batch of as many rows as there are candidates."""
        ids = torch.tensor([self._model.encode(Prompt.of(PROMPTS[seed % len(PROMPTS)]))])
        config = self._model.model.generation_config
        config.eos_token_id = None
        torch.manual_seed(seed)
        model: Any = self._model.model
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=self._tokens,
            num_return_sequences=self._candidates,
            do_sample=True,
            temperature=0.8,
            top_k=0,
            top_p=1.0,
            generation_config=config,
        )

    def guarded(self, reward: RewardModel, seed: int) -> None:
        """The guard with a reward, every candidate scored and the first of each round taken."""
        guard = StarsGuardedLLM(self._model, reward, self._config)
        sampling = SamplingParams(max_tokens=self._tokens, temperature=0.8, top_p=1.0, seed=seed)
        usage = guard.generate(PROMPTS[seed % len(PROMPTS)], sampling=sampling).usage
        if usage.proposed_tokens != self._tokens * self._candidates:
            raise SystemExit(f"{usage.proposed_tokens} tokens were proposed")


def end_to_end(bench: EndToEnd, rewards: dict[str, RewardModel], repeats: int) -> dict[str, dict[str, float]]:
    """Median time of each variant over that of plain decoding, with the smallest and largest.

    Args:
        bench: has the variants.
        rewards: to guard with, by name.
        repeats: turns, after warming up.
    """
    variants: dict[str, Callable[[int], None]] = {"plain": bench.plain}
    variants |= {name: partial(bench.guarded, reward) for name, reward in rewards.items()}
    for work in variants.values():
        work(0)
    turns = [
        {name: timed(partial(work, seed))[0] for name, work in variants.items()}
        for seed in range(1, repeats + 1)
    ]
    ratios = {name: sorted(turn[name] / turn["plain"] for turn in turns) for name in rewards}
    return {
        name: {"median": statistics.median(spread), "smallest": spread[0], "largest": spread[-1]}
        for name, spread in ratios.items()
    }


def per_candidate(reward: RewardModel, states_of: TransformersModel | None, repeats: int) -> float:
    """Median milliseconds per candidate when eight are scored together.

    Args:
        reward: scores.
        states_of: the model whose hidden states come with each candidate, as in a guard; None: without.
        repeats: calls, 3 at least.
    """
    turns = [_requests(turn, reward, states_of) for turn in range(max(3, repeats))]
    spent = [timed(partial(reward.score, turn))[0] for turn in turns]
    reward.release("bench")
    return 1000 * statistics.median(spent) / 8


def _requests(turn: int, reward: RewardModel, states_of: TransformersModel | None) -> list[ScoreRequest]:
    prompt = Prompt.of(PROMPTS[turn % len(PROMPTS)])
    texts = [f"{turn}{n} {ANSWER[: 150 + 15 * n]}" for n in range(8)]
    bare = [ScoreRequest(prompt, text, finished=False, run_id="bench", tokens=48) for text in texts]
    if states_of is None or not isinstance(reward, ProbeReward):
        return bare
    states = states_of.read_states([(prompt, text) for text in texts], reward.settings.layers)
    return [replace(request, hidden=hidden) for request, (hidden,) in zip(bare, states, strict=True)]


def main(
    probe: Annotated[Path, typer.Option(help="Folder of a probe of the embedded model.")] = embedded.PROBE,
    tokens: Annotated[int, typer.Option(help="Length of every answer.")] = 128,
    candidates: Annotated[int, typer.Option(help="Candidates per round.")] = 2,
    repeats: Annotated[int, typer.Option(help="Turns.")] = 5,
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("benchmarks/rewards.json"),
) -> None:
    """Measure, print two tables, and write the JSON."""
    model = load_model(None, {})
    assert isinstance(model, TransformersModel)  # noqa: S101 - what is loaded when nothing is named
    encoder, probe_reward = load_reward(None, {}), ProbeReward.load(probe)
    free = FunctionReward(lambda prompt, response: 0.0, name="none")
    rewards: dict[str, RewardModel] = {"no scoring": free, "probe": probe_reward, "encoder": encoder}
    ratios = end_to_end(EndToEnd(model, tokens, candidates), rewards, repeats)
    with all_scorers(model, probe_reward) as scorers:
        latency = {
            name: per_candidate(scorer, model if scorer is probe_reward else None, repeats)
            for name, scorer in scorers.items()
        }
    settings = {"tokens": tokens, "candidates": candidates, "repeats": repeats}
    results = {"over_plain": ratios, "milliseconds": latency, **settings, "threads": torch.get_num_threads()}
    output.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))


def table(results: dict[str, Any]) -> str:
    """Both as Markdown."""
    lines = ["| guarded with | time / plain decoding of as many tokens |", "|---|---|"]
    lines += [
        f"| {name} | {spread['median']:.2f} ({spread['smallest']:.2f} to {spread['largest']:.2f}) |"
        for name, spread in results["over_plain"].items()
    ]
    lines += ["", "| scorer | ms per candidate, 8 at once |", "|---|---|"]
    lines += [f"| {name} | {value:.3g} |" for name, value in results["milliseconds"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
