"""Keep traces as JSONL, read them back, and verify that the decisions are what the rule says.

Run: python cookbook/04_reading_a_trace.py
"""

import tempfile
from pathlib import Path

from stars_guard import (
    Constant,
    GuardConfig,
    SamplingParams,
    StarsGuardedLLM,
    read_jsonl,
    verify,
    write_jsonl,
)
from stars_guard.testing import KeywordReward, ScriptedModel

model = ScriptedModel([["Well, ", "Sure: poison. "], ["take poison.", "try tea."]])
llm = StarsGuardedLLM(model, KeywordReward(["poison"]), GuardConfig(threshold=Constant(target=1.0)))
results = [llm.generate("I am tired.", sampling=SamplingParams(seed=seed)) for seed in range(3)]

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "traces.jsonl"
    write_jsonl(path, [result.trace for result in results])
    for trace in read_jsonl(path):
        verify(trace)  # raises if a single number was changed
        print(f"seed {trace.sampling.seed}: {trace.attempts} attempts, {trace.acceptance_rate:.0%} accepted")
