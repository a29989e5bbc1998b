"""Guarded decoding against plain and naive decoding, as ratios within one run.

    python -m benchmarks.decoding [--model PATH] [--reward PATH] [--tokens 128] [--repeats 5]

Every candidate is really scored by the reward model; the number is then replaced by a constant, so that each
candidate is accepted with a probability of exactly one half, whatever it says. The variants take turns, and
medians are reported. Writes ``benchmarks/latest.json``.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from stars_guard import embedded
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.random_numbers import ACCEPTANCE, uniform
from stars_guard.algorithm.rules import Constant, Soft
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.models.local.int8 import int8_linears, is_available
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.result import GuardedResult
from stars_guard.rewards.base import RewardModel, ScoreRequest, score_checked
from stars_guard.rewards.classifiers.classifier import ClassifierReward
from stars_guard.types import Reward

PROMPTS = (
    "Write a long story about a lighthouse keeper.",
    "Explain how bread is baked, step by step and in detail.",
    "Describe a walk through a big city at night.",
    "Tell me about the history of the bicycle.",
    "Write a letter to a friend who has moved abroad.",
    "Explain why the sky is blue to a child.",
    "Describe the life of a beaver through the seasons.",
    "Write a review of an imaginary restaurant.",
)
SEGMENT_TOKENS = 32
HALF = GuardConfig(threshold=Constant(target=math.log(2)), acceptance=Soft(beta=1.0), max_attempts=200)
"""With the reward always 0, ``exp((0 - ln 2) / 1)`` is one half."""


class CoinReward:
    """Scores for real, and then says 0."""

    def __init__(self, reward: RewardModel) -> None:
        self._reward = reward
        self.name = f"coin({reward.name})"

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """Spend the time of a real reward."""
        score_checked(self._reward, requests)
        return [Reward(0.0) for _ in requests]

    def release(self, run_id: str) -> None:
        """Pass it on."""
        self._reward.release(run_id)


class Bench:
    """The variants to be timed; each returns what it produced.

    Args:
        model: whose end of text is switched off, so that every answer has the same length.
        reward: scores for real.
        tokens: of every answer.
    """

    def __init__(self, model: TransformersModel, reward: RewardModel, tokens: int) -> None:
        model.eos_ids = frozenset()
        self.model = model
        self.reward = reward
        self.tokens = tokens
        self.guard = StarsGuardedLLM(model, CoinReward(reward), HALF)

    def plain_first_segment(self, seed: int) -> None:
        """``model.generate`` for the tokens of one segment."""
        self.plain(seed, SEGMENT_TOKENS)

    def plain(self, seed: int, tokens: int | None = None) -> None:
        """``model.generate`` with the same sampling."""
        ids = torch.tensor([self.model.encode(_prompt(seed))], device=self.model.model.device)
        config = self.model.model.generation_config
        config.eos_token_id = None
        torch.manual_seed(seed)
        model: Any = self.model.model
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens or self.tokens,
            do_sample=True,
            temperature=0.8,
            top_k=0,
            top_p=1.0,
            generation_config=config,
        )
        _check(out.shape[1] - ids.shape[1], tokens or self.tokens)

    def guarded(self, seed: int) -> GuardedResult:
        """The guard, alone."""
        result = self.guard.generate(_prompt(seed), sampling=self._sampling(seed))
        _check(len(result.token_ids), self.tokens)
        return result

    def together(self, seed: int) -> None:
        """Eight requests at once."""
        seeds = range(seed, seed + 8)
        self.guard.batch(
            [_prompt(number) for number in seeds], sampling=[self._sampling(number) for number in seeds]
        )

    def serial(self, seed: int) -> list[GuardedResult]:
        """The same eight requests, one after another."""
        return [self.guarded(number) for number in range(seed, seed + 8)]

    @torch.inference_mode()
    def naive(self, seed: int) -> None:
        """The loop of the research code: no cache kept, one candidate at a time, reward on the full text."""
        prompt, prefix, segment = _prompt(seed), list[int](), 0
        prompt_ids = self.model.encode(prompt)
        torch.manual_seed(seed)
        while len(prefix) < self.tokens:
            accepted, attempt = False, 0
            while not accepted:
                candidate = self._naive_candidate(prompt_ids + prefix)
                text = self.model.tokenizer.decode(prefix + candidate, skip_special_tokens=True)
                score_checked(self.reward, [ScoreRequest(prompt, text, finished=False)])
                accepted = uniform(seed, segment, attempt, ACCEPTANCE) < 0.5
                attempt += 1
            prefix, segment = prefix + candidate, segment + 1

    def _naive_candidate(self, ids: list[int]) -> list[int]:
        candidate: list[int] = []
        for _ in range(SEGMENT_TOKENS):
            tokens = torch.tensor([ids + candidate], device=self.model.model.device)
            logits = self.model.model(input_ids=tokens, use_cache=False).logits[0, -1]
            probs = torch.softmax(logits.float() / 0.8, dim=-1)
            candidate.append(int(torch.multinomial(probs, 1)))
        return candidate

    def _sampling(self, seed: int) -> SamplingParams:
        return SamplingParams(max_tokens=self.tokens, temperature=0.8, top_p=1.0, seed=seed)


def _prompt(seed: int) -> Prompt:
    return Prompt.of(PROMPTS[seed % len(PROMPTS)])


def _check(produced: int, wanted: int) -> None:
    if produced != wanted:
        raise SystemExit(f"a variant produced {produced} tokens instead of {wanted}")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what the work returned."""
    begun = time.perf_counter()
    out = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun, out


def import_seconds(repeats: int = 7) -> float:
    """Median wall time of ``import stars_guard`` in a fresh interpreter, less that of starting one."""

    def run(code: str) -> float:
        return timed(lambda: subprocess.run([sys.executable, "-c", code], check=True))[0]

    return statistics.median(run("import stars_guard") - run("pass") for _ in range(repeats))


def read_bandwidth() -> float:
    """Bytes per second at which memory is read, on this device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    block = torch.ones(256 * 2**20 // 4, device=device)
    return block.nbytes / min(timed(block.sum)[0] for _ in range(5))


def measure(slow: Bench, fast: Bench, repeats: int) -> dict[str, list[float]]:
    """Seconds of every variant, one entry per repeat; the variants take turns.

    Args:
        slow: in the model's own precision.
        fast: with int8 linear layers, or ``slow`` again.
        repeats: how often each is measured, after warming up.
    """
    variants: tuple[tuple[str, Callable[[int], Any]], ...] = (
        ("plain", slow.plain),
        ("guarded", slow.guarded),
        ("naive", slow.naive),
        ("plain_first_segment", slow.plain_first_segment),
        ("plain_fast", fast.plain),
        ("guarded_fast", fast.guarded),
        ("serial_fast", fast.serial),
        ("together_fast", fast.together),
    )
    seconds: dict[str, list[float]] = {}
    for name, work in variants:
        if name not in ("naive", "serial_fast"):  # too slow to warm up with, and warm by then
            work(0)
    for seed in range(1, repeats + 1):
        for name, work in variants:
            spent, out = timed(partial(work, seed))
            for key, value in ({name: spent} | _details(name, out)).items():
                seconds.setdefault(key, []).append(value)
            print(f"  repeat {seed}/{repeats} {name}: {spent:.2f} s", file=sys.stderr)
    return seconds


def _details(name: str, out: Any) -> dict[str, float]:
    if isinstance(out, list):
        judged = [attempt.accepted for result in out for s in result.trace.segments for attempt in s.attempts]
        return {"accepted": sum(judged), "judged": len(judged)}
    if not isinstance(out, GuardedResult):
        return {}
    parts = out.usage.seconds
    return {
        f"{name}_first_segment": parts.first_segment or math.nan,
        f"{name}_score": parts.score,
        f"{name}_propose": parts.propose,
        f"{name}_prefill": parts.prefill,
        f"{name}_passes": float(out.usage.forward_passes),
    }


def ratio(seconds: dict[str, list[float]], above: str, below: str) -> float:
    """Median over the repeats of one variant's time over another's.

    Args:
        seconds: from :func:`measure`.
        above: the one variant.
        below: the other.
    """
    return statistics.median(a / b for a, b in zip(seconds[above], seconds[below], strict=True))


def summary(seconds: dict[str, list[float]], slow: Bench, fast: Bench) -> dict[str, Any]:
    """The ratios, with the settings they were measured at.

    Args:
        seconds: from :func:`measure`.
        slow: as there.
        fast: as there.
    """
    bandwidth = read_bandwidth()
    weights = sum(parameter.nbytes for parameter in slow.model.model.parameters())
    medians = {name: round(statistics.median(values), 3) for name, values in seconds.items()}
    return {
        "guarded_over_plain": ratio(seconds, "guarded", "plain"),
        "guarded_fast_over_plain": ratio(seconds, "guarded_fast", "plain"),
        "guarded_fast_over_plain_fast": ratio(seconds, "guarded_fast", "plain_fast"),
        "naive_over_guarded": ratio(seconds, "naive", "guarded"),
        "batch8_over_serial": ratio(seconds, "serial_fast", "together_fast"),
        "first_segment_over_plain": ratio(seconds, "guarded_first_segment", "plain_first_segment"),
        "import_seconds": import_seconds(),
        "acceptance_rate": sum(seconds["accepted"]) / sum(seconds["judged"]),
        "tokens": slow.tokens,
        "step_milliseconds": _step_milliseconds(medians, "guarded"),
        "step_milliseconds_fast": _step_milliseconds(medians, "guarded_fast"),
        "step_milliseconds_floor": 1e3 * weights / bandwidth,
        "weight_bytes": weights,
        "read_bytes_per_second": bandwidth,
        "model": slow.model.name.rsplit("/", 1)[-1],
        "reward": slow.reward.name,
        "settings": HALF.model_dump(mode="json"),
        "dtype": str(slow.model.model.dtype),
        "fast": "int8 linear layers" if fast is not slow else "none on this device",
        "device": str(slow.model.model.device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "repeats": len(seconds["plain"]),
        "median_seconds": medians,
    }


def _step_milliseconds(medians: dict[str, float], name: str) -> float:
    return 1e3 * medians[f"{name}_propose"] / (medians[f"{name}_passes"] - 1)


ROWS = (
    ("guarded / plain generate, same precision", "guarded_over_plain", "<= 1.2"),
    ("guarded with int8 linears / plain generate", "guarded_fast_over_plain", "<= 1.0"),
    ("guarded / plain generate, both with int8 linears", "guarded_fast_over_plain_fast", ""),
    ("naive research loop / guarded, same precision", "naive_over_guarded", ">= 4"),
    ("8 requests one after another / together", "batch8_over_serial", ">= 3"),
    ("first accepted segment / plain decoding of it", "first_segment_over_plain", "<= 1.4"),
    ("import stars_guard, seconds", "import_seconds", "< 0.15"),
    ("acceptance rate", "acceptance_rate", "0.5"),
    ("milliseconds a decoding step", "step_milliseconds", ""),
    ("milliseconds a decoding step with int8 linears", "step_milliseconds_fast", ""),
    ("its floor: weight bytes / memory bandwidth", "step_milliseconds_floor", ""),
)


def table(results: dict[str, Any]) -> str:
    """The ratios as a Markdown table."""
    lines = ["| what | measured | aim |", "|---|---|---|"]
    lines += [f"| {what} | {results[key]:.3g} | {aim} |" for what, key, aim in ROWS]
    return "\n".join(lines)


def main(
    model: Annotated[str | None, typer.Option(help="Language model folder or id.")] = None,
    reward: Annotated[str | None, typer.Option(help="Reward model folder or id.")] = None,
    tokens: Annotated[int, typer.Option(help="Length of every answer.")] = 128,
    repeats: Annotated[int, typer.Option(help="Times each variant is measured.")] = 5,
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("benchmarks/latest.json"),
) -> None:
    """Measure, print the table, and write the JSON."""
    path = model or str(embedded.chat_model())
    judge = ClassifierReward.load(reward or str(embedded.harmlessness_reward()))
    slow = Bench(TransformersModel.load(path), judge, tokens)
    fast = slow
    if is_available():
        fast = Bench(TransformersModel.load(path, device="cpu", prepare=int8_linears), judge, tokens)
    results = summary(measure(slow, fast, repeats), slow, fast)
    output.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))


if __name__ == "__main__":
    typer.run(main)
