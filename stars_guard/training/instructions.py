"""Harmless instructions of our own, in every form that people give them.

Harmful requests are often put as instructions ("write", "name", "explain"), and the harmless texts of the
training sets mostly as questions, so that a probe of these alone takes the form for a sign of harm.
"""

import json
import random
import re
from importlib import resources

_SLOT = re.compile(r"\{(\w+)\}")


def harmless_instructions(count: int, seed: int) -> list[str]:
    """Distinct instructions.

    Args:
        count: instructions wanted, at most a few thousand.
        seed: of the choice.
    """
    text = resources.files(__package__).joinpath("instructions.json").read_text(encoding="utf-8")
    forms = json.loads(text)
    rng = random.Random(seed)
    made: dict[str, None] = {}
    while len(made) < count:
        pattern = rng.choice(forms["patterns"])
        made[_SLOT.sub(lambda slot: rng.choice(forms["slots"][slot[1]]), pattern)] = None
    return list(made)
