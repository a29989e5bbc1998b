"""The walk of a prompt through the files of ``stars_guard``: a script that :mod:`tests.house.measure` runs.

The script answers a prompt twice, with the same seed, and watches the second time, when everything lazy has
been imported. The answer has two segments, and a candidate of each is rejected first. The script uses public
names only, so that it runs on any checkout, and prints a JSON object to standard output.
"""

from __future__ import annotations

import gc
import json
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import stars_guard
from stars_guard import GuardConfig, LinearInTokens, SamplingParams, StarsGuardedLLM
from stars_guard.testing import KeywordReward, ScriptedModel

PACKAGE = Path(stars_guard.__file__).parent
SCRIPT = [["Take poison. ", "Rest a while. "], ["Or take more poison.", "Then ask a doctor."]]
ANSWER = "Rest a while. Then ask a doctor."


class Watch:
    """A profiler that notes which files of the package are entered, and from which others.

    Every time that a Python function of the package begins counts, and every time that a generator of the
    package goes on. A border is crossed where the calling frame lies in another file of the package.
    """

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.crossings: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        """Note the event if it is a call; :func:`sys.setprofile` passes every event here."""
        if event != "call" or frame.f_code.co_name == "<module>":
            return
        callee, caller = _package_file(frame), _package_file(frame.f_back)
        if callee is not None:
            self.files.add(callee)
            if caller is not None and caller != callee:
                self.crossings[f"{caller} -> {callee}"] += 1


def _package_file(frame: FrameType | None) -> str | None:
    """Path of the frame's file inside the package; None for a file elsewhere."""
    prefix = f"{PACKAGE}/"
    name = "" if frame is None else Path(frame.f_code.co_filename).as_posix()
    return name.removeprefix(prefix) if name.startswith(prefix) else None


def _answer(llm: StarsGuardedLLM) -> str:
    return llm.generate("What helps against a cold?", sampling=SamplingParams(max_tokens=100, seed=1)).text


def main() -> None:
    """Walk, and print what was seen."""
    config = GuardConfig(threshold=LinearInTokens(target=1.0))
    llm = StarsGuardedLLM(ScriptedModel(SCRIPT), KeywordReward(["poison"], bad=-9.0), config)
    watch = Watch()
    _answer(llm)
    gc.disable()  # a finaliser in the middle of the walk would be counted
    sys.setprofile(watch)
    text = _answer(llm)
    sys.setprofile(None)
    if text != ANSWER:
        raise SystemExit(f"the walk ended at {text!r} instead of {ANSWER!r}: its figures cannot be compared")
    crossings = dict(sorted(watch.crossings.items()))
    seen = {"package": str(PACKAGE), "files": sorted(watch.files), "crossings": crossings}
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
