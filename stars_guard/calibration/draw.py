"""Draw answers segment by segment, with several candidates at each prefix, all of them scored.

Given its prefix, the rewards of a position are independent draws; which candidate the answer goes on with
decides whose prefixes are looked at: those of the unguarded model, or those that a guard leaves.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate, product

from pydantic import Field

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.random_numbers import ACCEPTANCE, address_hash, uniform
from stars_guard.algorithm.retries import near_greedy
from stars_guard.algorithm.rules import Position
from stars_guard.algorithm.segments import FixedLength, Segments
from stars_guard.calibration.samples import SampledAnswer, SampledPosition
from stars_guard.errors import ConfigurationError, GenerationError, failures_as
from stars_guard.loop.sources import Proposers, Source, proposed
from stars_guard.models.base import LanguageModel, Order
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel, ScoreRequest, score_checked
from stars_guard.settings import Settings
from stars_guard.types import Candidate, Channel

Progress = Callable[[int, int], None]
"""Told how many answers are drawn, of how many."""


class DrawPlan(Settings):
    """What to draw.

    Raises:
        ConfigurationError: a value is out of range, or sampling is greedy, where candidates are all alike.
    """

    sampling: SamplingParams = SamplingParams()
    """How to propose; its ``seed`` (None is 0) gives every answer its own."""
    segments: Segments = FixedLength()
    """Where segments end."""
    candidates: int = Field(default=8, ge=2, le=64)
    """Candidates at each prefix."""
    samples_per_prompt: int = Field(default=1, ge=1)
    """Answers to each prompt."""
    round: int = Field(default=0, ge=0)
    """Rounds with other numbers draw other answers."""
    config: GuardConfig | None = None
    """None goes on with the first candidate, as the model alone does. A guard's settings go on with the
    first that its rule accepts; if none is, with one drawn in proportion to how likely they were to be, or
    with the best where that was the last attempt."""

    def model_post_init(self, _: object) -> None:
        """Greedy candidates tell nothing."""
        if near_greedy(self.sampling):
            names = ("temperature", "top_k", "top_p", "min_p")
            given = ", ".join(f"{name}={getattr(self.sampling, name):g}" for name in names)
            raise ConfigurationError(f"{given} draws equal candidates; sample more freely, as by default")

    def seed(self, prompt: int, sample: int) -> int:
        """The seed of one answer, whatever else is drawn."""
        return address_hash(self.sampling.seed or 0, prompt, sample, self.round) >> 1

    def places(self, prompts: int) -> list[tuple[int, int]]:
        """All answers to that many prompts, as (index of the prompt, seed)."""
        pairs = product(range(prompts), range(self.samples_per_prompt))
        return [(prompt, self.seed(prompt, sample)) for prompt, sample in pairs]


def draw_answers(
    model: LanguageModel,
    reward: RewardModel,
    prompts: Sequence[Prompt],
    plan: DrawPlan,
    *,
    skip: frozenset[tuple[int, int]] = frozenset(),
    max_rows: int = 64,
) -> Iterator[SampledAnswer]:
    """Draw the answers of a plan, each as soon as it is complete.

    Args:
        model: draws candidates.
        reward: judges them, as text of the answer; channels are not told apart.
        prompts: what to answer.
        plan: how.
        skip: those of :meth:`DrawPlan.places` that are there already.
        max_rows: most candidates in one batch, over all answers; results do not depend on it.

    Raises:
        GenerationError, ScoringError: an outage, or a broken contract.
        ConfigurationError: the reward reads the states of another model.
    """
    table = _Table(Proposers.of(model, None, reward), reward, plan)
    waiting = [place for place in plan.places(len(prompts)) if place not in skip]
    waiting.reverse()
    width = max(1, max_rows // plan.candidates)
    open_answers: list[_Answer] = []
    try:
        while True:
            while waiting and len(open_answers) < width:
                prompt, seed = waiting.pop()
                open_answers.append(table.begin(prompt, seed, prompts[prompt]))
            if not open_answers:
                return
            table.advance(open_answers)
            for answer in [answer for answer in open_answers if answer.ended]:
                open_answers.remove(answer)
                table.end(answer)
                yield answer.sampled(plan.sampling.max_tokens)
    finally:
        for answer in open_answers:
            table.end(answer)


@dataclass(eq=False)
class _Answer:
    """An answer being drawn."""

    number: int
    seed: int
    prompt: Prompt
    source: Source
    base_reward: float = 0.0
    tokens: int = 0
    positions: list[SampledPosition] = field(default_factory=list)
    last: Candidate | None = None

    @property
    def ended(self) -> bool:
        return self.last is not None and self.last.finish is not None

    @property
    def run_id(self) -> str:
        return f"calibration-{self.number}-{self.seed}"

    def request(self, candidate: Candidate) -> ScoreRequest:
        return ScoreRequest(
            prompt=self.prompt,
            response=candidate.text,
            finished=candidate.finished,
            run_id=self.run_id,
            tokens=self.tokens + len(candidate.token_ids),
            hidden=candidate.hidden,
        )

    def sampled(self, max_tokens: int) -> SampledAnswer:
        return SampledAnswer(
            prompt=self.number,
            seed=self.seed,
            max_tokens=max_tokens,
            base_reward=self.base_reward,
            positions=tuple(self.positions),
            finished=self.last is not None and self.last.finished,
        )


class _Table:
    """What all answers have in common."""

    def __init__(self, proposers: Proposers, reward: RewardModel, plan: DrawPlan) -> None:
        self._proposers, self._reward, self._plan = proposers, reward, plan

    def begin(self, number: int, seed: int, prompt: Prompt) -> _Answer:
        sampling = self._plan.sampling.changed(seed=seed)
        answer = _Answer(number, seed, prompt, self._proposers.open(prompt, sampling, None))
        bare = answer.request(Candidate((), "", hidden=answer.source.hidden))
        try:
            answer.base_reward = score_checked(self._reward, [bare])[0].value
        except BaseException:
            self.end(answer)
            raise
        return answer

    def advance(self, answers: Sequence[_Answer]) -> None:
        """One segment of each."""
        orders = [(answer.source, self._order(answer)) for answer in answers]
        drawn = [proposal.candidates for proposal in proposed(orders)]
        requests = [
            answer.request(candidate)
            for answer, candidates in zip(answers, drawn, strict=True)
            for candidate in candidates
        ]
        rewards = iter(score_checked(self._reward, requests))
        for answer, candidates in zip(answers, drawn, strict=True):
            self._keep(answer, candidates, tuple(next(rewards).value for _ in candidates))

    def end(self, answer: _Answer) -> None:
        """Free what was kept for an answer; its figures are complete, whatever happens here."""
        with suppress(Exception):
            answer.source.session.close()
        with suppress(Exception):
            self._reward.release(answer.run_id)

    def _order(self, answer: _Answer) -> Order:
        room = self._plan.sampling.max_tokens - answer.tokens
        longest = min(self._plan.segments.max_tokens, room)
        return Order(
            session=answer.source.session,
            segment=len(answer.positions),
            first_attempt=0,
            candidates=self._plan.candidates,
            # Unchecked: the room left at the end may be under a rule's shortest segment.
            cut=self._plan.segments.model_copy(update={"max_tokens": longest}),
            ends_answer=longest == room,
            alive=lambda: True,
        )

    def _keep(self, answer: _Answer, candidates: Sequence[Candidate], rewards: tuple[float, ...]) -> None:
        tokens = tuple(answer.tokens + len(candidate.token_ids) for candidate in candidates)
        position = SampledPosition(
            segment=len(answer.positions),
            prefix_tokens=answer.tokens,
            tokens=tokens,
            rewards=rewards,
            chosen=0,
            finished=tuple(candidate.finished for candidate in candidates),
        )
        chosen = self._chosen(answer, position)
        answer.positions.append(position.model_copy(update={"chosen": chosen}))
        answer.last, answer.tokens = candidates[chosen], tokens[chosen]
        with failures_as(GenerationError, f"continuing with {answer.source.model.name}"):
            answer.source.session.accept(candidates[chosen])

    def _chosen(self, answer: _Answer, position: SampledPosition) -> int:
        config = self._plan.config
        if config is None:
            return 0
        likely = probabilities(config, position, self._plan.sampling.max_tokens, answer.base_reward)
        draws = (uniform(answer.seed, position.segment, n, ACCEPTANCE) for n in range(len(likely)))
        accepted = [n for n, (chance, point) in enumerate(zip(likely, draws, strict=True)) if point < chance]
        if accepted:
            return accepted[0]
        if len(likely) >= config.max_attempts or not any(likely):
            return max(range(len(likely)), key=lambda n: position.rewards[n])
        # One of the further attempts would be accepted; these have the same law, and so stand in for it.
        point = uniform(answer.seed, position.segment, len(likely), ACCEPTANCE) * sum(likely)
        return bisect_right(list(accumulate(likely))[:-1], point)


def probabilities(
    config: GuardConfig, position: SampledPosition, max_tokens: int, base_reward: float
) -> list[float]:
    """The probability with which a guard accepts each candidate of a position.

    Args:
        config: the guard's settings; those of the bar are read.
        position: the candidates, with their rewards.
        max_tokens: longest answer allowed, which some ramps have for their horizon.
        base_reward: of the bare prompt.
    """
    rules = config.rules(Channel.ANSWER)
    finished = position.finished or (False,) * len(position.tokens)
    ends = [config.final_at_target and ended for ended in finished]
    bars = {
        (tokens, final): rules.bar(
            Position(tokens, position.segment + 1, max_tokens, base_reward, final=final)
        )
        for tokens, final in set(zip(position.tokens, ends, strict=True))
    }
    return [
        rules.probability(reward, bars[tokens, final])
        for tokens, final, reward in zip(position.tokens, ends, position.rewards, strict=True)
    ]
