"""Measured costs of experiments, and estimates from them."""
