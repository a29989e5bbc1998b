"""The structure of the package in figures, before and after a change: ``python -m tests.house --help``."""
