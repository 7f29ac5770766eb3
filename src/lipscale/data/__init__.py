"""Data sets: where images come from (`sources`), how they are split (`prepare`) and what networks see (`dataset`)."""
