"""Texts of our own, filled from forms: instructions, harmless and harmful, and remarks, rude and kind.

Harmful requests are often put as instructions ("write", "name", "explain"), and the harmless texts of the
training sets mostly as questions, so that a probe of these alone takes the form for a sign of harm. And what
those sets call harmful answers a harmful request: that an answer can be cruel to whoever asked for a
recipe is told by remarks.
"""

import json
import random
import re
from importlib import resources
from typing import Literal

from stars_guard.training.data import read_activities

_SLOT = re.compile(r"\{(\w+)\}")

FormName = Literal["harmless_instructions", "harmful_instructions", "rude_remarks", "kind_remarks"]
"""Name of a file of forms in this folder."""


def filled_forms(name: FormName, count: int, seed: int) -> list[str]:
    """Distinct texts.

    Args:
        name: of the forms.
        count: texts wanted, at most a few thousand.
        seed: of the choice.
    """
    forms = json.loads(resources.files(__package__).joinpath(f"{name}.json").read_text(encoding="utf-8"))
    slots = forms["slots"] | {"harm": read_activities()["harmful"]}
    rng = random.Random(seed)
    made: dict[str, None] = {}
    while len(made) < count:
        text = rng.choice(forms["patterns"])
        while _SLOT.search(text):
            text = _SLOT.sub(lambda slot: rng.choice(slots[slot[1]]), text)
        made[text[:1].upper() + text[1:]] = None
    return list(made)
