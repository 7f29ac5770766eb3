"""Training: one loop for all methods, resumable after each epoch."""
