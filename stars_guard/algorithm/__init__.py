"""The STARS algorithm as pure functions and state: no torch, no clock, no input or output."""
