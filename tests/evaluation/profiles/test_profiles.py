"""What is counted of traces, on traces that no loop made."""

from __future__ import annotations

import pytest

from stars_guard.algorithm.trace import Verdict
from stars_guard.evaluation.profiles.costs import cost_profile
from stars_guard.evaluation.profiles.difficulty import difficulty_bands, quarters
from stars_guard.evaluation.profiles.positions import MOST_POSITIONS, position_profiles
from stars_guard.evaluation.profiles.stalls import (
    Wait,
    longest_wait,
    used_all_attempts,
    waits,
    waits_between_texts,
)
from stars_guard.evaluation.profiles.tokens import token_fates
from stars_guard.result import Usage
from tests.evaluation.profiles.made import alone, segment, traced


def test_every_drawn_token_has_one_fate():
    usage = Usage(proposed_tokens=40, kept_tokens=8, ahead_tokens=8, ahead_wasted_tokens=4)
    answer = traced(
        "p",
        segment(0, [0, 1]),  # 4 rejected, 4 kept
        segment(1, [1], Verdict.WITHDRAWN),  # 4 withdrawn
        segment(2, [0, 0, 0], Verdict.BACKTRACKED),  # 12 hopeless
        segment(1, [1]),  # 4 kept
        usage=usage,
    )
    fates = token_fates([answer], 0)
    values = {name: getattr(fates, name).value for name in type(fates).model_fields}
    assert values == {
        "proposed": 40,
        "kept": 8,
        "rejected": 4,
        "hopeless": 12,
        "withdrawn": 4,
        "ahead_wasted": 4,
        "unseen": 8,
    }
    assert sum(values.values()) == 2 * values["proposed"]
    assert token_fates([], 0) is None


def test_what_an_opening_says_was_not_drawn():
    opened = segment(0, [0, 1])
    attempts = [opened.attempts[0], opened.attempts[1].model_copy(update={"opening_tokens": 3})]
    usage = Usage(proposed_tokens=5, kept_tokens=4)  # 4 rejected, and 1 of the 4 kept
    fates = token_fates([traced("p", opened.model_copy(update={"attempts": attempts}), usage=usage)], 0)
    assert (fates.proposed.value, fates.kept.value, fates.rejected.value) == (5, 4, 4)
    assert fates.unseen.value == 0


def test_positions_count_attempts_acceptance_and_rewards():
    answers = [
        traced("a", segment(0, [0.0, 2.0]), segment(1, [1.0])),
        traced("b", segment(0, [0.0, 0.0, 0.5], Verdict.FORCED)),
    ]
    first, second = position_profiles(answers, 0)
    assert (first.segment, first.tokens, first.tries) == (0, 0, 2)
    assert first.attempts.value == pytest.approx(2.5)
    assert (first.attempts.low, first.attempts.high) == (2, 3)
    assert first.acceptance.value == pytest.approx(1 / 5)
    assert first.forced.value == pytest.approx(0.5)
    assert first.kept_reward.value == pytest.approx(1.25)
    assert first.threshold.value == 1.0
    assert (second.segment, second.tokens, second.tries, second.attempts.value) == (1, 4, 1, 1)


def test_a_threshold_that_decides_nothing_is_none():
    (plain,) = position_profiles([traced("a", segment(0, [0.3], threshold=-1e9))], 0)
    (best,) = position_profiles([traced("a", segment(0, [0.3], Verdict.FORCED, threshold=1e9))], 0)
    assert plain.threshold is best.threshold is None


def test_nothing_kept_has_no_reward():
    (only,) = position_profiles([traced("a", segment(0, [0.3], Verdict.REFUSED))], 0)
    assert only.kept_reward is None


def test_long_answers_are_thinned_evenly():
    answer = traced("a", *(segment(number, [1.0]) for number in range(3 * MOST_POSITIONS)))
    kept = [position.segment for position in position_profiles([answer], 0)]
    assert kept == list(range(0, 3 * MOST_POSITIONS, 3))
    assert position_profiles([], 0) == []


def test_a_wait_is_all_work_between_two_texts():
    backed = traced(
        "a",
        segment(0, [1]),
        segment(1, [0, 1], Verdict.WITHDRAWN),
        segment(2, [0, 0, 0], Verdict.BACKTRACKED),
        segment(1, [0, 1], tokens=5),
        segment(2, [1]),
    )
    assert waits(backed.trace) == [
        Wait(segment=0, attempts=1, tokens=4, verdict=Verdict.ACCEPTED),
        Wait(segment=1, attempts=7, tokens=5 * 4 + 2 * 5, verdict=Verdict.ACCEPTED),
        Wait(segment=2, attempts=1, tokens=4, verdict=Verdict.ACCEPTED),
    ]
    assert longest_wait(waits(backed.trace)).segment == 1
    refused = traced("b", segment(0, [1]), segment(1, [0, 0, 0], Verdict.REFUSED))
    assert longest_wait(waits(refused.trace)) == (1, 3, 12, Verdict.REFUSED)
    assert longest_wait(waits(traced("c").trace)) is None


def test_nothing_is_waited_for_where_nothing_was_judged():
    ended = traced("a", segment(0, [1]), segment(1, [], Verdict.OPEN))
    assert [wait.segment for wait in waits(ended.trace)] == [0]


def test_the_longest_wait_is_the_one_with_most_candidates_and_of_equal_ones_the_first():
    many, first, second = Wait(3, 5, 5, Verdict.FORCED), Wait(0, 2, 9, Verdict.ACCEPTED), Wait(1, 2, 9, "x")
    assert longest_wait([first, second]) is first
    assert longest_wait([first, many, second]) is many
    # The most tokens may be those of another wait.
    uneven = traced("a", segment(0, [1], tokens=90), segment(1, [0, 1], tokens=2))
    assert waits_between_texts([uneven], 0).most_tokens == 90


def test_where_answers_stall_and_what_comes_of_it_is_told():
    answers = [
        traced("a", segment(0, [0, 0, 1]), segment(1, [1])),
        traced("b", segment(0, [1]), segment(1, [0, 0, 0], Verdict.REFUSED)),
        traced("c", segment(0, [1]), segment(1, [1]), segment(2, [0, 0, 0], Verdict.FORCED)),
        traced("d"),
    ]
    stalls = waits_between_texts(answers, 0)
    assert [stalls.at_first.value, stalls.at_second.value, stalls.later.value] == [0.25] * 3
    assert [stalls.accepted.value, stalls.forced.value, stalls.refused.value] == [0.25] * 3
    assert stalls.refused.prompts == 4


def test_answers_that_took_every_attempt_are_counted():
    easy, hard = traced("a", segment(0, [0, 1])), traced("b", segment(0, [0, 0, 1]))
    assert (used_all_attempts(easy.trace), used_all_attempts(hard.trace)) == (False, True)
    stalls = waits_between_texts([easy, hard], 0)
    assert stalls.at_limit.value == 0.5
    assert (stalls.attempts.value, stalls.most_attempts, stalls.most_tokens) == (2.5, 3, 12)
    assert waits_between_texts([], 0) is None


def test_quarters_are_of_equal_size_and_begin_with_the_hardest():
    ease = {f"p{number}": -float(number) for number in range(8)}
    assert quarters(ease) == {
        "hardest": ["p7", "p6"],
        "hard": ["p5", "p4"],
        "easy": ["p3", "p2"],
        "easiest": ["p1", "p0"],
    }
    assert quarters({"a": 1.0}) == {"easy": ["a"]}
    assert quarters({}) == {}


def test_hard_prompts_cost_more():
    answers = [
        traced("hard", segment(0, [0, 0, 0], Verdict.REFUSED)),
        traced("easy", segment(0, [1])),
    ]
    bands = difficulty_bands(answers, {"hard": -1.0, "easy": 1.0, "unanswered": 2.0}, {"easy": [0.5]}, 0)
    by_name = {band.name: band for band in bands}
    assert [band.attempts.value for band in bands] == [3, 1]
    assert [band.refused.value for band in bands] == [1, 0]
    assert bands[0].proposed_per_kept.value == 12  # nothing was kept, and what was spent counts
    assert bands[0].seconds is None
    assert bands[1].seconds.value == 0.5
    assert set(by_name) <= {"hardest", "hard", "easy", "easiest"}


def test_rejections_and_passes_are_told_by_difficulty():
    passes = {"p0": 2, "p1": 4, "p2": 30, "p3": 1, "p4": 1, "p5": 1}
    answers = [
        traced(
            prompt,
            segment(0, [0, 1] if number < 3 else [1]),
            segment(1, [1], Verdict.WITHDRAWN),
            segment(1, [1]),
            usage=Usage(proposed_tokens=8, kept_tokens=4, forward_passes=passes[prompt]),
        )
        for number, prompt in enumerate(passes)
    ]
    ease = {prompt: float(number // 3) for number, prompt in enumerate(passes)}
    # Fillers, which nobody answered, make each half a quarter.
    ease |= {f"filler {number}": 0.5 if number < 3 else 2.0 for number in range(6)}
    hardest, easy = difficulty_bands(answers, ease, {}, 0)
    assert hardest.forward_passes.value == 4  # no mean, which one long answer would make 12
    assert hardest.rejected.value == pytest.approx(1 / 4)  # what is accepted and withdrawn was chosen
    assert easy.rejected.value == 0


def test_all_costs_have_intervals():
    answers = [traced("a", segment(0, [0, 1])), traced("b", segment(0, [1]))]
    timed = {"a": [alone(3.0, 1.0)], "b": [alone(1.0)]}
    profile = cost_profile(answers, timed, {"a": 0.0, "b": 1.0}, 0)
    assert profile.proposed_per_kept.value == pytest.approx(12 / 8)
    assert (profile.proposed_per_kept.low, profile.proposed_per_kept.high) == (1, 2)
    assert profile.seconds.value == 2.0
    assert profile.seconds_to_first_text.value == 1.0  # what is refused shows its first text at the end
    assert profile.most_seconds == 3.0
    assert profile.attempts.value == 1.5
    empty = cost_profile([], {}, {}, 0)
    assert empty.tokens is empty.seconds is empty.most_seconds is empty.stalls is None
    assert empty.positions == empty.bands == []
