"""Benchmarks: every speed claim in the README comes from here."""
