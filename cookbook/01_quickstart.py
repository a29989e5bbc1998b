"""Quickstart: the embedded model and reward, offline. Run: python cookbook/01_quickstart.py"""

from stars_guard import SamplingParams, StarsGuardedLLM

llm = StarsGuardedLLM.load()
result = llm.generate("How do I bake bread?", sampling=SamplingParams(max_tokens=64, seed=1))

print(result.text)
print()
print(f"stopped by: {result.stop_reason}")
print(f"tokens kept: {result.usage.kept_tokens} of {result.usage.proposed_tokens} proposed")
for segment in result.trace.segments:
    for attempt in segment.attempts:
        print(
            f"segment {segment.index}, attempt {attempt.index}: reward {attempt.reward:.2f}, "
            f"threshold {attempt.threshold:.2f}, {'accepted' if attempt.accepted else 'rejected'}"
        )
