"""What drawing ahead is worth: the time of guarded answers with it, over that without it.

    python -m benchmarks.pipelining --url vllm@http://localhost:8000 [--tokenizer FOLDER] [--json]
    python -m benchmarks.pipelining --folder FOLDER  # in vLLM's environment: serves it

Both answer the same prompts with the same seeds, in turns: on, off, on, off, ... Scoring is a wait of a given
length, as for a reward model on a machine of its own, and accepts a given share of texts. Reported for each
length are the median over turns of the ratio of times, and what was drawn ahead in vain.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from stars_guard.config import GuardConfig, SamplingParams
from stars_guard.drawing import Fixed
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.models.base import BatchesItself
from stars_guard.models.engine_model import EngineModel
from stars_guard.models.remote_model import load_remote
from stars_guard.result import GuardedResult
from stars_guard.rewards.base import Reward, ScoreRequest
from stars_guard.rules import Constant, Hard, Last
from stars_guard.segments import FixedLength

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
        return [Reward(float(self._number(one.response) < self._share)) for one in requests]

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
    wasted: int
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
    wasted: float = 0.0
    """Share of all drawn tokens that were drawn ahead in vain."""
    different: int = 0


def guarded(model: BatchesItself, seconds: float, share: float) -> StarsGuardedLLM:
    """One candidate a round, so that only waiting can be saved."""
    config = GuardConfig(
        threshold=Constant(target=0.5),
        acceptance=Hard(),
        segments=FixedLength(max_tokens=8),
        drawing=Fixed(candidates=1),
        exhaustion=Last(),
    )
    return StarsGuardedLLM(model, Waiting(seconds, share), config)


def answered(llm: StarsGuardedLLM, seeds: Sequence[int], tokens: int) -> tuple[float, list[GuardedResult]]:
    """All at once, and how long that took."""
    sampling = [SamplingParams(seed=seed, max_tokens=tokens) for seed in seeds]
    begun = time.perf_counter()
    results = llm.batch([PROMPT] * len(seeds), sampling=sampling)
    return time.perf_counter() - begun, results


def turn(on: StarsGuardedLLM, off: StarsGuardedLLM, seeds: Sequence[int], tokens: int, first: bool) -> Turn:
    """``first``: with drawing ahead first."""
    order = (on, off) if first else (off, on)
    found = {id(llm): answered(llm, seeds, tokens) for llm in order}
    (fast, ahead), (slow, waiting) = found[id(on)], found[id(off)]
    return Turn(
        seconds=(fast, slow),
        kept=sum(one.usage.kept_tokens for one in ahead),
        proposed=(total(ahead, "proposed_tokens"), total(waiting, "proposed_tokens")),
        ahead=total(ahead, "ahead_tokens"),
        wasted=total(ahead, "ahead_wasted_tokens"),
        different=sum(a.token_ids != b.token_ids for a, b in zip(ahead, waiting, strict=True)),
    )


def total(results: Sequence[GuardedResult], name: str) -> int:
    """Of a field of the usage."""
    return sum(getattr(one.usage, name) for one in results)


def row(scoring: float, turns: Sequence[Turn]) -> Row:
    """From the turns of one length of scoring."""
    ratios = [one.seconds[0] / one.seconds[1] for one in turns]
    kept, drawn = sum(one.kept for one in turns), [sum(one.proposed[n] for one in turns) for n in (0, 1)]
    return Row(
        scoring=scoring,
        on=statistics.median(one.seconds[0] for one in turns),
        off=statistics.median(one.seconds[1] for one in turns),
        ratio=statistics.median(ratios),
        ratios=ratios,
        tokens=(drawn[0] / kept, drawn[1] / kept),
        wasted=sum(one.wasted for one in turns) / drawn[0],
        different=sum(one.different for one in turns),
    )


def table(rows: Sequence[Row]) -> Table:
    """For people."""
    found = Table("scoring", "on", "off", "on / off", "tokens on", "tokens off", "in vain", "differ")
    for one in rows:
        times = [f"{seconds:.2f} s" for seconds in (one.on, one.off)]
        ratio = f"{one.ratio:.2f} ({min(one.ratios):.2f} to {max(one.ratios):.2f})"
        tokens = [f"{drawn:.2f}" for drawn in one.tokens]
        scoring, wasted = f"{1000 * one.scoring:.0f} ms", f"{one.wasted:.0%}"
        found.add_row(scoring, *times, ratio, *tokens, wasted, str(one.different))
    return found


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
    with served(url, folder) as place, load_remote(place, **options) as model:
        for seconds in scoring or (0.0, 0.1, 0.3):
            on, off = guarded(model, seconds, share), guarded(NoRoom(model), seconds, share)
            turn(on, off, [0], tokens, first=True)  # warms up
            seeds = [range(n * answers, (n + 1) * answers) for n in range(1, repeats + 1)]
            turns = [turn(on, off, one, tokens, first=n % 2 == 0) for n, one in enumerate(seeds)]
            rows.append(row(seconds, turns))
    if as_json:
        print(json.dumps([asdict(one) for one in rows]))
    else:
        Console().print(table(rows))


if __name__ == "__main__":
    typer.run(main)
