"""Reward models that ask a language model."""
