"""What is answered: prompts of one kind, and what is measured of the answers."""
