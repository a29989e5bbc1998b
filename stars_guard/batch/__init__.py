"""Many prompts from a file, answered once each: here, or on the machines of a Ray cluster."""
