"""Public names of ``stars_guard.adapters``, and where each is at home."""

from stars_guard.adapters.answers import decision_payload as decision_payload
from stars_guard.adapters.answers import guard_summary as guard_summary
from stars_guard.adapters.answers import trace_payload as trace_payload
from stars_guard.adapters.calls import CallOverrides as CallOverrides
from stars_guard.adapters.calls import GuardedCall as GuardedCall
from stars_guard.adapters.counting import context_window as context_window
from stars_guard.adapters.counting import count_prompt as count_prompt
from stars_guard.adapters.counting import count_text as count_text
from stars_guard.adapters.counting import token_ids as token_ids
from stars_guard.adapters.messages import merged_turns as merged_turns
from stars_guard.adapters.settings import AdapterSettings as AdapterSettings
from stars_guard.adapters.settings import CallSettings as CallSettings
from stars_guard.adapters.tools import offered_tools as offered_tools
from stars_guard.adapters.tools import requested_schema as requested_schema
from stars_guard.adapters.tools import tool_choice as tool_choice
from stars_guard.adapters.which import EMBEDDED as EMBEDDED
from stars_guard.result import finish_word as finish_word
from stars_guard.result import openai_tool_call as openai_tool_call
from stars_guard.result import token_counts as token_counts
from stars_guard.rewards.function import one_number as one_number
from stars_guard.rewards.function import unusable as unusable
from stars_guard.settings import readable as readable
from stars_guard.text.content import block_calls as block_calls
from stars_guard.text.content import content_text as content_text
from stars_guard.text.content import past_tool_call as past_tool_call
