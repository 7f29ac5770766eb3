"""Logits, calibration and accuracy of a trained network."""
