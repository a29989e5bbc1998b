"""Thresholds that are measured, and what they promise."""
