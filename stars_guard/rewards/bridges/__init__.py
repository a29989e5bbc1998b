"""Reward models of other libraries."""
