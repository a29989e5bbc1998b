"""Whether what is remembered for one answer stays with that answer."""

from __future__ import annotations

import gc
from types import FunctionType, ModuleType

from stars_guard.conformance.contract import same_or_not
from stars_guard.conformance.result import Result, Status, passed
from stars_guard.conformance.subject import Subject, first_words, request
from stars_guard.rewards.base import ScoreRequest

STEPS = (5, 12, 20, 30)
"""Words of the answer so far, segment by segment."""


def growing(subject: Subject, number: int, run_id: str) -> list[ScoreRequest]:
    """Two candidates for every segment of one answer, the unsafe one first; the safe one is accepted.

    Args:
        subject: gives the labelled pairs.
        number: which pair; numbers past the last start over.
        run_id: name of the answer; empty for none.
    """
    pair = subject.pairs[number % len(subject.pairs)]
    requests = []
    for accepted, length in zip((0, *STEPS), STEPS, strict=False):
        accepted_text = first_words(pair.safe, accepted)
        bad = " ".join([accepted_text, *pair.unsafe.split()[accepted:length]]).strip()
        good = first_words(pair.safe, length)
        requests += [request(pair.prompt, text, run_id=run_id) for text in (bad, good)]
    return requests


def run_ids(subject: Subject) -> Result:
    """The name of the run changes nothing: the same texts score the same without one, and under another."""
    scored = [_in_pairs(subject, growing(subject, 0, name)) for name in ("", "one", "two")]
    _release(subject, "one", "two")
    return same_or_not(
        subject,
        "run_ids",
        [*scored[1], *scored[2]],
        [*scored[0], *scored[0]],
        f"{len(scored[0])} growing texts with and without a run",
        "reuse only what was computed for the same tokens, and compare them, not their number",
    )


def release(subject: Subject) -> Result:
    """After ``release`` a run starts afresh, and releasing an unknown run does nothing."""
    subject.reward.release("never seen")
    scored = []
    for number in (0, 1):
        scored += _in_pairs(subject, growing(subject, number, "again"))
        _release(subject, "again")
    return same_or_not(
        subject,
        "release",
        scored,
        _in_pairs(subject, [*growing(subject, 0, ""), *growing(subject, 1, "")]),
        "another answer under a released run's name",
        "forget everything of the run in release()",
    )


def forgets(subject: Subject) -> Result:
    """After ``release``, nothing inside the reward model names the run any more: memory stays bounded."""
    run_id = "a run that is to be forgotten"
    _in_pairs(subject, growing(subject, 0, run_id))
    during = mentions(subject.reward, run_id)
    _release(subject, run_id)
    after = mentions(subject.reward, run_id)
    message = f"a run was named {during} times inside while it went on, {after} times after its release"
    values = {"during": float(during), "after": float(after)}
    if not after:
        return passed("forgets", message, **values)
    remedy = "drop the run's entries in release(): what is kept for every answer fills the memory"
    return Result(name="forgets", status=Status.WARNING, message=message, remedy=remedy, values=values)


def mentions(root: object, text: str) -> int:
    """How many strings reached from ``root`` contain ``text``; types and modules are not entered."""
    seen: dict[int, object] = {}
    waiting, count = [root], 0
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, type | ModuleType):
            continue
        seen[id(item)] = item  # kept, so that no other object gets the same id
        if isinstance(item, str):
            count += text in item
        elif isinstance(item, FunctionType):
            waiting += [item.__closure__, item.__defaults__, item.__kwdefaults__]  # not the whole module
        else:
            waiting += gc.get_referents(item)
            waiting += list(item) if isinstance(item, dict) else []  # the collector leaves out textual keys
    return count


def interleaved_runs(subject: Subject) -> Result:
    """Two answers written at the same time do not see each other."""
    mixed = _turns(growing(subject, 0, "left"), growing(subject, 1, "right"))
    scored = _in_pairs(subject, mixed)
    _release(subject, "left", "right")
    return same_or_not(
        subject,
        "interleaved_runs",
        scored,
        _in_pairs(subject, _turns(growing(subject, 0, ""), growing(subject, 1, ""))),
        "two answers in turns",
        "key the cache by run_id, and guard it with a lock",
    )


def _turns(left: list[ScoreRequest], right: list[ScoreRequest]) -> list[ScoreRequest]:
    """A candidate of each, side by side in one batch, then the next."""
    return [item for both in zip(left, right, strict=True) for item in both]


def _in_pairs(subject: Subject, requests: list[ScoreRequest]) -> list[float]:
    places = range(0, len(requests), 2)
    return [value for place in places for value in subject.values(requests[place : place + 2])]


def _release(subject: Subject, *run_ids: str) -> None:
    for run_id in run_ids:
        subject.reward.release(run_id)
