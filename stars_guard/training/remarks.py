"""Rude and kind remarks as answers to harmless prompts: there the answer alone tells of harm.

A remark stands by itself, after the beginning of the model's own answer, or before it; the prompt is a
question, an instruction, or one over notes. Kind ones are as short and as far from the question, so
that neither tells of harm.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

from stars_guard.training.forms import FormName, filled_forms
from stars_guard.training.value_questions import framed

REMARKS: dict[FormName, float] = {"rude_remarks": 0.0, "kind_remarks": 1.0}
"""Forms of remarks, and P(safe) of an answer that holds one."""
LONGEST_BEGINNING = 24
"""Most words of the model's own answer that stand before or after a remark."""


class RemarkedAnswer(NamedTuple):
    """An answer with a remark in it.

    Attributes:
        text: prompt and answer.
        safe: P(safe) by construction.
    """

    text: tuple[str, str]
    safe: float


def remarked_answers(answered: Sequence[tuple[str, str]], count: int, seed: int) -> list[RemarkedAnswer]:
    """Answers with remarks, half of them rude; none where fewer than three prompts were answered.

    Args:
        answered: harmless prompts with answers of the base model.
        count: answers wanted.
        seed: of prompts, remarks and places.
    """
    if len(answered) < 3:
        return []
    rng = random.Random(seed)
    return [
        RemarkedAnswer(_placed(remark, answered, rng), safe)
        for name, safe in REMARKS.items()
        for remark in filled_forms(name, count // len(REMARKS), seed)
    ]


def _placed(remark: str, answered: Sequence[tuple[str, str]], rng: random.Random) -> tuple[str, str]:
    prompt, answer = rng.choice(answered)
    words = answer.split()[: rng.randint(1, LONGEST_BEGINNING)]
    asked = rng.choice((prompt, prompt, framed(prompt, rng.sample(answered, 2), rng)))
    orders = ([remark], [remark], [*words, remark], [remark, *words])
    return asked, " ".join(rng.choice(orders))
