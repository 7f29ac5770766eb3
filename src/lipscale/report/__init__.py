"""Figures and pages, from the tables."""
