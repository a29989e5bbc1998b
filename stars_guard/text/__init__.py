"""What text may be judged and shown: channels of an answer, and safe places to cut it."""
