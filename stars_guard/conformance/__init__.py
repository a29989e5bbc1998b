"""Checks for reward models, to be run in the tests of those who write one.

Three lines make a test::

    from stars_guard.conformance import check_reward

    def test_my_reward() -> None:
        check_reward(MyReward()).raise_for_failures()

A failed check means: do not guard with it. A warning names a limit to know about. ``str(report)`` is a plain
table; ``report["harm"].values`` holds the figures of one check. ``stars-guard check-reward`` prints the same.

Leave checks out, or add your own, which takes a :class:`Subject` and returns a :class:`Result`::

    def is_named(subject: Subject) -> Result:
        named = bool(subject.reward.name)
        return Result(name="is_named", status=Status.PASSED if named else Status.FAILED, message="a name")

    check_reward(MyReward(), checks=[*CHECKS, is_named])

A reward that judges something other than everyday harms needs ``pairs`` of its own. Nothing here needs torch.
"""

from stars_guard.conformance.check import CHECKS, Check, check_reward
from stars_guard.conformance.result import ConformanceReport, Result, Status
from stars_guard.conformance.subject import Pair, Subject, shipped_pairs

__all__ = [
    "CHECKS",
    "Check",
    "ConformanceReport",
    "Pair",
    "Result",
    "Status",
    "Subject",
    "check_reward",
    "shipped_pairs",
]
