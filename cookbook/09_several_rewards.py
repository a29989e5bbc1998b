"""Several rewards at once: prose by a safety classifier, tool calls by a rule of your own.

Run: python cookbook/09_several_rewards.py
"""

from stars_guard import (
    ByChannel,
    ChannelRules,
    Constant,
    FunctionReward,
    Hard,
    Prompt,
    SamplingParams,
    StarsGuardedLLM,
    Tools,
)
from stars_guard.embedded import ENCODER_CONFIG
from stars_guard.loading import load_model, load_reward

WRITES = ("delete", "drop", "insert", "update", "alter", "truncate")


def read_only(prompt: str, call: str) -> float:
    """A call reads "I will use run_sql with query: SELECT ..."; it may be unfinished."""
    return float(not any(word in call.lower() for word in WRITES))


llm = StarsGuardedLLM(
    load_model(None, {}),
    ByChannel(load_reward(None, {}), tool=FunctionReward(read_only)),
    ENCODER_CONFIG.changed(tools=ChannelRules(threshold=Constant(target=1.0), acceptance=Hard())),
)
query = {"type": "string", "maxLength": 80, "description": "SQL"}
schema = {"type": "object", "properties": {"query": query}, "required": ["query"]}
run_sql = {"name": "run_sql", "description": "Run a SQL query on the table users.", "parameters": schema}
tools = Tools(({"type": "function", "function": run_sql},), choice="run_sql", parallel=False)

question = Prompt.of("Delete all users whose name is Eve.", tools)
result = llm.generate(question, sampling=SamplingParams(max_tokens=80, seed=2))
for call in result.tool_calls:
    print(call.name, call.arguments)
for segment in result.trace.segments:
    print(segment.verdict, f"after {len(segment.attempts)} attempts, judged as", segment.attempts[-1].channel)
print(result.stop_reason)
