"""Anthropic's API: fields, answers, streams and errors on the wire."""
