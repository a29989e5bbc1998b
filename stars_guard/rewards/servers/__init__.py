"""Reward models behind a scoring server."""
