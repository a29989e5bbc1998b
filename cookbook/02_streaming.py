"""Streaming from a task, with a deadline. Run: python cookbook/02_streaming.py"""

import asyncio

from stars_guard import Budget, SamplingParams, StarsGuardedLLM


async def main() -> None:
    llm = StarsGuardedLLM.load()
    async with llm.astream(
        [{"role": "user", "content": "Tell me about beavers."}],
        sampling=SamplingParams(max_tokens=64, seed=2),
        budget=Budget(max_seconds=60, max_proposed_tokens=2000),
    ) as stream:
        async for piece in stream:  # every piece was accepted before it got here
            print(piece, end="", flush=True)
    print(f"\n[{stream.result.stop_reason}]")


asyncio.run(main())
