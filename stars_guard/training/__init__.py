"""Training and measuring the shipped harmlessness reward model."""
