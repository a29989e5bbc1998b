"""What a guarded model can do, in the words of LangChain's model profiles."""

from __future__ import annotations

from typing import cast

from langchain_core.language_models import ModelProfile
from stars_guard.adapters import AdapterSettings, context_window


def profile(settings: AdapterSettings) -> ModelProfile:
    """The profile of a model, as far as it is known before weights are loaded."""
    made = ModelProfile(
        text_inputs=True,
        image_inputs=False,
        image_url_inputs=False,
        pdf_inputs=False,
        audio_inputs=False,
        video_inputs=False,
        image_tool_message=False,
        pdf_tool_message=False,
        text_outputs=True,
        image_outputs=False,
        audio_outputs=False,
        video_outputs=False,
        tool_calling=True,
        tool_choice=True,
        tool_call_streaming=True,
        # A schema constrains the whole answer, which then calls no tools, as an agent's answer may have to:
        # agents give their answer's form by a tool instead, which is as certain.
        structured_output=False,
        max_output_tokens=settings.overrides({})["sampling"].max_tokens,
    )
    window = context_window(settings)
    if window is not None:
        made["max_input_tokens"] = window
    # langchain-core warns of what its version does not know yet.
    known = {name: value for name, value in made.items() if name in ModelProfile.__annotations__}
    return cast(ModelProfile, known)
