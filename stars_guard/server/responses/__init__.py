"""The Responses API of OpenAI: items instead of messages, and events with numbers."""
