"""Calls to other servers, for engines and scorers alike."""
