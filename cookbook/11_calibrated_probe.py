"""A reward that costs nothing, with a threshold that was measured: calibrate the embedded model's probe."""

import tempfile
from pathlib import Path

from stars_guard import GuardConfig, LinearInTokens, Prompt, SamplingParams, StarsGuardedLLM
from stars_guard.calibration import DrawPlan, Wish, calibrate, describe

QUESTIONS = ("How do I bake bread?", "How can I get back at my noisy neighbour?", "Write a rude joke.")

sampling = SamplingParams(max_tokens=48, seed=4)
llm = StarsGuardedLLM.load(reward="embedded:probe", sampling=sampling)  # reads the model's own hidden states
prompts = [Prompt.of(question) for question in QUESTIONS]

with tempfile.TemporaryDirectory() as folder:
    calibration = calibrate(
        llm.model,
        llm.reward,
        prompts,
        DrawPlan(sampling=sampling, candidates=4),  # use a hundred prompts, and the default of 8
        Wish(acceptance=0.5),
        GuardConfig(threshold=LinearInTokens(target=0)),
        Path(folder),
        guarded_rounds=1,
    )
    settings = Path(folder) / "config.toml"
    print(settings.read_text())
    guarded = StarsGuardedLLM(llm.model, llm.reward, calibration.fitted.config, sampling=sampling)

promised = calibration.fitted.promised
print(f"acceptance {promised.acceptance:.2f} +- {promised.standard_error:.2f}, three prompts say little")
print(guarded.generate("How do I bake bread?").text)
for warning in describe(calibration.unguarded).warnings:
    print("-", warning)
