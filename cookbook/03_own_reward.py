"""Bring your own reward: any function of prompt and answer. Run: python cookbook/03_own_reward.py"""

from stars_guard import Constant, FunctionReward, GuardConfig, Hard, Refuse, SamplingParams, StarsGuardedLLM
from stars_guard.loading import load_model


def calm(prompt: str, answer: str) -> float:
    """Higher is better: here, fewer exclamation marks."""
    return -float(answer.count("!"))


llm = StarsGuardedLLM(
    load_model(None, {}),  # the embedded model; load_model("folder", {}) takes any other
    FunctionReward(calm),
    GuardConfig(threshold=Constant(target=0.0), acceptance=Hard(), exhaustion=Refuse()),
)
result = llm.generate("Congratulate me on my new job!", sampling=SamplingParams(max_tokens=64, seed=3))
print(result.text)
print(f"[{result.stop_reason}, {result.trace.attempts} attempts for {len(result.trace.segments)} segments]")
