"""The guard behind an OpenAI-compatible HTTP interface: ``stars-guard serve``."""
