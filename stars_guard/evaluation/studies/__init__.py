"""Closer looks at an evaluation: where rewards mislead, where the guard waits, what gets past it."""
