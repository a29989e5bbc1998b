"""From names and settings to models, rewards and guards."""
