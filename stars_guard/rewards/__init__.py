"""Reward models: classifiers and scalar reward models from transformers, or any Python function."""
