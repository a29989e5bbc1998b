"""Reward models that are classifiers or regressors in this process."""
