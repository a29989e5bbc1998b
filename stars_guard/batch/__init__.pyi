"""Public names of ``stars_guard.batch``, and where each is at home."""

from stars_guard.batch.ray import guard_dataset as guard_dataset
