"""What drawing ahead is worth: the time of guarded answers with it, over that without it.

    python -m benchmarks.pipelining --url vllm@http://localhost:8000 [--tokenizer FOLDER] [--json]
    python -m benchmarks.pipelining --folder FOLDER  # in vLLM's environment: serves it

Both answer the same prompts with the same seeds, in turns: on, off, on, off, ... Scoring is a wait of a given
length, as for a reward model on a machine of its own, and accepts a given share of texts. Reported for each
length are the median over turns of the ratio of times, and tokens drawn per kept one: as the guard counts
them, and, where it is vLLM, as the engine does. The engine's count is higher with drawing ahead: what turns
out to be of no use is aborted, and how far it had come is not told.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, Hard, Last
from stars_guard.algorithm.segments import FixedLength
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.engine_servers import load_engine_server
from stars_guard.models.base import BatchesItself
from stars_guard.models.engines.engine_model import EngineModel
from stars_guard.result import GuardedResult
from stars_guard.rewards.base import ScoreRequest
from stars_guard.types import Reward

PROMPT = "Name three colours, and say in a sentence what each of them reminds you of."


class NoRoom:
    """A model that is never drawn from ahead."""

    has_room = False

    def __init__(self, model: EngineModel) -> None:
        self.name, self.guarantee = model.name, model.guarantee
        self.start, self.propose, self.ahead = model.start, model.propose, model.ahead


class Waiting:
    """Accepts a share of all texts, after a while.

    Args:
        seconds: from the call to the scores, however many.
        share: of texts that get 1 and not 0.
    """

    name = "waiting"

    def __init__(self, seconds: float, share: float) -> None:
        self._seconds, self._share = seconds, share

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One reward a text, always the same for the same one."""
        time.sleep(self._seconds)
        return [Reward(float(self._number(request.response) < self._share)) for request in requests]

    def release(self, run_id: str) -> None:
        """Nothing is kept."""

    @staticmethod
    def _number(text: str) -> float:
        return int.from_bytes(blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48


@dataclass(frozen=True)
class Turn:
    """The same answers, once with drawing ahead and once without."""

    seconds: tuple[float, float]
    kept: int
    proposed: tuple[int, int]
    ahead: int
    engine: tuple[int, int]
    """Tokens that the engine drew, by its own count; 0 where it has none."""
    different: int
    """Answers that were not the same."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    scoring: float
    """Seconds of a call to the reward model."""
    on: float
    off: float
    """Median seconds of a turn."""
    ratio: float
    """Median over turns of on / off."""
    ratios: list[float] = field(default_factory=list)
    tokens: tuple[float, float] = (0.0, 0.0)
    """Drawn per kept token, on and off."""
    engine: tuple[float, float] = (0.0, 0.0)
    """Likewise by the engine's count."""
    different: int = 0


def guarded(model: BatchesItself, seconds: float, share: float) -> StarsGuardedLLM:
    """One candidate a round, so that only waiting can be saved.

    Args:
        model: draws.
        seconds: that scoring takes.
        share: of texts that are accepted.
    """
    config = GuardConfig(
        threshold=Constant(target=0.5),
        acceptance=Hard(),
        segments=FixedLength(max_tokens=8),
        drawing=Fixed(candidates=1),
        exhaustion=Last(),
        floor=-math.inf,
    )
    return StarsGuardedLLM(model, Waiting(seconds, share), config)


Count = Callable[[], int]


def answered(
    llm: StarsGuardedLLM, seeds: Sequence[int], tokens: int, count: Count
) -> tuple[float, list[GuardedResult], int]:
    """All at once, how long that took, and what the engine drew for it.

    Args:
        llm: answers.
        seeds: one an answer.
        tokens: of the longest answer.
        count: what the engine has drawn so far.
    """
    sampling = [SamplingParams(seed=seed, max_tokens=tokens) for seed in seeds]
    before, begun = count(), time.perf_counter()
    results = llm.batch([PROMPT] * len(seeds), sampling=sampling)
    return time.perf_counter() - begun, results, count() - before


def turn(
    guards: tuple[StarsGuardedLLM, StarsGuardedLLM],
    seeds: Sequence[int],
    tokens: int,
    count: Count,
    first: int,
) -> Turn:
    """The same answers with and without drawing ahead.

    Args:
        guards: with drawing ahead, and without.
        seeds: one an answer.
        tokens: of the longest answer.
        count: what the engine has drawn so far.
        first: number of the guard that begins.
    """
    answers = {n: answered(guards[n], seeds, tokens, count) for n in (first, 1 - first)}
    (fast, ahead, with_ahead), (slow, waiting, without) = answers[0], answers[1]
    return Turn(
        seconds=(fast, slow),
        kept=sum(result.usage.kept_tokens for result in ahead),
        proposed=(total(ahead, "proposed_tokens"), total(waiting, "proposed_tokens")),
        ahead=total(ahead, "ahead_tokens"),
        engine=(with_ahead, without),
        different=sum(a.token_ids != b.token_ids for a, b in zip(ahead, waiting, strict=True)),
    )


def total(results: Sequence[GuardedResult], name: str) -> int:
    """Of a field of the usage."""
    return sum(getattr(result.usage, name) for result in results)


def row(scoring: float, turns: Sequence[Turn]) -> Row:
    """From the turns of one length of scoring."""
    ratios = [each.seconds[0] / each.seconds[1] for each in turns]
    kept = sum(each.kept for each in turns)
    return Row(
        scoring=scoring,
        on=statistics.median(each.seconds[0] for each in turns),
        off=statistics.median(each.seconds[1] for each in turns),
        ratio=statistics.median(ratios),
        ratios=ratios,
        tokens=(
            sum(each.proposed[0] for each in turns) / kept,
            sum(each.proposed[1] for each in turns) / kept,
        ),
        engine=(sum(each.engine[0] for each in turns) / kept, sum(each.engine[1] for each in turns) / kept),
        different=sum(each.different for each in turns),
    )


def table(rows: Sequence[Row]) -> Table:
    """For people."""
    out = Table("scoring", "on", "off", "on / off", "tokens", "off", "by the engine", "off", "differ")
    for line in rows:
        times = [f"{seconds:.2f} s" for seconds in (line.on, line.off)]
        ratio = f"{line.ratio:.2f} ({min(line.ratios):.2f} to {max(line.ratios):.2f})"
        tokens = [f"{drawn:.2f}" for drawn in (*line.tokens, *line.engine)]
        out.add_row(f"{1000 * line.scoring:.0f} ms", *times, ratio, *tokens, str(line.different))
    return out


def generated(url: str) -> int:
    """Tokens that a vLLM server has drawn since it began; 0 for another."""
    text = httpx.get(url.rstrip("/").removesuffix("/v1") + "/metrics", timeout=30).text
    return sum(
        int(float(count)) for count in re.findall(r"^vllm:generation_tokens_total\S* (\S+)$", text, re.M)
    )


@contextlib.contextmanager
def served(url: str | None, folder: str | None) -> Iterator[str]:
    """The name of the model, once its server answers."""
    if url is not None:
        yield url
        return
    if folder is None:
        raise typer.BadParameter("give --url, or --folder")
    from tests.vllm.server import running

    with TemporaryDirectory() as place, running(folder, Path(place) / "server.log") as server:
        yield f"vllm@{server.url}"


def main(
    url: Annotated[str | None, typer.Option(help="ENGINE@URL of a server.")] = None,
    folder: Annotated[str | None, typer.Option(help="Model for the server of tests/vllm.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Of the model; --folder by default.")] = None,
    scoring: Annotated[list[float] | None, typer.Option(help="Seconds of scoring; may be repeated.")] = None,
    share: Annotated[float, typer.Option(help="Of texts that are accepted.")] = 0.8,
    answers: Annotated[int, typer.Option(help="At the same time.")] = 1,
    tokens: Annotated[int, typer.Option(help="Longest answer.")] = 48,
    repeats: Annotated[int, typer.Option(help="Turns.")] = 7,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Measure."""
    options: dict[str, Any] = {"tokenizer": tokenizer or folder} if tokenizer or folder else {}
    rows = []
    with served(url, folder) as place, load_engine_server(place, **options) as model:
        count = partial(generated, place.partition("@")[2].partition("#")[0])
        for seconds in scoring or (0.0, 0.1, 0.3):
            guards = guarded(model, seconds, share), guarded(NoRoom(model), seconds, share)
            seeds = [range(n * answers, (n + 1) * answers) for n in range(repeats + 1)]
            turns = [
                turn(guards, turn_seeds, tokens, count, first=n % 2) for n, turn_seeds in enumerate(seeds)
            ]
            rows.append(row(seconds, turns[1:]))  # the first warms up
    if as_json:
        print(json.dumps([asdict(line) for line in rows]))
    else:
        Console().print(table(rows))


if __name__ == "__main__":
    typer.run(main)
