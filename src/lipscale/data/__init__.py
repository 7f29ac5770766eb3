"""Data sets: where images come from (`sources`, `images`), how they are prepared once (`prepare`) and read (`dataset`)."""
