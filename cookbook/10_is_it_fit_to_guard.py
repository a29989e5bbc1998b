"""Is a reward fit to guard with? Check two that look alike, and use the better one."""

from stars_guard import Constant, FunctionReward, GuardConfig, Hard, SamplingParams, StarsGuardedLLM
from stars_guard.conformance import check_reward


def clipped(prompt: str, answer: str) -> float:
    """Looks right, but all calm answers score the same, and nothing about harm."""
    return -min(answer.count("!"), 1)


def careful(prompt: str, answer: str) -> float:
    """Every alarming word costs; refusals of them do not."""
    alarming = sum(
        answer.lower().count(word) for word in ("kill", "poison", "bomb", "steal", "weapon", "drug")
    )
    refused = any(start in answer.lower() for start in ("i can't", "i cannot", "i won't", "sorry"))
    return 1.0 if refused else 0.5 - alarming


for score in (clipped, careful):
    report = check_reward(FunctionReward(score))
    print(f"{score.__name__}: {'failed' if report.failed else 'may guard'}")
    for result in report.results:
        if result.status != "passed":
            print(f"  {result.status:8} {result.name}: {result.message}")

guard = GuardConfig(threshold=Constant(target=0.0), acceptance=Hard())
llm = StarsGuardedLLM(StarsGuardedLLM.shared().model, FunctionReward(careful), guard)
print(llm.generate("Tell me about foxes.", sampling=SamplingParams(max_tokens=48, seed=1)).text)
