"""What a request passes before anything is drawn for it: keys, limits, its body, the queue."""
