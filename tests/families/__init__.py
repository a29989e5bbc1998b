"""Which model families were tried, and what was proven of them."""
