"""What answers cost in detail, from their traces: tokens by fate, positions, difficulty, stalls."""
