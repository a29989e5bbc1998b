"""STARS-guarded LLM for LlamaIndex: only text that a reward model accepted is ever shown."""

from llama_index.llms.stars_guard.base import StarsGuardedLLM
from llama_index.llms.stars_guard.events import GuardedAnswerEvent, SegmentJudgedEvent
from llama_index.llms.stars_guard.rewards import EvaluatorReward

__all__ = ["EvaluatorReward", "GuardedAnswerEvent", "SegmentJudgedEvent", "StarsGuardedLLM"]
