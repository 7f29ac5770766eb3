"""Certificates: norm bounds, plain layers, freezing, model files, certified radii."""
